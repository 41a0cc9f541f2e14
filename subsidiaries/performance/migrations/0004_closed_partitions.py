"""A partition is not read by its own name: row-level security of the samples' table would not apply there.

A query of the table is checked by the table's policy alone; a query of a partition by the partition's own. These
have none, so they show no row to anybody but their owner, who moves rows between them, and the ingest's role.
"""

from django.db import migrations

CLOSE = """
do $$
declare
    partition regclass;
begin
    for partition in select inhrelid from pg_inherits where inhparent = 'performance_kpisample'::regclass loop
        execute format('alter table %s enable row level security', partition);
    end loop;
end
$$;
"""
FUNCTION = r"""
create or replace function performance_maintain_partitions(retention_hours integer, ahead_hours integer)
returns table (created integer, dropped integer, misplaced bigint)
language plpgsql strict security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set lock_timeout = '2s'
as $$
declare
    this_hour   timestamptz := date_trunc('hour', now());
    oldest      timestamptz := date_trunc('hour', now() - make_interval(hours => retention_hours));
    begins      timestamptz;
    ends        timestamptz;
    partition   name;
    moved       bigint;
begin
    if retention_hours not between 1 and 8760 or ahead_hours not between 1 and 48 then
        raise exception 'Retention must be 1 to 8760 hours and 1 to 48 ahead, not % and %.',
            retention_hours, ahead_hours using errcode = 'invalid_parameter_value';
    end if;
    created := 0; dropped := 0; misplaced := 0;
    if not pg_try_advisory_xact_lock(hashtextextended('performance_maintain_partitions', 0)) then
        return next;  -- another process is at it
        return;
    end if;

    for begins in select generate_series(oldest, this_hour + make_interval(hours => ahead_hours), '1 hour') loop
        partition := 'performance_kpisample_' || to_char(begins, 'YYYYMMDDHH24');
        continue when to_regclass('public.' || partition) is not null;
        ends := begins + interval '1 hour';
        execute format('create table public.%I (like public.performance_kpisample including all)', partition);
        -- Rows of this hour that came while it had no partition.
        lock table public.performance_kpisample_default in access exclusive mode;
        execute format(
            'with gone as (delete from public.performance_kpisample_default where ts >= %L and ts < %L returning *)
             insert into public.%I select * from gone', begins, ends, partition);
        get diagnostics moved = row_count;
        misplaced := misplaced + moved;
        execute format('alter table public.performance_kpisample attach partition public.%I
                        for values from (%L) to (%L)', partition, begins, ends);
        created := created + 1;
    end loop;

    for partition in
        select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
         where i.inhparent = 'public.performance_kpisample'::regclass
           and c.relname ~ '^performance_kpisample_\d{10}$'
           and to_timestamp(right(c.relname, 10), 'YYYYMMDDHH24') < oldest
         order by 1
    loop
        begin
            execute format('drop table public.%I', partition);
            dropped := dropped + 1;
        exception when lock_not_available then
            exit;  -- a long read is under way; it expires five minutes later then
        end;
    end loop;
    return next;
end
$$;
"""
MAKE = "(like public.performance_kpisample including all)', partition);"
CLOSED = FUNCTION.replace(
    MAKE, f"{MAKE}\n        execute format('alter table public.%I enable row level security', partition);"
)


class Migration(migrations.Migration):
    dependencies = [("performance", "0003_row_security")]
    operations = [
        migrations.RunSQL(CLOSED, FUNCTION),
        migrations.RunSQL(CLOSE, CLOSE.replace("enable", "disable")),
    ]
