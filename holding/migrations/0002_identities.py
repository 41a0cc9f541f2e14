"""What never changes: blueprint versions, the slugs of units, and generations that only grow."""

from django.db import migrations

FORWARD = """
create function holding_refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% of % is refused: a blueprint version is immutable; write the next version.',
        tg_op, tg_table_name using errcode = 'integrity_constraint_violation';
end $$;
create trigger immutable before update or delete on holding_blueprintversion
    for each row execute function holding_refuse_change();

create function holding_keep_identity() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' then
        raise exception 'Unit % is not deleted: namespaces, subjects and names depend on it.', old.slug
            using errcode = 'integrity_constraint_violation';
    end if;
    if new.slug <> old.slug or new.kind <> old.kind then
        raise exception 'Unit % is not renamed: namespaces, subjects and names depend on it.', old.slug
            using errcode = 'integrity_constraint_violation';
    end if;
    return new;
end $$;
create trigger identity before update or delete on holding_unit
    for each row execute function holding_keep_identity();

create function holding_generation_grows() returns trigger language plpgsql as $$
begin
    if new.generation < old.generation then
        raise exception 'Seat %: generation % cannot follow %.', old.code, new.generation, old.generation
            using errcode = 'integrity_constraint_violation';
    end if;
    return new;
end $$;
create trigger generation_grows before update of generation on holding_seat
    for each row execute function holding_generation_grows();
"""
BACKWARD = """
drop trigger immutable on holding_blueprintversion;
drop trigger identity on holding_unit;
drop trigger generation_grows on holding_seat;
drop function holding_refuse_change();
drop function holding_keep_identity();
drop function holding_generation_grows();
"""


class Migration(migrations.Migration):
    dependencies = [("holding", "0001_initial")]

    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
