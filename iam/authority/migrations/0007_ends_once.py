"""The end of authority is written once: not after it has passed, and not to before a decision given under it."""

from django.db import migrations

# It counts decisions of all units, whatever is in view of whoever writes: hence the setting, which it puts back.
FORWARD = """
create or replace function authority_keep_holder() returns trigger language plpgsql as $$
declare
    given boolean := false;
    seen text := current_setting('app.units', true);
begin
    if tg_op = 'DELETE' or to_jsonb(new) - 'valid_to' <> to_jsonb(old) - 'valid_to'
            or (old.valid_to is not null and coalesce(new.valid_to, 'infinity') > old.valid_to) then
        raise exception '% of % is refused: only its end may be written, and never put off.', tg_op, tg_table_name
            using errcode = 'integrity_constraint_violation';
    end if;
    if new.valid_to is not distinct from old.valid_to then
        return new;
    end if;
    if old.valid_to <= clock_timestamp() then
        raise exception '% of % is refused: it has ended, and its end stays.', tg_op, tg_table_name
            using errcode = 'integrity_constraint_violation';
    end if;
    perform set_config('app.units', '*', true);
    if tg_table_name = 'authority_appointment' then
        given := exists (
            select from authority_decision d join authority_approval a on a.id = d.approval_id
            where coalesce(d.acting_for_id, d.person_id) = old.person_id and d.office_id = old.office_id
              and (old.unit_id is null or a.unit_id = old.unit_id)
              and d.at >= new.valid_to and d.at >= old.valid_from and d.at < coalesce(old.valid_to, 'infinity')
        );
    elsif tg_table_name = 'authority_delegation' then
        given := exists (select from authority_decision d where d.delegation_id = old.id and d.at >= new.valid_to);
    elsif tg_table_name = 'authority_substitution' then
        given := exists (select from authority_decision d where d.substitution_id = old.id and d.at >= new.valid_to);
    end if;
    perform set_config('app.units', coalesce(seen, ''), true);
    if given then
        raise exception '% of % is refused: a decision was given under it after that end.', tg_op, tg_table_name
            using errcode = 'integrity_constraint_violation';
    end if;
    return new;
end $$;
"""
BACKWARD = """
create or replace function authority_keep_holder() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' or to_jsonb(new) - 'valid_to' <> to_jsonb(old) - 'valid_to'
            or (old.valid_to is not null and coalesce(new.valid_to, 'infinity') > old.valid_to) then
        raise exception '% of % is refused: only its end may be written, and never put off.', tg_op, tg_table_name
            using errcode = 'integrity_constraint_violation';
    end if;
    return new;
end $$;
"""


class Migration(migrations.Migration):
    dependencies = [("authority", "0006_four_eyes_of_owners")]

    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
