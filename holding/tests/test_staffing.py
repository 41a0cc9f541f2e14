"""`holding_staff`: the first load takes foreign keys off and adds them again, and nobody sees it."""

from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from holding.models import Agent, Architecture, BlueprintVersion, Division, Incumbency, Mandate, Role, Seat
from holding.scope import NOTHING, show
from holding.tests.factories import make_holding

KEYS = """
    select conrelid::regclass::text, conname, pg_get_constraintdef(oid) from pg_constraint
     where contype in ('f', 'u', 'p', 'c') and convalidated
       and conrelid in ('holding_seat'::regclass, 'holding_agent'::regclass, 'holding_incumbency'::regclass)
     order by 1, 2
"""
LOCKED = """
    select count(*) from pg_locks where pid = pg_backend_pid() and mode = 'AccessExclusiveLock'
       and relation in ('holding_seat'::regclass, 'holding_agent'::regclass, 'holding_incumbency'::regclass)
"""
STAGE = """
    insert into holding_stagedseat (id, unit_id, role_id, division_id, ordinal, code, name_es, name_en, duty,
                                    reports_to_id, agent_id, subject, blueprint_id)
    values (%(id)s, %(unit)s, %(role)s, %(division)s, 9000, 'op-9000', '', '', '', %(boss)s, 'op-9000-g1',
            'org.claytom.pricing.operator.op-9000-g1', %(blueprint)s)
"""

pytestmark = pytest.mark.django_db(transaction=True)


def ask(statement: str, params: Any = None) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.fetchall() if cursor.description else []


def values() -> dict[str, Any]:
    """A good seat of pricing."""
    division = Division.objects.get(key="pricing.1")
    return {
        "id": 900_000,
        "unit": division.unit_id,
        "role": Role.objects.get(slug="operator").pk,
        "division": division.pk,
        "boss": None,
        "blueprint": BlueprintVersion.objects.get(blueprint__slug="operator").pk,
    }


def empty() -> None:
    """Take the seats away, and what names them."""
    for model in (Incumbency, Agent, Mandate, Architecture):
        model.objects.all().delete()
    Seat.objects.update(reports_to=None)
    Seat.objects.all().delete()


def staff() -> None:
    ask("select holding_staff(now(), 0)")


def test_a_first_load_leaves_every_constraint_as_it_was() -> None:
    before = ask(KEYS)
    assert sum("FOREIGN KEY" in words for _table, _name, words in before) == 7
    make_holding()
    assert ask(KEYS) == before
    assert ask("select count(*) from holding_stagedseat") == [(0,)]
    seat = Seat.objects.exclude(role=None).first()
    assert seat
    with pytest.raises(IntegrityError):
        Seat.objects.filter(pk=seat.pk).update(reports_to_id=999_999)
    with pytest.raises(IntegrityError):
        Agent.objects.filter(seat=seat).update(unit_id=seat.unit_id + 1)


def test_a_first_row_that_breaks_a_key_leaves_nothing() -> None:
    make_holding()
    good, before = values(), ask(KEYS)
    for wrong in ("unit", "role", "division", "boss", "blueprint"):
        with transaction.atomic():
            empty()
            ask(STAGE, {**good, wrong: 999_999})
            with pytest.raises(IntegrityError), transaction.atomic():
                staff()
            assert ask(KEYS) == before
            assert not Seat.objects.exists()
            transaction.set_rollback(True)
        assert Seat.objects.exists()
        assert ask("select count(*) from holding_stagedseat") == [(0,)]


def test_nobody_sees_the_tables_without_their_keys() -> None:
    make_holding()
    good = values()
    with transaction.atomic():
        empty()
        ask(STAGE, good)
        staff()
        assert ask(LOCKED) == [(3,)]
        assert Agent.objects.get().seat_id == Incumbency.objects.get().seat_id == 900_000
        transaction.set_rollback(True)


def test_tables_with_rows_keep_their_keys_throughout() -> None:
    make_holding()
    with transaction.atomic():
        ask(STAGE, values())
        staff()
        assert ask(LOCKED) == [(0,)]
    agent = Agent.objects.get(agent_id="op-9000-g1")
    assert (agent.seat_id, agent.generation) == (900_000, 1)
    assert Incumbency.objects.get(agent=agent).started_at == agent.created_at


def test_what_is_out_of_view_is_not_taken_for_empty() -> None:
    make_holding()
    good = values()
    with transaction.atomic():
        ask(STAGE, good)
        show(NOTHING)
        staff()
        assert ask(LOCKED) == [(0,)]
        assert ask("select current_setting('app.units')") == [("",)]
        transaction.set_rollback(True)
