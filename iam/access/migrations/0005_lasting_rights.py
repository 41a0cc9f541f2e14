"""What an account holds until a later time: nobody hands on more time than they have."""

from django.db import migrations

# `access_open` of migration 0003 with a fourth argument: without it, what counts now; with it, of that what counts
# until then at least and was not given in an emergency. Calls with three arguments go on as before.
ARGUMENT = ", until timestamptz default null"
CONDITION = """
               and (until is null
                    or b.source <> 'break-glass' and (b.expires_at is null or b.expires_at >= until))"""
OPEN = """
create function access_open(account bigint, only_codes text[], only_unit bigint{argument})
returns table (code text, whole boolean, units bigint[])
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    seen text := '';
    grants record;
begin
    perform set_config('app.units', '*', false);
    for grants in
        with recursive held as (
            select unnest(r.permissions)::text as code, b.unit_id
              from access_rolebinding b join access_accessrole r on r.id = b.role_id
             where b.user_id = account and b.revoked_at is null and b.starts_at <= clock_timestamp()
               and (b.expires_at is null or b.expires_at > clock_timestamp()){condition}
        ), below as (
            select id as root, id as unit from holding_unit
            union all
            select below.root, u.id from below join holding_unit u on u.parent_id = below.unit
        ), allowed as (
            select h.code, b.unit from held h join below b on h.unit_id is null or h.unit_id = b.root
             where only_unit is null or b.unit in (select l.unit from below l where l.root = only_unit)
        )
        select h.code as code,
               only_unit is null and bool_or(h.unit_id is null) as whole,
               coalesce((select array_agg(distinct a.unit) from allowed a where a.code = h.code), '{}') as units
          from held h
         where cardinality(only_codes) = 0 or h.code = any (only_codes)
         group by h.code
    loop
        code := grants.code;
        whole := grants.whole;
        units := case when grants.whole then '{}'::bigint[] else grants.units end;
        if code = 'units.view' then
            seen := case when whole then '*' else array_to_string(units, ',') end;
        end if;
        return next;
    end loop;
    perform set_config('app.units', seen, false);
end $$;
"""
DROP = "drop function access_open(bigint, text[], bigint{});"


def opening(argument: str = "", condition: str = "") -> str:
    """Return the statement that makes the function."""
    return OPEN.replace("{argument}", argument).replace("{condition}", condition)


class Migration(migrations.Migration):
    dependencies = [("access", "0004_unique_email")]
    operations = [
        migrations.RunSQL(DROP.format("") + opening(ARGUMENT, CONDITION), DROP.format(", timestamptz") + opening())
    ]
