"""Row-level security: what the database itself refuses, whatever the portal asks of it."""

import os
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.apps import apps
from django.db import DatabaseError, DataError, connection
from django.db.models import Model
from django.utils import timezone
from psycopg import sql

from holding.models import Agent, Division, Seat, Unit
from subsidiaries.escalations.models import Escalation
from subsidiaries.performance.models import KPIS, KpiSample
from subsidiaries.performance.services import maintain_partitions
from subsidiaries.replacement.models import Incident
from subsidiaries.replacement.planning import Retirement
from tests.access_rules import UNPROTECTED
from tests.planted import Planted, plant
from tests.principals import OTHER, OWN, UNITS

# Written by hand: every table that belongs to units.
PROTECTED = {
    "holding_unit", "holding_division", "holding_seat", "holding_agent", "holding_incumbency",
    "performance_kpisample", "performance_kpilatest", "performance_kpiminute", "performance_kpicoverage",
    "replacement_divisionstate", "replacement_seatstate", "replacement_census", "replacement_unitfloor",
    "replacement_replacement", "replacement_incident", "replacement_allowance",
    "replacement_rollout", "replacement_rolloutunit", "replacement_rolloutseat", "replacement_surgeseat",
    "replacement_fencedhost", "replacement_seatbackoff", "replacement_incidentstep", "replacement_floorbreach",
    "replacement_doubleholder", "replacement_servicelevel", "holding_suspension", "commands_command",
    "commands_target",
    "authority_approval", "authority_level", "authority_decision", "bus_quarantinedmessage", "bus_suspect",
    "escalations_escalation", "escalations_step", "bus_directedmessage", "enrolment_enrolment",
    "holding_stagechange", "replacement_successor",
    "replacement_staffingplan", "replacement_capdelegation", "replacement_retirement", "replacement_retiree",
}  # fmt: skip
SECURITY = """
    select c.relname, c.relrowsecurity and c.relforcerowsecurity
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where n.nspname = 'public' and c.relkind in ('r', 'p')
"""
PARTITIONS = """
    select c.relname, not c.relrowsecurity and has_table_privilege('claytom_app', c.oid, 'select, insert, update')
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where n.nspname = 'public' and c.relispartition and c.relkind = 'r'
"""
COLUMN = {  # the column with the unit's id; by a table beside in brackets
    "holding_unit": "id",
    "holding_incumbency": "(select s.unit_id from holding_seat s where s.id = seat_id)",
    "replacement_fencedhost": "(select d.unit_id from holding_division d where d.id = division_id)",
    "replacement_divisionstate": "(select d.unit_id from holding_division d where d.id = division_id)",
    "replacement_incidentstep": "(select i.unit_id from replacement_incident i where i.id = incident_id)",
    "escalations_step": "(select e.unit_id from escalations_escalation e where e.id = escalation_id)",
    "replacement_retiree": "(select r.unit_id from replacement_retirement r where r.id = retirement_id)",
    **dict.fromkeys(
        ("authority_level", "authority_decision"),
        "(select a.unit_id from authority_approval a where a.id = approval_id)",
    ),
}

PLACE = {  # the column that says whose a row is, where that is not the unit
    "holding_incumbency": "seat_id", "replacement_divisionstate": "division_id", "authority_level": "approval_id",
    "authority_decision": "approval_id", "escalations_step": "escalation_id",
    "replacement_fencedhost": "division_id", "replacement_retiree": "retirement_id",
    "replacement_incidentstep": "incident_id",
}  # fmt: skip
# What was asked for and decided stays as it is: triggers refuse a change before the policies are asked.
KEPT = {"authority_approval", "authority_level", "authority_decision", "holding_stagechange"}

Values = Sequence[object]
# ruff: noqa: S608 - the statements are this file's own

pytestmark = pytest.mark.django_db


def models() -> Iterator[type[Model]]:
    yield from (model for model in apps.get_models() if model._meta.managed)


def owned() -> dict[str, type[Model]]:
    """Models that say in `UNIT` where their unit is, by table."""
    return {model._meta.db_table: model for model in models() if hasattr(model, "UNIT")}


# --- which tables are protected ----------------------------------------------------------------------------


def test_every_table_of_units_is_protected_and_forced() -> None:
    assert set(owned()) == PROTECTED, "a model with UNIT belongs into PROTECTED, and a protected table needs UNIT"
    with connection.cursor() as cursor:
        cursor.execute(SECURITY)
        secured = {table for table, on in cursor.fetchall() if on}
    missing = PROTECTED - secured
    assert not missing, f"not under forced row-level security (holding.scope.protect in a migration): {missing}"


