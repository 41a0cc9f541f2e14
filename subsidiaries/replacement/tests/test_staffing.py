"""Seats by plan: what is opened and closed, in which order, and what the database, the hosts and the floor see."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from django.db import IntegrityError, connection, connections, transaction
from django.utils import timezone
from django.utils.translation import override

from audit import services as audit
from audit.models import LedgerEntry
from bus import mailbox
from bus.models import DirectedMessage, OutboxMessage
from claytom_agent.escalation import superiors
from claytom_agent.manifest import decode_manifest, expand
from holding import establishment
from holding import services as holding
from holding.lifecycle import IllegalTransitionError
from holding.models import Agent, Division, Incumbency, Role, Seat, Unit
from holding.tests.factories import SMALL, make_data, make_holding
from iam.access.rights import NotHeldError, RefusedError
from iam.access.tests.factories import make_binding
from iam.authority import services as authority
from iam.authority.models import Approval, Decision
from iam.authority.tests.factories import make_authority, who
from subsidiaries.replacement import cycle, observing, outlook, reserve, services, staffing
from subsidiaries.replacement.models import Census, Incident, Monitor, Replacement, SeatState, UnitFloor
from subsidiaries.replacement.planning import StaffingPlan
from subsidiaries.replacement.staffing import Change
from subsidiaries.replacement.tests.factories import (
    bring_to_life,
    give_lease,
    leave_vacant,
    make_report,
    report,
    silence,
)

EXTRA = ("op-0036", "op-0037", "op-0038", "op-0039", "op-0040")
pytestmark = pytest.mark.django_db


def begin() -> Unit:
    """Two subsidiaries of 35 live agents each, 20 operators at most, and people who may ask and decide."""
    make_authority()
    observing.ensure_states()
    StaffingPlan.objects.filter(role__slug="operator").update(maximum=20)
    now = timezone.now()
    Monitor.objects.create(since=now - timedelta(minutes=10), last_at=now)
    make_binding(who("paula"), "subsidiary-head", Unit.objects.get(slug="pricing"))
    bring_to_life()
    for slug in ("pricing", "tax"):
        services.ensure(unit=slug)
    return Unit.objects.get(slug="pricing")


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    with override("en"):
        yield


@pytest.fixture
def pricing(db: None) -> Unit:
    return begin()


def operators() -> Role:
    return Role.objects.get(slug="operator")


def change(unit: Unit, *, reserve: int, floor: int = 5, maximum: int = 20) -> Change:
    return Change(unit, operators(), floor, reserve, maximum)


def ask(unit: Unit, key: str = "k1", **numbers: int) -> Approval:
    return staffing.ask(change=change(unit, **numbers), by=who("paula"), reason="failures of spring", key=key)


def hear() -> None:
    """Let a full report of every division arrive, of all agents in office."""
    for number in range(1, 6):
        report(f"pricing.{number}")


def census(unit: Unit) -> tuple[int, int]:
    return Census.objects.by_unit(timezone.now())[unit.pk]


def manifest(key: str) -> list[tuple[int | str, int, str]]:
    """What the newest manifest of a division says, as a host reads it."""
    row = OutboxMessage.objects.filter(subject=f"$KV.CT_SEATS.{key}").order_by("-id")[0]
    return [(seat.key, seat.generation, seat.desired) for seat in expand(decode_manifest(key, bytes(row.payload)))]


# --- plans -------------------------------------------------------------------------------------------------


def test_the_plain_holding_has_plans_that_change_nothing(pricing: Unit) -> None:
    observing.ensure_states()
    plans = StaffingPlan.objects.filter(unit=pricing).order_by("role__position")
    rows = list(plans.values_list("role__slug", "floor", "reserve", "maximum"))
    assert {role: numbers for role, *numbers in rows} == {
        "director": [5, 0, 5],
        "coordinator": [10, 0, 10],
        "specialist": [10, 0, 10],
        "innovator": [5, 0, 5],
        "operator": [5, 0, 20],
    }
    StaffingPlan.objects.all().delete()
    observing.ensure_states()
    assert plans.get(role=operators()).maximum == 6  # a tenth more than the holding's quota, rounded up
    assert not StaffingPlan.objects.filter(unit__slug="corporate").exists()
    assert staffing.keep(unit="pricing") == staffing.Kept()
    assert (Seat.objects.filter(unit=pricing).count(), census(pricing)) == (35, (35, 35))


@pytest.mark.parametrize(
    "wrong",
    [
        "update replacement_staffingplan set floor = floor - 1 where role_id = %(role)s",
        "update replacement_staffingplan set floor = floor + 1, maximum = maximum + 1 where role_id = %(role)s",
        "update replacement_staffingplan set reserve = maximum where role_id = %(role)s",
        "delete from replacement_staffingplan where role_id = %(role)s",
        "update holding_unit set floor = floor + 1 where slug = 'pricing'",
    ],
)
def test_the_database_refuses_plans_that_cannot_be(pricing: Unit, wrong: str) -> None:
    role = operators().pk
    with pytest.raises(IntegrityError), transaction.atomic():
        carry_out(wrong, role)


def carry_out(statement: str, role: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, {"role": role})
        cursor.execute("set constraints all immediate")


# --- opening and closing -----------------------------------------------------------------------------------


def test_a_reserve_opens_ordinary_seats_beyond_the_first_ones(pricing: Unit) -> None:
    done = ask(pricing, reserve=5)
    assert (done.state, done.by_rule) == ("executed", True)
    seats = list(
        Seat.objects.filter(unit=pricing, ordinal__gt=SMALL).select_related("division", "reports_to__role")
    )
    assert tuple(seat.code for seat in seats) == EXTRA
    assert [seat.division.key for seat in seats] == [f"pricing.{number}" for number in range(1, 6)]
    assert {seat.reports_to.role.slug for seat in seats if seat.reports_to and seat.reports_to.role} == {
        "coordinator"
    }
    assert all(seat.reports_to and seat.reports_to.division_id == seat.division_id for seat in seats)
    agents = Agent.objects.in_office().filter(seat__in=seats).order_by("seat__ordinal")
    assert agents[0].subject == "org.claytom.pricing.operator.op-0036-g1"
    assert Incumbency.objects.filter(agent__in=agents, ended_at=None).count() == 5
    assert (36, 1, "run") in manifest("pricing.1")
    assert census(pricing) == (40, 35)
    hear()
    assert census(pricing) == (40, 40)
    assert observing.census_drift() == []
    entries = LedgerEntry.objects.filter(action="seat.open").count()
    assert (entries, LedgerEntry.objects.filter(action="staffing.change").count()) == (5, 1)
    while audit.seal():
        pass
    assert audit.verify().ok


def test_the_same_request_twice_is_one_change(pricing: Unit) -> None:
    assert ask(pricing, reserve=2).pk == ask(pricing, reserve=2).pk
    for _ in range(3):
        assert staffing.keep(unit="pricing") == staffing.Kept()
    assert Seat.objects.filter(unit=pricing).count() == 37


def test_seats_take_the_halves_of_a_division_in_turn(pricing: Unit) -> None:
    ask(pricing, reserve=10)
    first, second = Seat.objects.filter(code__in=("op-0036", "op-0041"), unit=pricing).order_by("ordinal")
    assert first.division_id == second.division_id
    assert first.reports_to_id != second.reports_to_id


def test_hosts_and_database_agree_on_who_leads_whom(pricing: Unit) -> None:
    ask(pricing, reserve=10)
    for number in range(1, 6):
        key = f"pricing.{number}"
        row = OutboxMessage.objects.filter(subject=f"$KV.CT_SEATS.{key}").order_by("-id")[0]
        found = decode_manifest(key, bytes(row.payload))
        seats = Seat.objects.open().filter(division__key=key, role=operators()).select_related("reports_to")
        assert len(seats) == 3
        for seat in seats:
            leader = superiors(found, seat.ordinal)[0].address
            assert seat.reports_to
            assert leader.endswith(f".{seat.reports_to.code}-g1")


def test_a_full_subsidiary_goes_on_at_ordinal_1501_and_leaves_everybody_their_superior(db: None) -> None:
    make_holding(agents=1500, subsidiaries=("pricing",))
    observing.ensure_states()
    unit = Unit.objects.get(slug="pricing")
    plan = StaffingPlan.objects.get(unit=unit, role=operators())
    assert (plan.floor, plan.maximum) == (1470, 1617)
    StaffingPlan.objects.filter(pk=plan.pk).update(reserve=4)
    assert staffing.keep(unit="pricing").opened == ("op-1501", "op-1502", "op-1503", "op-1504")
    agent = Agent.objects.get(seat__code="op-1504")
    assert agent.subject == "org.claytom.pricing.operator.op-1504-g1"
    assert census(unit)[0] == 1504
    row = OutboxMessage.objects.filter(subject="$KV.CT_SEATS.pricing.1").order_by("-id")[0]
    found = decode_manifest("pricing.1", bytes(row.payload))
    seats = Seat.objects.open().filter(division__key="pricing.1", role=operators()).select_related("reports_to")
    assert len(seats) == 295
    for seat in seats:
        assert seat.reports_to
        assert superiors(found, seat.ordinal)[0].address.endswith(f".{seat.reports_to.code}-g1")


def test_presence_knows_of_a_seat_that_was_opened_meanwhile(pricing: Unit) -> None:
    roster = observing.Roster()
    assert roster.find("pricing.1") is not None
    ask(pricing, reserve=1)
    generation = Division.objects.get(key="pricing.1").manifest_generation
    told = make_report("pricing.1", observed_generation=generation)
    give_lease("pricing.1", told.epoch)
    observing.observe(reports=[told], roster=roster)
    assert SeatState.objects.get(seat__code="op-0036").state == "idle"


def test_a_lower_reserve_closes_the_youngest_and_deletes_nothing(pricing: Unit) -> None:
    ask(pricing, reserve=4)
    hear()
    ask(pricing, "k2", reserve=2)
    closed = Seat.objects.filter(closed_at__isnull=False).order_by("ordinal")
    assert [seat.code for seat in closed] == ["op-0038", "op-0039"]
    assert not Agent.objects.in_office().filter(seat__in=closed).exists()
    assert Incumbency.objects.filter(seat__in=closed, ended_at__isnull=False).count() == 2
    assert not SeatState.objects.filter(seat__in=closed).exists()
    assert 38 not in [key for key, *_ in manifest("pricing.3")]
    assert census(pricing) == (37, 37)
    assert LedgerEntry.objects.filter(action="seat.close").count() == 2


def test_a_closed_seat_is_opened_again_under_its_next_generation(pricing: Unit) -> None:
    ask(pricing, reserve=3)
    hear()
    ask(pricing, "k2", reserve=0)
    ask(pricing, "k3", reserve=1)
    seat = Seat.objects.get(unit=pricing, code="op-0036")
    assert (seat.closed_at, seat.generation) == (None, 2)
    assert Agent.objects.in_office().get(seat=seat).subject == "org.claytom.pricing.operator.op-0036-g2"
    assert (36, 2, "run") in manifest("pricing.1")
    assert Seat.objects.filter(unit=pricing).count() == 38
    hear()
    assert census(pricing) == (36, 36)


def test_the_order_of_closing_is_not_ready_then_failed_before_then_youngest(pricing: Unit) -> None:
    ask(pricing, reserve=5)
    hear()
    failed = Seat.objects.get(unit=pricing, code="op-0037")
    SeatState.objects.filter(seat=failed).update(state="failed", since=timezone.now())
    services.ensure(unit="pricing")
    hear()
    SeatState.objects.filter(seat__code="op-0036", unit=pricing).update(state="unknown")
    observing.recount(division_ids=SeatState.objects.values_list("division_id", flat=True))
    plan = staffing.plan_of(unit=pricing, role=operators())
    order = [one.seat.code for one in staffing.to_close(plan, 5)]
    assert order == ["op-0036", "op-0037", "op-0040", "op-0039", "op-0038"]


def test_live_seats_are_closed_only_beyond_the_floor(pricing: Unit) -> None:
    ask(pricing, reserve=3)
    hear()
    SeatState.objects.filter(seat__code__in=("op-0031", "op-0032"), unit=pricing).update(state="restarting")
    observing.recount(division_ids=SeatState.objects.values_list("division_id", flat=True))
    assert census(pricing) == (38, 36)
    ask(pricing, "k2", reserve=0)
    assert census(pricing) == (37, 35)
    hear()
    assert staffing.keep(unit="pricing").closed == ("op-0036", "op-0037")
    assert census(pricing) == (35, 35)


def test_seats_of_the_first_staffing_are_never_closed(pricing: Unit) -> None:
    first = Seat.objects.get(unit=pricing, code="op-0031")
    assert establishment.close_seats(seat_ids=[first.pk], actor="test", reason="no") == []
    with pytest.raises(IntegrityError, match="is held by an agent"), transaction.atomic():
        Seat.objects.filter(pk=first.pk).update(closed_at=timezone.now())


def test_nobody_is_appointed_to_a_closed_seat(pricing: Unit) -> None:
    ask(pricing, reserve=1)
    hear()
    ask(pricing, "k2", reserve=0)
    seat = Seat.objects.get(unit=pricing, code="op-0036")
    with pytest.raises(IllegalTransitionError, match="is closed"), transaction.atomic():
        holding.appoint(seats=[(seat.pk, 1)], actor="test", reason="no", vacant=True)
    with pytest.raises(IntegrityError, match="open it before"), transaction.atomic():
        Seat.objects.filter(pk=seat.pk).update(generation=2)
    assert seat.pk not in [pk for pk, _ in holding.vacant(division_ids=[seat.division_id])]


def test_open_work_of_a_closed_seat_goes_to_a_colleague(pricing: Unit) -> None:
    ask(pricing, reserve=1)
    hear()
    deadline = timezone.now() + timedelta(hours=1)
    letter = mailbox.Letter(
        address="org.claytom.pricing.operator.op-0036-g1",
        unit_id=pricing.pk,
        source="portal/test",
        type="work.offer",
        key="w-test-000001",
        body={"id": "w-test-000001", "kind": "price", "deadline": deadline.isoformat()},
        deadline=deadline,
    )
    mailbox.post(letters=[letter])
    ask(pricing, "k2", reserve=0)
    assert DirectedMessage.objects.get().address == "org.claytom.pricing.operator.op-0031-g1"


def test_a_load_leaves_opened_seats_and_a_raised_floor_alone(pricing: Unit) -> None:
    ask(pricing, reserve=2, floor=6)
    data = make_data()
    for sector in data["sectors"]:
        sector["subsidiaries"] = [
            one for one in sector["subsidiaries"] if one["slug"] in ("pricing", "tax", "sales")
        ]
    result = holding.load_holding(data=data, actor="test", scaled=True)
    assert result.seats == 35
    pricing.refresh_from_db()
    assert (pricing.floor, Seat.objects.filter(unit=pricing).count()) == (36, 38)


def test_two_cycles_at_once_open_once(transactional_db: None) -> None:
    unit = begin()
    StaffingPlan.objects.filter(unit=unit, role=operators()).update(reserve=5, maximum=20)
    errors: list[BaseException] = []

    def look() -> None:
        try:
            staffing.keep(unit="pricing")
        except BaseException as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert tuple(Seat.objects.filter(unit=unit, ordinal__gt=SMALL).values_list("code", flat=True)) == EXTRA


# --- the floor ---------------------------------------------------------------------------------------------


def test_with_a_reserve_a_loss_does_not_touch_the_floor(pricing: Unit) -> None:
    ask(pricing, reserve=2)
    hear()
    cycle.run(unit="pricing")
    report("pricing.1", states={"op-0031": "failed"}, full=False)
    turn = cycle.run(unit="pricing")
    assert (turn.cycle.live, turn.cycle.seats, turn.cycle.floor, turn.cycle.below) == (36, 37, 35, 0)
    assert not Incident.objects.filter(kind="below-floor").exists()
    floor = UnitFloor.objects.get(unit=pricing)
    assert (floor.below_since, floor.seconds_below) == (None, 0)


def test_more_losses_than_reserve_are_below_the_floor(pricing: Unit) -> None:
    ask(pricing, reserve=1)
    hear()
    states = {"op-0031": "restarting", "op-0036": "restarting"}
    report("pricing.1", states=states, full=False)
    turn = cycle.run(unit="pricing")
    assert (turn.cycle.live, turn.cycle.below) == (34, 1)
    assert Incident.objects.get(kind="below-floor").deficit == 1


def test_seats_vacant_on_purpose_use_up_the_reserve_first(pricing: Unit) -> None:
    ask(pricing, reserve=1)
    hear()
    leave_vacant("op-0031", "op-0032")
    found = services.ensure(unit="pricing")
    assert (found.live, found.vacant, found.below) == (34, 2, 0)
    report("pricing.3", states={"op-0033": "restarting"}, full=False)
    found = services.ensure(unit="pricing")
    assert (found.live, found.below) == (33, 1)
    assert Incident.objects.get(kind="below-floor", closed_at=None).deficit == 1


# --- asking ------------------------------------------------------------------------------------------------


def test_a_large_change_waits_for_who_may_decide_it(pricing: Unit) -> None:
    asked = ask(pricing, reserve=200, maximum=250)
    assert (asked.state, asked.matter.slug, int(asked.value)) == ("pending", "staffing-plan", 230)
    assert Seat.objects.filter(unit=pricing).count() == 35
    done = authority.decide(approval=asked, person=who("caio"), verdict=Decision.Verdict.APPROVE, note="yes")
    assert (done.state, Seat.objects.filter(unit=pricing).count()) == ("executed", 235)


def test_what_was_seen_must_still_hold_when_it_is_carried_out(pricing: Unit) -> None:
    asked = ask(pricing, reserve=200, maximum=250)
    StaffingPlan.objects.filter(unit=pricing, role=operators()).update(reserve=1)
    done = authority.decide(approval=asked, person=who("caio"), verdict=Decision.Verdict.APPROVE, note="yes")
    assert done.state == "failed"
    assert "changed since" in done.failure
    assert Seat.objects.filter(unit=pricing).count() == 35


def test_the_preview_says_what_the_change_then_does(pricing: Unit) -> None:
    shown = staffing.preview(change=change(pricing, reserve=2), by=who("paula"))
    assert [(place.code, place.division, place.generation) for place in shown.opened] == [
        ("op-0036", "pricing.1", 1),
        ("op-0037", "pricing.2", 1),
    ]
    assert (shown.by_rule, shown.closed, Seat.objects.filter(unit=pricing).count()) == (True, (), 35)
    ask(pricing, reserve=2)
    hear()
    shown = staffing.preview(change=change(pricing, reserve=0), by=who("paula"))
    assert [one.seat.code for one in shown.closed] == ["op-0037", "op-0036"]


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"reserve": 1, "floor": 4}, "never below the holding's"),
        ({"reserve": 16}, "more than the maximum"),
        ({"reserve": -1}, "more than the maximum"),
        ({"reserve": 0, "maximum": 200_000}, "at most"),
        ({"reserve": 0}, "says that already"),
    ],
)
def test_what_no_plan_may_say_is_refused(pricing: Unit, numbers: dict[str, int], words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        ask(pricing, "k1", **numbers)
    assert not Approval.objects.exists()


def test_management_has_no_reserve_and_strangers_ask_for_nothing(pricing: Unit) -> None:
    director = Change(pricing, Role.objects.get(slug="director"), 5, 1, 6)
    with pytest.raises(RefusedError, match="succession"):
        staffing.ask(change=director, by=who("paula"), reason="why", key="k")
    with pytest.raises(NotHeldError):
        staffing.ask(change=change(pricing, reserve=1), by=who("tomas"), reason="why", key="k")
    with pytest.raises(RefusedError, match="Say why"):
        staffing.ask(change=change(pricing, reserve=1), by=who("paula"), reason=" ", key="k")


# --- what is needed ----------------------------------------------------------------------------------------


def test_the_reserve_that_is_needed_follows_from_what_was_observed(pricing: Unit) -> None:
    now = timezone.now()
    [before] = outlook.outlook(units=[pricing], now=now)
    assert (before.observed.failures, before.floor, before.establishment, before.live) == (0, 35, 35, 35)
    assert before.needed == reserve.needed(floor=35, unavailable=before.estimate.unavailable) > 0
    assert not before.enough
    UnitFloor.objects.filter(unit=pricing).update(reached_at=now - timedelta(days=2))
    report("pricing.1", states={"op-0031": "failed"}, full=False)
    services.ensure(unit="pricing")
    hear()
    began = now - timedelta(minutes=5)
    Replacement.objects.update(detected_at=began, decided_at=began, live_at=began + timedelta(minutes=4))
    [after] = outlook.outlook(units=[pricing], now=now)
    assert (after.observed.failures, after.observed.restores, after.observed.downtime_s) == (1, 1, 240)
    assert after.observed.exposure_s == pytest.approx(35 * 2 * 86_400, rel=1e-3)
    assert after.estimate.downtime_s == pytest.approx((600 + 240) / 11)
    assert after.used == 1


def test_planned_retirements_are_no_failures(pricing: Unit) -> None:
    report("pricing.1", states={"op-0031": "failed"}, full=False)
    services.ensure(unit="pricing")
    Replacement.objects.update(reason="planned")
    [seen] = outlook.outlook(units=[pricing], now=timezone.now())
    assert seen.observed.failures == 0


def test_figures_of_all_units_cost_the_same_number_of_queries(
    pricing: Unit, django_assert_max_num_queries: Callable[[int], Any]
) -> None:
    with django_assert_max_num_queries(9):
        rows = outlook.outlook(units=Unit.objects.subsidiaries(), now=timezone.now())
    assert [row.unit.slug for row in rows] == ["pricing", "tax"]


def test_a_silent_division_counts_as_no_live_agents(pricing: Unit) -> None:
    silence("pricing.1")
    [seen] = outlook.outlook(units=[pricing], now=timezone.now())
    assert seen.live == 28
    assert seen.short == 7


def test_manifests_are_what_hosts_can_run(pricing: Unit) -> None:
    ask(pricing, reserve=5)
    ask(pricing, "k2", reserve=4)
    for number in range(1, 6):
        row = OutboxMessage.objects.filter(subject=f"$KV.CT_SEATS.pricing.{number}").order_by("-id")[0]
        body = msgspec.json.decode(bytes(row.payload))
        wanted = sum(1 for _ in expand(decode_manifest(f"pricing.{number}", bytes(row.payload))))
        assert wanted == Seat.objects.open().filter(division__key=f"pricing.{number}").count()
        assert body["generation"] > 1
