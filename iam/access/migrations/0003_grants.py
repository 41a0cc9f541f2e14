"""The roles that the portal brings, and the function that says what an account may and opens its rows."""

from typing import Any

from django.db import migrations

from iam.access.permissions import BUILT_IN

# Which rows a connection sees is in its setting `app.units` (holding, migration 0004): `*`, or ids of units. Which
# units an account may see follows from rows that it may not see yet; hence the owner's rights. Callers get what an
# account may do, and the connection is opened for the units that it may view: one round trip for each request.
OPEN = """
create function access_open(account bigint, only_codes text[], only_unit bigint)
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
               and (b.expires_at is null or b.expires_at > clock_timestamp())
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


def install_roles(apps: Any, schema_editor: Any) -> None:
    """Create the built-in roles."""
    role = apps.get_model("access", "AccessRole")
    for slug, (name_es, name_en, permissions) in BUILT_IN.items():
        role.objects.create(
            slug=slug, name_es=name_es, name_en=name_en, permissions=list(permissions), built_in=True
        )


def keep_powers(apps: Any, schema_editor: Any) -> None:
    """Give the administrators of before the role that says what they may."""
    person, role = apps.get_model("access", "User"), apps.get_model("access", "AccessRole")
    binding = apps.get_model("access", "RoleBinding")
    administrator = role.objects.get(slug="administrator")
    executive = role.objects.get(slug="executive")
    for one in person.objects.filter(is_active=True, cleared=True):
        given = administrator if one.is_superuser else executive
        binding.objects.create(user=one, role=given, source="system", reason="held before roles existed")


def nothing(apps: Any, schema_editor: Any) -> None:
    """Leave the rows to the migration that drops their tables."""


class Migration(migrations.Migration):
    dependencies = [("access", "0002_people_and_roles")]
    operations = [
        migrations.RunPython(install_roles, nothing),
        migrations.RunPython(keep_powers, nothing),
        migrations.RunSQL(OPEN, "drop function access_open(bigint, text[], bigint)"),
    ]