def test_what_names_a_unit_is_protected_or_says_why_not() -> None:
    named = set()
    for model in models():
        keys = [field.related_model for field in model._meta.get_fields() if field.concrete and field.is_relation]
        if any(key in (Unit, Division, Seat, Agent) for key in keys):
            named.add(model._meta.db_table)
    unsaid = named - PROTECTED - set(UNPROTECTED)
    assert not unsaid, (
        f"{sorted(unsaid)} name a unit, seat, division or agent: protect them in a migration and give the model "
        "UNIT, or say in UNPROTECTED of tests/access_rules.py why not."
    )
    assert set(UNPROTECTED) <= named, "an exception for a table that names no unit"


def test_a_partition_is_no_way_around_its_table(planted: Planted) -> None:
    with connection.cursor() as cursor:
        cursor.execute(PARTITIONS)
        partitions = dict(cursor.fetchall())
    assert partitions
    assert [name for name, around in partitions.items() if around] == []
    with connection.cursor() as cursor:
        for name in partitions:
            cursor.execute(sql.SQL("select count(*) from {}").format(sql.Identifier(name)))
            assert cursor.fetchone() == (0,)
    assert run("select from performance_kpisample") == len(UNITS)


def test_rows_find_their_way_into_a_closed_partition(planted: Planted, settings: Any) -> None:
    early = timezone.now() - timedelta(hours=settings.KPI_RETENTION_HOURS + 2)
    values = dict.fromkeys(KPIS, 1.0)
    KpiSample.objects.create(
        seq=99, ts=early, received_at=early, unit=planted[OWN].unit, role="operator", ordinal=31, **values
    )
    settings.KPI_RETENTION_HOURS += 3
    assert maintain_partitions().misplaced == 1
    assert KpiSample.objects.filter(seq=99).exists()


# --- what the application's role sees and may do -----------------------------------------------------------


@pytest.fixture
def planted() -> Planted:
    return plant()


