"""The service levels: what they say, that they are exact, and what reading them costs."""

import json
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from holding.models import Seat, Unit
from portal.tests.factories import make_replacements
from subsidiaries.replacement import levels
from subsidiaries.replacement.models import (
    DoubleHolder,
    FloorBreach,
    Incident,
    Replacement,
    ServiceLevel,
    StaffingRule,
)
from subsidiaries.replacement.tests.factories import make_staffed_holding

pytestmark = pytest.mark.django_db
DAY = ServiceLevel.Span.DAY


@pytest.fixture(autouse=True)
def holding(db: None) -> None:
    make_staffed_holding()


def of(unit: str | None, span: str = "24h") -> ServiceLevel:
    return (
        ServiceLevel.objects.get(unit__slug=unit, span=span)
        if unit
        else ServiceLevel.objects.get(unit=None, span=span)
    )


def restored_in(*seconds: float, unit: str = "pricing", ago: timedelta = timedelta(hours=1)) -> datetime:
    """Let replacements have been detected so long ago, decided a second later, and live after so many seconds."""
    at = timezone.now() - ago
    rows = make_replacements(unit, count=len(seconds))
    for row, took in zip(rows, seconds, strict=True):
        row.detected_at, row.decided_at = at, at + timedelta(seconds=1)
        row.live_at = at + timedelta(seconds=took)
        row.save()
    return at


def test_a_holding_in_which_nothing_happened_has_levels_of_nothing() -> None:
    assert levels.refresh() == ["24h", "7d", "30d"]
    assert ServiceLevel.objects.count() == 3 * (Unit.objects.count() + 1)
    row = of(None)
    assert (row.replaced, row.duplicates, row.cost) == (0, 0, Decimal(0))
    assert row.seconds_below == 0
    assert row.restore_p50 is None


def test_the_times_are_exact_for_a_unit_and_for_the_holding() -> None:
    restored_in(2, 3, 4, 5)
    restored_in(10, unit="sales")
    levels.refresh()
    unit, whole = of("pricing"), of(None)
    assert (unit.replaced, unit.restore_p50, unit.restore_max, unit.detect_p50) == (4, 3.5, 5.0, 1.0)
    assert (whole.replaced, whole.restore_p50, whole.restore_max) == (5, 4.0, 10.0)
    assert unit.restore_p95 == pytest.approx(4.85)
    assert of("tax").replaced == 0


def test_a_span_holds_what_happened_in_it() -> None:
    restored_in(2, ago=timedelta(days=3))
    restored_in(4, unit="sales", ago=timedelta(days=20))
    levels.refresh()
    assert [of(None, span).replaced for span in ("24h", "7d", "30d")] == [0, 1, 2]


def test_what_is_not_live_yet_and_what_did_not_last_are_told_apart() -> None:
    rows = make_replacements("pricing", count=3, live=False)
    Replacement.objects.filter(pk=rows[0].pk).update(failed_at=timezone.now())
    levels.refresh()
    row = of("pricing")
    assert (row.replaced, row.waiting, row.short_lived) == (3, 2, 1)


def test_seconds_below_the_floor_are_those_within_the_span() -> None:
    now = timezone.now()
    pricing, sales = Unit.objects.get(slug="pricing"), Unit.objects.get(slug="sales")
    FloorBreach.objects.create(unit=pricing, began_at=now - timedelta(hours=25), ended_at=now - timedelta(hours=23))
    FloorBreach.objects.create(unit=sales, began_at=now - timedelta(seconds=30))
    levels.refresh(now=now)
    assert (of("pricing").seconds_below, of("pricing", "7d").seconds_below) == (3600, 7200)
    assert of("sales").seconds_below == 30
    assert of(None).seconds_below == 3630


