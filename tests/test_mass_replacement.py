"""kill -9 in the middle of a mass replacement: of each process that decides or carries, and of each server."""

import itertools
import json
from collections.abc import Iterator
from functools import partial

import psycopg
import pytest

from tests.stack import RunningHolding, turn

pytestmark = pytest.mark.stack

AGENTS = 150
FAILED = 100
KILLED = ("bus", "postgresql", "nats", "worker", "redis", "beat")
ROUNDS = 3
FULL_ROUNDS = 20
PATIENCE_S = 120
SEATS = """
    select count(*) from holding_seat s
     where (select count(*) from holding_agent a
             where a.seat_id = s.id and a.retired_at is null and a.generation = s.generation) <> 1
        or (select count(*) from holding_incumbency i where i.seat_id = s.id and i.ended_at is null) <> 1
"""
MADE = """
    select (select sum(generation) from holding_seat) - (select count(*) from holding_seat),
           (select count(*) from replacement_replacement)
"""
RESTORED = """
    select count(*) from replacement_replacement r join holding_agent a on a.id = r.old_agent_id
     where a.subject = any(%s) and r.live_at is not null
"""


@pytest.fixture(scope="module")
def holding() -> Iterator[RunningHolding]:
    with turn(alone=True), RunningHolding(hosts=2, arguments=["--agents-per-subsidiary", str(AGENTS)]) as running:
        yield running


def _replace_and_kill(holding: RunningHolding, rounds: int) -> None:
    units = [
        slug for (slug,) in holding.rows("select slug from holding_unit where kind = 'subsidiary' order by id")
    ]
    total = holding.ready["agents"]
    for unit, name in zip(units, itertools.islice(itertools.cycle(KILLED), rounds), strict=False):
        failed = holding.fail(unit, FAILED)
        assert len(failed) == FAILED
        holding.kill(name)
        holding.until(partial(_all_restored, holding, failed), PATIENCE_S, step=0.5)
        holding.until(lambda: _live(holding) == total, PATIENCE_S, step=0.5)
        assert holding.duplicates() == 0, name
        assert holding.value("select count(*) from replacement_doubleholder") == 0, name
        assert holding.value(SEATS) == 0, f"a seat was lost while {name} was killed"
        generations, replacements = holding.rows(MADE)[0]
        assert generations == replacements, name
        answers = holding.answers([_successor(holding, subject) for subject in failed])
        assert len(answers) == FAILED, name
        assert set(answers.values()) == {1}, name
        assert holding.answers(failed) == {}, name
    verified = json.loads(holding.manage("verify_ledger", "--json").stdout)
    assert verified["ok"], verified


def _all_restored(holding: RunningHolding, failed: list[str]) -> bool:
    try:
        return bool(holding.value(RESTORED, failed) == len(failed))
    except (OSError, psycopg.Error):  # the database is away
        return False


def _live(holding: RunningHolding) -> int:
    try:
        return holding.live()
    except (OSError, psycopg.Error):  # the database is away
        return 0


def _successor(holding: RunningHolding, subject: str) -> str:
    """Return who holds the seat of an agent now: it may have failed more than once in between."""
    return str(
        holding.value(
            "select a.subject from holding_agent a join holding_agent b on b.seat_id = a.seat_id"
            " where b.subject = %s and a.retired_at is null",
            subject,
        )
    )


def test_a_kill_during_a_mass_replacement_doubles_and_loses_nothing(holding: RunningHolding) -> None:
    _replace_and_kill(holding, ROUNDS)


@pytest.mark.full
def test_twenty_kills_during_mass_replacements_double_and_lose_nothing(holding: RunningHolding) -> None:
    _replace_and_kill(holding, FULL_ROUNDS)