def see(units: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("select set_config('app.units', %s, false)", [units])


def run(statement: str, *identifiers: str, values: Values = ()) -> int:
    """Run a statement in a savepoint of its own, and take back what it did; return how many rows it touched."""
    query = sql.SQL(statement).format(*[sql.Identifier(name) for name in identifiers])
    with connection.cursor() as cursor:
        cursor.execute("savepoint attempt")
        try:
            cursor.execute(query, values)  # type: ignore[arg-type]  # Django passes it on
            return int(cursor.rowcount)
        finally:
            cursor.execute("rollback to savepoint attempt")


def refused(
    statement: str,
    *identifiers: str,
    values: Values = (),
    by: tuple[type[psycopg.Error], ...] = (psycopg.errors.InsufficientPrivilege,),
) -> bool:
    """Return whether the database refuses a statement."""
    try:
        run(statement, *identifiers, values=values)
    except DatabaseError as error:
        return isinstance(error.__cause__, by)
    return False


def units_in(table: str) -> set[int]:
    """The ids of the units whose rows of a table are seen."""
    column = unit_of(table)
    with connection.cursor() as cursor:
        cursor.execute(f"select distinct {column} from {table}")
        return {unit for (unit,) in cursor.fetchall()}


def test_without_a_setting_no_row_is_seen(planted: Planted) -> None:
    everywhere = {table: run("select from {}", table) for table in PROTECTED}
    assert all(everywhere.values()), "every table has planted rows"
    see("")
    assert {table: run("select from {}", table) for table in PROTECTED} == dict.fromkeys(PROTECTED, 0)
    with connection.cursor() as cursor:
        cursor.execute("reset app.units")
    see("0")
    assert {table: run("select from {}", table) for table in PROTECTED} == dict.fromkeys(PROTECTED, 0)


def test_a_connection_without_any_setting_sees_nothing(django_db_setup: None) -> None:
    with psycopg.connect(os.environ["DATABASE_URL"]) as fresh:
        for table in PROTECTED:
            found = fresh.execute(sql.SQL("select count(*) from {}").format(sql.Identifier(table))).fetchone()
            assert found == (0,)


def test_the_setting_of_a_unit_shows_its_rows_and_no_others(planted: Planted) -> None:
    for slug in UNITS:
        own = planted[slug].unit.pk
        see(str(own))
        for table in PROTECTED - {"replacement_replacement"}:
            assert units_in(table) == {own}, (slug, table)
        assert units_in("replacement_replacement") == (set() if planted[slug].parent else {own})
    pair = {planted[OWN].unit.pk, planted[OTHER].unit.pk}
    see(",".join(map(str, pair)))
    assert all(units_in(table) == pair for table in PROTECTED)
    see("*")
    assert units_in("holding_seat") == {planted[slug].unit.pk for slug in UNITS}


def test_no_setting_is_a_way_in(planted: Planted) -> None:
    for text in ("**", " *", "* ", "1 or true", "{1}", "x", "-1", "1;*", ",", "null"):
        see(text)
        try:
            seen = run("select from holding_seat")
        except DataError:  # no list of ids
            seen = 0
        assert seen == 0, text


def unit_of(table: str) -> str:
    return COLUMN.get(table, "unit_id")


def columns_of(table: str) -> list[str]:
    return [field.column for field in owned()[table]._meta.local_concrete_fields if field.column]


def test_rows_of_another_unit_are_neither_changed_nor_deleted(planted: Planted) -> None:
    own, other = planted[OWN].unit.pk, planted[OTHER].unit.pk
    see(str(own))
    for table in PROTECTED:
        key, mine = columns_of(table)[0], f"where {unit_of(table)} = %s"
        assert run("update {} set {} = {} " + mine, table, key, key, values=[other]) == 0, table
        assert run("delete from {} " + mine, table, values=[other]) == 0, table
        assert run("select from {} " + mine + " for update", table, values=[other]) == 0, table


def test_rows_are_neither_moved_to_another_unit_nor_written_there(planted: Planted) -> None:
    own, seat = planted[OWN].unit.pk, planted[OTHER].seats[0]
    foreign = {
        "approval_id": planted[OTHER].approvals[0].pk,
        "escalation_id": Escalation.objects.filter(unit=planted[OTHER].unit).values_list("pk", flat=True)[0],
        "incident_id": Incident.objects.filter(unit=planted[OTHER].unit).values_list("pk", flat=True)[0],
        "retirement_id": Retirement.objects.filter(unit=planted[OTHER].unit).values_list("pk", flat=True)[0],
        "seat_id": seat.pk,
        "division_id": seat.division_id,
        "unit_id": seat.unit_id,
    }
    see(str(own))
    for table in PROTECTED - {"holding_unit"}:
        place = PLACE.get(table, "unit_id")
        trigger = (psycopg.errors.IntegrityConstraintViolation,) if table in KEPT else ()
        by = (psycopg.errors.InsufficientPrivilege, *trigger)
        assert refused("update {} set {} = %s", table, place, values=[foreign[place]], by=by), table
        columns = columns_of(table)
        into = ", ".join("{}" for _name in columns)
        values = ", ".join("%s" if name == place else "{}" for name in columns)
        copy = f"({into}) overriding system value select {values} from "
        kept = [name for name in columns if name != place]
        assert refused(
            "insert into {} " + copy + "{} limit 1", table, *columns, *kept, table, values=[foreign[place]]
        ), table
    assert refused("update holding_unit set id = %s where id = %s", values=[10_000, own])
    assert refused(
        "insert into holding_unit select 10000, name_es, name_en, kind, 'mine', position + 100, work, floor, "
        "parent_id, sector_id from holding_unit limit 1"
    )


def test_the_protection_cannot_be_put_off(planted: Planted) -> None:
    see(str(planted[OWN].unit.pk))
    for role in ("claytom_owner", "claytom_migrator", "claytom_ingest"):
        assert refused("set role {}", role)
        assert refused("set session authorization {}", role)
    assert refused("alter role claytom_app bypassrls")
    for table in PROTECTED:
        assert refused("alter table {} disable row level security", table), table
        assert refused("alter table {} no force row level security", table), table
        assert refused("drop policy units on {}", table), table
        assert refused("create policy mine on {} using (true)", table), table
        assert refused("truncate {}", table), table
        assert refused("drop table {}", table), table
        # With row_security off a query that the policies would cut is refused, not answered.
        with connection.cursor() as cursor:
            cursor.execute("set local row_security = off")
            assert refused("select from {}", table), table
            cursor.execute("set local row_security = on")
    assert refused("create view mine as select * from holding_seat")
    assert refused("copy holding_seat to program 'cat'")


def test_the_owners_functions_open_no_more_than_bindings_do(planted: Planted) -> None:
    see(str(planted[OWN].unit.pk))
    with connection.cursor() as cursor:
        cursor.execute(
            "select p.oid::regprocedure::text, p.proconfig from pg_proc p join pg_namespace n on n.oid = "
            "p.pronamespace where p.prosecdef and n.nspname = 'public'"
        )
        found = dict(cursor.fetchall())
        assert all(any(part.startswith("search_path=") for part in config or ()) for config in found.values()), (
            found
        )
        cursor.execute("select code from access_open(%s, %s, %s)", [987654321, [], None])
        assert cursor.fetchall() == []
    assert run("select from holding_seat") == 0


def test_what_nobody_asked_for_sees_everything(planted: Planted) -> None:
    """Commands, tasks and handlers run with the setting `*`; the ingest's role is above row-level security."""
    assert Unit.objects.count() == len(UNITS)
    with connection.cursor() as cursor:
        cursor.execute("select current_setting('app.units'), current_user")
        assert cursor.fetchone() == ("*", "claytom_app")
        cursor.execute("select rolname, rolbypassrls, rolsuper from pg_roles where rolname like 'claytom%'")
        roles = {name: (bypass, superuser) for name, bypass, superuser in cursor.fetchall()}
    assert roles == {
        "claytom_owner": (False, False),
        "claytom_migrator": (False, False),
        "claytom_app": (False, False),
        "claytom_ingest": (True, False),
    }