def test_duplicates_brakes_and_cost_are_counted() -> None:
    now, unit = timezone.now(), Unit.objects.get(slug="pricing")
    seat = Seat.objects.filter(unit=unit)[0]
    DoubleHolder.objects.create(
        unit=unit, seat=seat, generation=2, other=1, host="h", epoch=1, first_at=now, last_at=now
    )
    Incident.objects.create(unit=unit, kind="mass-silence", opened_at=now, closed_at=now)
    Incident.objects.create(unit=unit, kind="capacity", opened_at=now, closed_at=now)
    StaffingRule.objects.update(unit_cost=Decimal("0.0125"))
    restored_in(2, 2)
    levels.refresh()
    row = of("pricing")
    assert (row.duplicates, row.brakes, row.cost) == (1, 1, Decimal("0.0250"))


def test_a_level_is_computed_again_when_it_is_old_and_the_longer_spans_less_often() -> None:
    now = timezone.now()
    levels.refresh(now=now)
    assert levels.refresh(now=now + timedelta(seconds=30)) == []
    assert levels.refresh(now=now + timedelta(seconds=60)) == ["24h"]
    assert levels.refresh(now=now + timedelta(minutes=20)) == ["24h", "7d", "30d"]
    assert levels.refresh(now=now - timedelta(hours=1)) == []  # a clock that was set back


def test_reading_the_levels_touches_their_rows_alone_however_much_was_replaced() -> None:
    make_history(1_000)
    levels.refresh()
    with CaptureQueriesContext(connection) as queries:
        whole, rows = levels.read(DAY)
    assert whole is not None
    assert len(rows) == Unit.objects.count()
    assert len(queries) == 1
    plan = explain(queries[0]["sql"])
    assert "replacement_replacement" not in tables(plan)
    assert plan["Actual Rows"] <= 3 * 40


def test_a_day_among_a_month_of_replacements_is_found_by_an_index() -> None:
    make_history(4_000)
    with connection.cursor() as cursor:
        cursor.execute("analyze replacement_replacement")
    now = timezone.now()
    query = (
        "select unit_id, live_at, failed_at from replacement_replacement where decided_at > %s and decided_at <= %s"
    )
    with connection.cursor() as cursor:
        cursor.execute(f"explain (analyze, format json) {query}", [now - timedelta(hours=1), now])
        found = cursor.fetchone()[0]
    plan = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    assert "replacement_decided" in json.dumps(plan)


def make_history(count: int) -> None:
    """Let so many replacements, or a few more, have been decided over thirty days, of all seats in turn."""
    make_replacements("pricing")
    made: list[int] = []
    with connection.cursor() as cursor:
        generation = 100
        while len(made) < count:
            cursor.execute("select array_agg(id) from holding_agent where retired_at is null")
            (leaving,) = cursor.fetchone()
            cursor.execute(
                "update holding_agent set retired_at = now(), stage = 'replaced' where id = any(%s)", [leaving]
            )
            cursor.execute(
                """
                insert into holding_agent (unit_id, seat_id, generation, agent_id, subject, blueprint_id,
                                           created_at, stage)
                select unit_id, seat_id, %(new)s, split_part(agent_id, '-g', 1) || '-g' || %(new)s::int,
                       split_part(subject, '-g', 1) || '-g' || %(new)s::int, blueprint_id, now(), 'provisioning'
                  from holding_agent where id = any(%(leaving)s) returning id
                """,
                {"new": generation, "leaving": leaving},
            )
            made += [pk for (pk,) in cursor.fetchall()]
            generation += 1
        cursor.execute(
            """
            insert into replacement_replacement (unit_id, seat_id, generation, old_agent_id, new_agent_id, reason,
                                                 detail, detected_at, decided_at, live_at, actor, host, live_host)
            select unit_id, seat_id, generation, id, id, 'failed', '', at, at, at + interval '2 seconds',
                   'portal/arp', '', ''
              from (select *, now() - row_number() over (order by id) * interval '30 days' / %s as at
                      from holding_agent where id = any(%s)) made
            """,
            [len(made) + 1, made],
        )


def explain(query: str) -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute(f"explain (analyze, format json) {query}")
        found = cursor.fetchone()[0]
    plan: dict[str, Any] = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    return plan


def tables(plan: dict[str, Any]) -> set[str]:
    own = {plan["Relation Name"]} if "Relation Name" in plan else set()
    return own.union(*(tables(part) for part in plan.get("Plans", [])))
