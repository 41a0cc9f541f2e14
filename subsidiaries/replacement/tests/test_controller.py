"""The controller's rules: expectations, back-off, slow start, versions, the brake, quality, two holders."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import msgspec
import pytest
from django.utils import timezone
from django.utils.translation import override

from audit.models import LedgerEntry
from bus.models import OutboxMessage
from holding import blueprints
from holding.models import Agent, BlueprintVersion, Seat, Unit
from holding.tests.factories import make_version
from iam.access.models import User
from iam.access.rights import NotHeldError, RefusedError
from subsidiaries.replacement import cases, observing, pacing, responses, services
from subsidiaries.replacement.cases import QualityCase
from subsidiaries.replacement.models import (
    DivisionState,
    DoubleHolder,
    FloorBreach,
    Incident,
    IncidentStep,
    Monitor,
    Replacement,
    SeatBackoff,
    SeatState,
    StaffingRule,
    UnitFloor,
    VersionStanding,
)
from subsidiaries.replacement.tests.factories import (
    bring_to_life,
    give_lease,
    make_report,
    make_staffed_holding,
    report,
    silence,
)
from subsidiaries.replacement.tests.world import Clock

OPERATORS = ("op-0031", "op-0032", "op-0033", "op-0034", "op-0035")
ALL = tuple(f"pricing.{number}" for number in range(1, 6))


CLOCKS: list[Clock] = []


@pytest.fixture
def pricing(db: None, monkeypatch: pytest.MonkeyPatch) -> Unit:
    """A subsidiary at work, whose time passes by `age` alone: a slow machine makes nobody silent."""
    CLOCKS[:] = [Clock(timezone.now())]
    monkeypatch.setattr(timezone, "now", CLOCKS[0].now)
    make_staffed_holding()
    bring_to_life("pricing")
    return Unit.objects.get(slug="pricing")


def seat(code: str) -> Seat:
    return Seat.objects.get(unit__slug="pricing", code=code)


def fail(*codes: str) -> None:
    SeatState.objects.filter(seat__code__in=codes, unit__slug="pricing").update(
        state="failed", since=timezone.now()
    )
    observing.recount(division_ids=DivisionState.objects.values_list("division_id", flat=True))


def age(seconds: float) -> None:
    """Let that much time pass; who is heard of now goes on being heard of."""
    before = timezone.now() - timedelta(seconds=15)
    heard = list(DivisionState.objects.filter(seen_at__gt=before).values_list("pk", flat=True))
    CLOCKS[-1].wait(seconds)
    DivisionState.objects.filter(pk__in=heard).update(seen_at=timezone.now())
    Monitor.objects.update(last_at=timezone.now())


def cycle() -> services.Cycle:
    return services.ensure(unit="pricing")


def live() -> None:
    """Let the hosts report every agent in office idle."""
    for key in ALL:
        report(key, observed_generation=99)


# --- expectations ------------------------------------------------------------------------------------------


def test_an_agent_that_is_expected_is_neither_missed_nor_decided_twice(pricing: Unit) -> None:
    fail("op-0031")
    assert cycle().replaced == 1
    age(59)
    assert cycle().replaced == 0
    assert Replacement.objects.count() == 1


def test_an_expectation_that_ran_out_is_looked_at_before_the_next_generation(pricing: Unit) -> None:
    fail("op-0031")
    cycle()
    StaffingRule.objects.update(backoff_base_s=30)
    OutboxMessage.objects.all().delete()
    age(61)
    assert cycle().replaced == 0
    asked = OutboxMessage.objects.get(subject="org.claytom.pricing.command.report")
    assert msgspec.json.decode(bytes(asked.payload)) == {"divisions": ["pricing.1"]}
    report("pricing.1", states={"op-0031": "starting"}, observed_generation=99)
    assert cycle().replaced == 1
    again = Replacement.objects.get(generation=3)
    assert again.reason == "not-live"
    assert Replacement.objects.get(generation=2).failed_at is not None


def test_a_host_that_lags_behind_its_manifest_is_an_incident_and_no_replacement(pricing: Unit) -> None:
    fail("op-0031")
    cycle()
    age(61)
    DivisionState.objects.update(full_at=timezone.now())
    assert cycle().replaced == 0
    stalled = Incident.objects.get(kind="stalled")
    assert "pricing.1" in stalled.detail
    live()
    cycle()
    stalled.refresh_from_db()
    assert stalled.closed_at is not None


def test_a_whole_report_of_the_agent_before_puts_the_new_one_back_to_starting(pricing: Unit) -> None:
    fail("op-0031")
    cycle()
    live()
    assert Replacement.objects.get().live_at is not None
    told = make_report("pricing.1", epoch=90, host="host-b")
    told.agents[:] = [(row[0].replace("op-0031-g2", "op-0031-g1"), *row[1:]) for row in told.agents]
    give_lease("pricing.1", 90, "host-b")
    observing.observe(reports=[told], roster=observing.Roster())
    state = SeatState.objects.get(seat=seat("op-0031"))
    assert (state.generation, state.state) == (2, "starting")
    assert DoubleHolder.objects.count() == 0
    assert observing.census_drift() == []


# --- back-off of a seat ------------------------------------------------------------------------------------


def test_a_seat_waits_twice_as_long_each_time_in_a_row_up_to_the_ceiling(pricing: Unit) -> None:
    waits = []
    for _ in range(7):
        fail("op-0031")
        assert cycle().replaced == 1
        backoff = SeatBackoff.objects.get()
        waits.append(round((backoff.not_before - backoff.decided_at).total_seconds()))
        live()
        fail("op-0031")
        assert (cycle().replaced, cycle().deferred) == (0, 1)  # until its time
        age(waits[-1])
    assert waits == [10, 20, 40, 80, 160, 300, 300]
    assert Seat.objects.get(pk=seat("op-0031").pk).generation == 8


def test_stable_service_ends_the_row(pricing: Unit) -> None:
    for _ in range(3):
        fail("op-0031")
        cycle()
        live()
        age(100)
    assert SeatBackoff.objects.get().strikes == 3
    age(600)
    fail("op-0031")
    assert cycle().replaced == 1
    assert SeatBackoff.objects.get().strikes == 1
    assert Replacement.objects.filter(failed_at__isnull=False).count() == 2


def test_a_clock_that_was_set_back_leaves_no_seat_waiting_for_hours(pricing: Unit) -> None:
    fail("op-0031")
    cycle()
    live()
    fail("op-0031")
    SeatBackoff.objects.update(not_before=timezone.now() + timedelta(hours=5))
    assert cycle().replaced == 1


def test_a_clock_that_was_set_back_keeps_no_silent_division_alive(pricing: Unit) -> None:
    ahead = timezone.now() + timedelta(hours=1)
    DivisionState.objects.filter(division__key="pricing.1").update(seen_at=ahead, full_at=ahead)
    Monitor.objects.update(since=ahead, last_at=ahead)
    cycle()
    state = DivisionState.objects.get(division__key="pricing.1")
    assert state.seen_at is not None
    assert state.seen_at <= timezone.now()
    report("pricing.2")
    monitor = Monitor.objects.get()
    assert max(monitor.since, monitor.last_at) <= timezone.now()


# --- slow start --------------------------------------------------------------------------------------------


def miss(*codes: str) -> None:
    SeatState.objects.filter(seat__code__in=codes, unit__slug="pricing").update(
        state="unknown", missed=2, since=timezone.now()
    )


def test_missing_agents_come_back_in_batches_that_double(pricing: Unit) -> None:
    StaffingRule.objects.update(slow_above=0.9, stop_above=0.95)
    codes = list(Seat.objects.filter(unit=pricing).order_by("ordinal").values_list("code", flat=True))
    miss(*codes[:15])
    batches = []
    for _ in range(4):
        found = cycle()
        batches.append(found.replaced)
        assert cycle().replaced == 0  # until the batch is live
        age(10)
        live_generation_two()
    assert batches == [1, 2, 4, 8]


def live_generation_two() -> None:
    """Let the hosts report the agents in office whom ARP put in place."""
    seats = Replacement.objects.filter(live_at=None).values_list("seat_id", flat=True)
    SeatState.objects.filter(pk__in=list(seats)).update(state="idle")
    observing.note_restored(seat_ids=list(seats), at=timezone.now())


def test_a_batch_begins_anew_with_one_after_a_failure(pricing: Unit) -> None:
    StaffingRule.objects.update(slow_above=0.9, stop_above=0.95, backoff_base_s=0)
    codes = list(Seat.objects.filter(unit=pricing).order_by("ordinal").values_list("code", flat=True))
    miss(*codes[:10])
    for _ in range(2):
        cycle()
        age(10)
        live_generation_two()
    first = Replacement.objects.order_by("pk")[0].seat
    fail(first.code)
    assert cycle().replaced == 1 + 4  # what its host reports failed is no part of the batch
    assert Replacement.objects.get(seat=first, generation=2).failed_at is not None
    age(10)
    live_generation_two()
    miss(*codes[20:30])
    assert cycle().replaced == 5


def test_two_cycles_at_once_replace_no_more_missing_agents_than_one(pricing: Unit) -> None:
    StaffingRule.objects.update(missing_per_cycle=1)
    miss(*OPERATORS[:2])
    assert cycle().replaced == 1
    live_generation_two()
    assert cycle().replaced == 0
    age(10)
    assert cycle().replaced == 1


# --- versions ----------------------------------------------------------------------------------------------


def new_version() -> BlueprintVersion:
    """Return a version of which the next operators will be, since that of those in office is halted."""
    blueprints.halt(first_version(), actor="test", reason="of the test")
    return make_version("operator")


def first_version() -> BlueprintVersion:
    return BlueprintVersion.objects.get(blueprint__slug="operator", version=1)


def test_a_version_that_is_not_proven_starts_slowly_and_then_is_proven(pricing: Unit) -> None:
    version = new_version()
    fail(*OPERATORS)
    assert cycle().replaced == 1
    live_generation_two()
    assert cycle().replaced == 2
    live_generation_two()
    assert cycle().replaced == 2
    live_generation_two()
    cycle()
    assert VersionStanding.objects.get(version=version).proven_at is not None
    assert not pacing.version_in_trouble(version.pk)


def test_a_version_whose_agents_crash_backs_off_and_the_seats_are_left(pricing: Unit) -> None:
    StaffingRule.objects.update(backoff_base_s=1)
    first = first_version()
    for _ in range(2):
        fail(*OPERATORS)
        cycle()
        age(2)
    assert pacing.version_in_trouble(first.pk)
    standing = VersionStanding.objects.get(version=first)
    assert (standing.proven_at, standing.strikes) == (None, 1)
    incident = Incident.objects.get(kind="crash-loop")
    assert "operator" in incident.detail
    fail(*OPERATORS)
    VersionStanding.objects.update(not_before=timezone.now() + timedelta(seconds=9))
    StaffingRule.objects.update(backoff_ceiling_s=10)
    assert (cycle().replaced, cycle().deferred) == (0, 5)
    age(10)
    assert cycle().replaced == 1  # one tries
    assert Seat.objects.filter(unit=pricing, role__slug="operator", generation__gte=3).count() == 5


def test_one_seat_that_crashes_is_not_its_version_s_trouble(pricing: Unit) -> None:
    StaffingRule.objects.update(backoff_base_s=0)
    for _ in range(5):
        fail("op-0031")
        assert cycle().replaced == 1
    assert not pacing.version_in_trouble(first_version().pk)
    assert VersionStanding.objects.count() == 0


# --- the brake ---------------------------------------------------------------------------------------------


def test_sixty_per_cent_silent_is_one_incident_and_no_replacement(pricing: Unit) -> None:
    cycle()
    silence("pricing.2", "pricing.3", "pricing.4", seconds=20)
    cycle()  # they may be moving
    silence("pricing.2", "pricing.3", "pricing.4")
    cycle()
    report("pricing.1", without=("op-0031",))
    report("pricing.1", without=("op-0031",))
    for _ in range(3):
        assert cycle().replaced == 0
    assert list(Incident.objects.values_list("kind", flat=True)) == ["mass-silence"]
    assert UnitFloor.objects.get(unit=pricing).below_since is not None  # its seconds count all the same


def test_agents_left_out_of_full_reports_are_silent_too(pricing: Unit) -> None:
    codes = list(Seat.objects.filter(unit=pricing).order_by("ordinal").values_list("code", flat=True))
    miss(*codes[:21])
    assert cycle().replaced == 0
    assert Incident.objects.get().kind == "mass-silence"


def test_a_brake_holds_until_few_are_silent_any_more(pricing: Unit) -> None:
    silence("pricing.2", "pricing.3", "pricing.4")
    cycle()
    report("pricing.2", epoch=80)
    report("pricing.3", epoch=80)
    report("pricing.1", without=("op-0031",))
    report("pricing.1", without=("op-0031",))
    assert cycle().replaced == 0  # a fifth is silent: below where it would be applied
    report("pricing.4", epoch=80)
    report("pricing.1")
    cycle()
    assert Incident.objects.get(kind="mass-silence").closed_at is not None


def test_the_brake_survives_a_portal_that_starts_again(pricing: Unit) -> None:
    silence("pricing.2", "pricing.3", "pricing.4")
    cycle()
    Monitor.objects.update(since=timezone.now())
    report("pricing.1", without=("op-0031",))
    report("pricing.1", without=("op-0031",))
    assert cycle().replaced == 0
    assert Incident.objects.get().closed_at is None


def test_a_slow_brake_grows_into_a_full_one_and_stays_one_incident(pricing: Unit) -> None:
    silence("pricing.2", "pricing.3")
    cycle()
    incident = Incident.objects.get()
    assert incident.kind == "silence"
    silence("pricing.4")
    cycle()
    incident.refresh_from_db()
    assert (Incident.objects.count(), incident.kind, incident.deficit) == (1, "mass-silence", 21)
    assert [step.kind for step in incident.steps.all()] == ["grew"]
    assert OutboxMessage.objects.filter(subject="org.claytom.corporate.escalation.pricing").count() == 1


@pytest.fixture
def ana(db: None) -> User:
    return User.objects.create_superuser("ana", password="x", cleared=True)


def test_a_person_releases_the_brake_with_a_reason_that_the_ledger_keeps(pricing: Unit, ana: User) -> None:
    silence("pricing.2", "pricing.3", "pricing.4")
    report("pricing.1", without=("op-0031",))
    report("pricing.1", without=("op-0031",))
    cycle()
    incident = Incident.objects.get()
    with override("en"), pytest.raises(RefusedError, match="reason"):
        responses.release(incident=incident, by=ana, reason=" ")
    assert responses.acknowledge(incident=incident, by=ana).acknowledged_by == "ana"
    responses.release(incident=incident, by=ana, reason="the hosts of 2 to 4 are gone for good")
    assert cycle().replaced == 1
    assert list(IncidentStep.objects.values_list("kind", flat=True)) == ["acknowledged", "released"]
    assert LedgerEntry.objects.get(action="incident.release").actor == "ana"
    with override("en"), pytest.raises(RefusedError, match="already"):
        responses.release(incident=incident, by=ana, reason="again")


def test_nobody_releases_a_brake_without_the_right_to(pricing: Unit) -> None:
    silence("pricing.2", "pricing.3", "pricing.4")
    cycle()
    eve = User.objects.create_user("eve", password="x", cleared=True)
    incident = Incident.objects.get()
    with pytest.raises(NotHeldError):
        responses.release(incident=incident, by=eve, reason="x")
    with pytest.raises(NotHeldError):
        responses.acknowledge(incident=incident, by=eve)
    with pytest.raises(NotHeldError):
        responses.annotate(incident=incident, by=eve, note="x")
    assert Incident.objects.get().released_at is None


# --- quality -----------------------------------------------------------------------------------------------


@pytest.fixture
def told() -> Iterator[list[QualityCase]]:
    """What a registered source tells."""
    found: list[QualityCase] = []

    def source(unit: Unit, now: datetime) -> list[QualityCase]:
        del now
        return [case for case in found if unit.slug == "pricing"]

    cases.register_cases(source)
    yield found
    cases.withdraw_cases(source)


def poor(code: str, *, retraining: str = "w-academy-000001", retrained: int = 60) -> QualityCase:
    now = timezone.now()
    return QualityCase(
        seat_id=seat(code).pk,
        generation=seat(code).generation,
        since=now - timedelta(seconds=100),
        detail="quality 0.61 under 0.80 in 3 windows",
        retraining=retraining,
        retrained_at=now - timedelta(seconds=retrained),
    )


def test_poor_quality_is_replaced_after_a_failed_retraining_up_to_a_share_of_the_day(
    pricing: Unit, told: list[QualityCase]
) -> None:
    told += [poor(code) for code in OPERATORS]
    assert cycle().replaced == 1  # 5 % of 35
    row = Replacement.objects.get()
    assert (row.reason, "w-academy-000001" in row.detail) == ("quality", True)
    live()
    age(30)
    assert cycle().replaced == 0
    StaffingRule.objects.update(quality_share=0.1)
    assert cycle().replaced == 2  # three in all, two at once after one that is live
    assert Replacement.objects.values("seat").distinct().count() == 3


def test_without_a_failed_retraining_nobody_is_replaced_for_quality(pricing: Unit, told: list[QualityCase]) -> None:
    told += [poor("op-0031", retraining=""), poor("op-0032", retrained=200)]
    told.append(poor("op-0033"))  # it has been replaced since
    Seat.objects.filter(pk=seat("op-0033").pk).update(generation=2)
    SeatState.objects.filter(pk=seat("op-0033").pk).update(generation=2)
    assert cycle().replaced == 0


def test_quality_waits_while_anything_else_is_the_matter(pricing: Unit, told: list[QualityCase]) -> None:
    told.append(poor("op-0031"))
    silence("pricing.5")
    assert cycle().replaced == 0
    report("pricing.5", epoch=77)
    assert cycle().replaced == 1


# --- relocation against replacement ------------------------------------------------------------------------


def test_a_division_that_moves_again_and_again_replaces_nobody(pricing: Unit) -> None:
    for epoch in range(10, 30):
        silence("pricing.1", seconds=epoch)
        cycle()
        report("pricing.1", epoch=epoch, host=f"host-{epoch}")
        assert cycle().live == 35
    assert Replacement.objects.count() == 0
    assert Agent.objects.in_office().filter(unit=pricing, generation=1).count() == 35


def test_what_failed_before_a_division_moved_is_replaced_when_the_new_host_says_so(pricing: Unit) -> None:
    fail("op-0031")
    silence("pricing.1", seconds=20)
    assert cycle().replaced == 0  # nobody is there to take the new agent up
    report("pricing.1", epoch=77, host="host-b")
    assert cycle().replaced == 0  # the new host runs it, and it is well
    assert Replacement.objects.count() == 0


# --- two holders, the floor --------------------------------------------------------------------------------


def test_two_live_agents_of_a_seat_in_one_report_are_told_of(pricing: Unit) -> None:
    fail("op-0031")
    cycle()
    live()
    both = make_report("pricing.1", observed_generation=99)
    both.agents.append(("op-0031-g1", "idle", 0, 10))
    observing.observe(reports=[both], roster=observing.Roster())
    double = DoubleHolder.objects.get()
    assert (double.generation, double.other, double.host) == (2, 1, "host-a")
    assert LedgerEntry.objects.filter(action="seat.double").count() == 1
    cycle()
    assert "op-0031 g2 g1" in Incident.objects.get(kind="duplicate").detail


def test_a_seat_that_is_handed_over_in_good_order_has_one_holder(pricing: Unit) -> None:
    before = make_report("pricing.1")
    fail("op-0031")
    cycle()
    after = make_report("pricing.1", observed_generation=2)
    observing.observe(reports=[before, after], roster=observing.Roster())
    assert DoubleHolder.objects.count() == 0
    assert Replacement.objects.get().live_at is not None


def test_a_breach_of_the_floor_is_kept_with_its_times(pricing: Unit) -> None:
    cycle()
    StaffingRule.objects.update(daily_cap=0)
    fail("op-0031")
    cycle()
    live()
    cycle()
    breach = FloorBreach.objects.get()
    assert breach.ended_at is not None
    assert breach.ended_at >= breach.began_at


def test_a_case_keeps_who_told_of_it_and_who_decided(pricing: Unit) -> None:
    fail("op-0031")
    cycle()
    report("pricing.1", epoch=78, host="host-b", observed_generation=2)
    row = Replacement.objects.get()
    assert (row.actor, row.host, row.epoch, row.live_host, row.live_epoch) == (
        "portal/arp",
        "host-a",
        5,
        "host-b",
        78,
    )
    assert row.told_at is not None
    assert row.decided_at <= row.told_at <= (row.live_at or row.told_at)
