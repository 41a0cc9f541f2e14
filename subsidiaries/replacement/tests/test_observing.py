"""What presence makes of the observed state."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.utils import timezone

from claytom_agent.messages import AgentState, Presence
from subsidiaries.replacement import observing
from subsidiaries.replacement.models import Census, DivisionState, SeatState
from subsidiaries.replacement.tests.factories import (
    bring_to_life,
    make_staffed_holding,
    report,
    silence,
    unit_id,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def holding(db: None) -> None:
    make_staffed_holding()


def live(slug: str) -> int:
    return Census.objects.by_unit(timezone.now())[unit_id(slug)][1]


def test_nobody_is_live_before_a_host_says_so() -> None:
    assert all(found == 0 for _, found in Census.objects.by_unit(timezone.now()).values())
    assert observing.census_drift() == []


def test_full_reports_of_every_division_make_the_whole_holding_live() -> None:
    bring_to_life()
    counted = Census.objects.by_unit(timezone.now())
    assert sum(found for _, found in counted.values()) == 35 * 35 + 50
    assert Census.objects.by_role(unit_id("pricing"), timezone.now())["director"] == (5, 5)
    assert observing.census_drift() == []


def test_a_delta_changes_only_the_agents_that_it_names() -> None:
    bring_to_life("pricing")
    report("pricing.1", full=False, only=("op-0031",), states={"op-0031": "failed"})
    assert live("pricing") == 34
    report("pricing.1", full=False, only=())
    assert live("pricing") == 34
    report("pricing.1", full=False, only=("op-0031",))
    assert live("pricing") == 35


def test_an_agent_that_a_full_report_leaves_out_is_not_live() -> None:
    bring_to_life("pricing")
    report("pricing.1", without=("op-0031",))
    state = SeatState.objects.get(seat__code="op-0031", unit_id=unit_id("pricing"))
    assert (state.state, state.missed) == ("unknown", 1)
    assert live("pricing") == 34


def test_a_zombie_with_a_lower_epoch_changes_nothing() -> None:
    bring_to_life("pricing", epoch=9)
    outcome = report("pricing.1", epoch=8, host="zombie", states={"op-0031": "failed"})
    assert (outcome.stale, outcome.taken) == (1, 0)
    assert live("pricing") == 35
    assert DivisionState.objects.get(division__key="pricing.1").host == "host-a"


def test_an_older_report_of_the_same_epoch_comes_too_late() -> None:
    bring_to_life("pricing")
    outcome = report("pricing.1", ts=datetime.now(UTC) - timedelta(minutes=1), states={"op-0031": "failed"})
    assert outcome.stale == 1
    assert live("pricing") == 35


def test_a_silent_division_counts_as_no_live_agents() -> None:
    bring_to_life("pricing")
    silence("pricing.1", "pricing.2", seconds=16)
    assert live("pricing") == 35 - 14


def test_a_report_of_a_division_that_does_not_exist_is_counted_and_ignored() -> None:
    bring_to_life("pricing")
    stray = observing.observe(
        reports=[_renamed("nowhere.1")],
        roster=observing.Roster(),
    )
    assert (stray.unknown, stray.taken) == (1, 0)


def _renamed(division: str) -> Presence:
    return Presence(
        ts=datetime.now(UTC), subsidiary="nowhere", host="x", division=division, epoch=1, observed_generation=1,
        total=1, counts={}, full=True, agents=[("op-0031-g1", "idle", 0, 0)],
    )  # fmt: skip


def test_agents_of_unknown_codes_in_a_report_are_ignored() -> None:
    report("pricing.1", only=("op-0031",))
    stray = Presence(
        ts=datetime.now(UTC), subsidiary="pricing", host="host-a", division="pricing.1", epoch=5,
        observed_generation=1,
        total=1, counts={}, full=False, agents=[("op-9999-g1", "idle", 0, 0), ("rubbish", "idle", 0, 0)],
    )  # fmt: skip
    observing.observe(reports=[stray], roster=observing.Roster())
    assert live("pricing") == 1


def test_a_successor_counts_though_the_same_report_also_names_the_one_before() -> None:
    bring_to_life("pricing")
    SeatState.objects.filter(seat__code="op-0031", unit__slug="pricing").update(generation=2, state="starting")
    both = Presence(
        ts=datetime.now(UTC), subsidiary="pricing", host="host-a", division="pricing.1", epoch=5,
        observed_generation=2, total=1, counts={}, full=False,
        agents=[("op-0031-g2", "idle", 0, 0), ("op-0031-g1", "retired", 0, 0)],
    )  # fmt: skip
    observing.observe(reports=[both], roster=observing.Roster())
    assert live("pricing") == 35


def test_the_monitor_starts_anew_after_a_gap() -> None:
    with connection.cursor() as cursor:
        cursor.execute("update replacement_monitor set last_at = now() - interval '20 seconds'")
    assert observing.watching_since() is None
    report("pricing.1")
    since = observing.watching_since()
    assert since is not None
    assert since > timezone.now() - timedelta(seconds=5)


def test_a_state_event_of_a_past_generation_or_a_fenced_epoch_changes_nothing() -> None:
    bring_to_life("pricing", epoch=9)
    assert observing.note_states(reports=[_event("org.claytom.pricing.operator.op-0031-g2", epoch=9)]) == {}
    assert observing.note_states(reports=[_event("org.claytom.pricing.operator.op-0031-g1", epoch=8)]) == {}
    assert observing.note_states(reports=[_event("org.claytom.pricing.operator.op-0031-g1", epoch=0)]) == {}
    assert observing.note_states(reports=[_event("org.claytom.pricing.operator.op-0031-g1", epoch=10**9)]) == {}
    assert live("pricing") == 35
    failed = observing.note_states(reports=[_event("org.claytom.pricing.operator.op-0031-g1", epoch=9)])
    assert [len(seats) for seats in failed.values()] == [1]
    assert live("pricing") == 34


def test_a_corporate_seat_fails_by_its_generation_header() -> None:
    bring_to_life("corporate")
    failed = observing.note_states(reports=[_event("org.claytom.corporate.c-suite.ceo", epoch=5, generation=1)])
    assert list(failed) == ["corporate"]
    assert live("corporate") == 49


def _event(agent: str, *, epoch: int, generation: int = 0) -> observing.StateReport:
    body = AgentState(ts=datetime.now(UTC), agent=agent, from_="idle", to="failed", reason="crash", restarts=3)
    return observing.StateReport(body=body, epoch=epoch, generation=generation)
