"""Planned retirements: surge first, drain after, never below the floor."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.utils import timezone
from django.utils.translation import override

from audit.models import LedgerEntry
from holding.models import Agent, Role, Seat, Unit
from iam.access.rights import NotHeldError, RefusedError
from iam.authority.tests.factories import who
from subsidiaries.replacement import cycle, retiring, staffing
from subsidiaries.replacement.models import Census, Incident, Replacement, StaffingRule
from subsidiaries.replacement.planning import Retiree, Retirement
from subsidiaries.replacement.retiring import Order
from subsidiaries.replacement.tests.factories import leave_vacant, report
from subsidiaries.replacement.tests.test_staffing import begin

pytestmark = pytest.mark.django_db
FLOOR = 35


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    with override("en"):
        yield


@pytest.fixture
def pricing(db: None) -> Unit:
    return begin()


def order(unit: Unit, **changes: object) -> Order:
    asked: dict[str, object] = {"choice": "oldest", "count": 5, "surge": 2, **changes}
    return Order(unit=unit, role=Role.objects.get(slug="operator"), **asked)  # type: ignore[arg-type]  # as given


def start(unit: Unit, key: str = "r1", **changes: object) -> Retirement:
    return retiring.begin(order=order(unit, **changes), by=who("paula"), reason="new brief", key=key)


def hear() -> None:
    for number in range(1, 6):
        report(f"pricing.{number}")


def live(unit: Unit) -> int:
    return Census.objects.by_unit(timezone.now())[unit.pk][1]


def test_agents_are_followed_without_a_dip_below_the_floor(pricing: Unit) -> None:
    made = start(pricing)
    lowest, turns = live(pricing), 0
    while made.state == "running":
        turns += 1
        assert turns < 20
        cycle.run(unit="pricing")
        lowest = min(lowest, live(pricing))
        hear()
        made.refresh_from_db()
    assert made.state == "done"
    assert lowest == FLOOR
    assert turns >= 4  # surge, then two at a time
    assert Replacement.objects.filter(reason="planned").count() == 5
    for code in ("op-0031", "op-0032", "op-0033", "op-0034", "op-0035"):
        assert Seat.objects.get(unit=pricing, code=code).generation == 2
    cycle.run(unit="pricing")  # what was opened for it closes
    assert Seat.objects.open().filter(unit=pricing).count() == FLOOR
    assert live(pricing) == FLOOR
    assert not Incident.objects.filter(kind="below-floor").exists()
    actions = LedgerEntry.objects.filter(action__startswith="retirement.").order_by("id")
    assert list(actions.values_list("action", flat=True)) == ["retirement.begin", "retirement.done"]


def test_nobody_is_taken_out_before_the_surge_is_live(pricing: Unit) -> None:
    made = start(pricing)
    for _ in range(3):
        cycle.run(unit="pricing")
    made.refresh_from_db()
    assert Replacement.objects.count() == 0
    assert Seat.objects.open().filter(unit=pricing).count() == FLOOR + 2
    assert made.words == "agents beyond the floor"
    assert retiring.progress(made)[made.pk] == retiring.Progress(5, 0, 0)


def test_a_pause_holds_and_an_abort_ends_it(pricing: Unit) -> None:
    made = start(pricing)
    cycle.run(unit="pricing")
    hear()
    retiring.pause(retirement=made, by=who("paula"), reason="lunch")
    for _ in range(2):
        cycle.run(unit="pricing")
    assert Replacement.objects.count() == 0
    retiring.resume(retirement=made, by=who("paula"), reason="done")
    cycle.run(unit="pricing")
    assert retiring.progress(made)[made.pk] == retiring.Progress(5, 0, 2)
    hear()
    retiring.abort(retirement=made, by=who("paula"), reason="a bad brief")
    cycle.run(unit="pricing")
    assert Replacement.objects.count() == 2
    assert Seat.objects.open().filter(unit=pricing).count() == FLOOR
    with pytest.raises(RefusedError, match="already"):
        retiring.resume(retirement=made, by=who("paula"), reason="again")


def test_a_seat_that_moved_on_has_nothing_left_to_do(pricing: Unit) -> None:
    made = start(pricing, count=2)
    report("pricing.1", states={"op-0031": "failed"}, full=False)
    cycle.run(unit="pricing")
    hear()
    for _ in range(4):
        cycle.run(unit="pricing")
        hear()
    made.refresh_from_db()
    assert made.state == "done"
    assert Seat.objects.get(unit=pricing, code="op-0031").generation == 2
    assert Retiree.objects.get(seat__code="op-0031").moved_on
    assert Replacement.objects.filter(reason="planned").count() == 1


def test_a_seat_that_an_order_left_vacant_holds_nobody_up(pricing: Unit) -> None:
    made = start(pricing, count=2)
    leave_vacant("op-0031")
    for _ in range(5):
        cycle.run(unit="pricing")
        for number in range(1, 6):
            report(f"pricing.{number}", without=("op-0031",))
    made.refresh_from_db()
    assert (made.state, Retiree.objects.get(seat__code="op-0031").moved_on) == ("done", True)
    assert Replacement.objects.filter(reason="planned").count() == 1


def test_the_cap_of_the_day_counts(pricing: Unit) -> None:
    StaffingRule.objects.update(daily_cap=1 / FLOOR)
    made = start(pricing)
    cycle.run(unit="pricing")
    hear()
    for _ in range(3):
        cycle.run(unit="pricing")
        hear()
    made.refresh_from_db()
    assert (Replacement.objects.count(), made.words) == (1, "the cap of the day")
    assert not Incident.objects.filter(kind="cap").exists()


def test_agents_are_chosen_by_age_version_or_name(pricing: Unit) -> None:
    Agent.objects.filter(seat__code="op-0034").update(created_at=timezone.now() - timedelta(days=90))
    assert [agent.seat.code for agent in retiring.meant(order(pricing, count=2))] == ["op-0034", "op-0031"]
    assert len(retiring.meant(order(pricing, choice="version", version=2, count=0))) == 5
    named = order(pricing, choice="named", named=("op-0033", "op-0032"))
    assert [agent.seat.code for agent in retiring.meant(named)] == ["op-0032", "op-0033"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"count": 0}, "how many"),
        ({"surge": 0}, "at least one"),
        ({"surge": 16}, "above the maximum"),
        ({"choice": "version", "version": 1}, "Say before which version"),
        ({"choice": "named", "named": ()}, "Name 1 to"),
        ({"choice": "named", "named": ("op-9999",)}, "op-9999"),
        ({"choice": "luck"}, "by age, by version or by name"),
    ],
)
def test_what_cannot_be_is_refused(pricing: Unit, changes: dict[str, object], words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        start(pricing, "r1", **changes)
    assert not Retirement.objects.exists()


def test_one_at_a_time_and_by_who_may(pricing: Unit) -> None:
    made = start(pricing)
    assert start(pricing).pk == made.pk
    with pytest.raises(RefusedError, match="under way"):
        start(pricing, "r2")
    with pytest.raises(NotHeldError):
        retiring.begin(order=order(pricing), by=who("tomas"), reason="why", key="r3")
    with pytest.raises(NotHeldError):
        retiring.abort(retirement=made, by=who("dora"), reason="why")
    director = Order(pricing, Role.objects.get(slug="director"), "oldest", count=1)
    with pytest.raises(RefusedError, match="succession"):
        retiring.begin(order=director, by=who("paula"), reason="why", key="r4")


def test_a_reserve_needs_no_surge(pricing: Unit) -> None:
    change = staffing.Change(pricing, Role.objects.get(slug="operator"), 5, 2, 20)
    staffing.ask(change=change, by=who("paula"), reason="why", key="k1")
    hear()
    start(pricing, surge=0, count=3)
    cycle.run(unit="pricing")
    assert Replacement.objects.filter(reason="planned").count() == 2
    assert live(pricing) == FLOOR
