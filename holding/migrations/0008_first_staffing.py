"""Seats with their first agents and incumbencies from rows set aside; the first time, with one check for each foreign key.

Checking the keys of 52,550 seats, agents and incumbencies row by row takes longer than all the rest of a load. While
the three tables are empty nobody can rely on them, so the function takes their foreign keys off, writes the rows and
adds the same keys again, which checks each by one join. It does so in the one statement of its caller: nobody ever
sees the tables without their keys, and if a row breaks one, nothing has happened. Tables that have rows keep their
keys throughout; so do loads of fewer than `many` seats, since to take the keys off and on costs more than so many
checks. The owner's rights are needed for the keys alone; what the function writes its callers may write too.
"""

from django.db import migrations

# Belongs to no unit and is empty outside a load's transaction; a crash empties it (unlogged).
TABLE = """
create unlogged table holding_stagedseat (
    id bigint, unit_id bigint, role_id bigint, body_id bigint, division_id bigint, ordinal integer, code text,
    name_es text, name_en text, duty text, reports_to_id bigint, agent_id text, subject text, blueprint_id bigint
);
"""
FUNCTION = """
create function holding_staff(at timestamptz, many bigint default 5000) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    key record;
    keys text[] := '{}';
    units text := coalesce(current_setting('app.units', true), '');
begin
    perform set_config('app.units', '*', true); -- empty means empty, not out of view
    if (select count(*) from holding_stagedseat) >= many and not exists (select from holding_seat)
       and not exists (select from holding_agent) and not exists (select from holding_incumbency) then
        set constraints all immediate; -- a table with checks that wait cannot be altered
        for key in select conrelid::regclass as place, quote_ident(conname) as name, pg_get_constraintdef(oid) as words
                     from pg_constraint
                    where contype = 'f'
                      and conrelid in ('holding_seat'::regclass, 'holding_agent'::regclass,
                                       'holding_incumbency'::regclass) loop
            execute format('alter table %s drop constraint %s', key.place, key.name);
            keys := keys || format('alter table %s add constraint %s %s', key.place, key.name, key.words);
        end loop;
        set constraints all deferred;
    end if;
    insert into holding_seat (id, unit_id, role_id, body_id, division_id, ordinal, code, name_es, name_en, duty,
                              reports_to_id, generation)
    select id, unit_id, role_id, body_id, division_id, ordinal, code, name_es, name_en, duty, reports_to_id, 1
      from holding_stagedseat order by id;
    with made as (
        insert into holding_agent (unit_id, seat_id, generation, agent_id, subject, blueprint_id, created_at)
        select unit_id, id, 1, agent_id, subject, blueprint_id, at from holding_stagedseat order by id
        returning id, seat_id
    )
    insert into holding_incumbency (seat_id, agent_id, generation, started_at) select seat_id, id, 1, at from made;
    for number in 1 .. cardinality(keys) loop
        execute keys[number];
    end loop;
    truncate holding_stagedseat;
    perform set_config('app.units', units, true);
end $$;
"""
GONE = "drop function holding_staff(timestamptz, bigint); drop table holding_stagedseat;"


class Migration(migrations.Migration):
    dependencies = [("holding", "0007_quarantine_rows")]
    operations = [migrations.RunSQL(TABLE + FUNCTION, GONE)]
