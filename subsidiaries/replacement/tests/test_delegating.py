"""Caps that people delegate to ARP: who gives them, when they count, and how they end."""

from collections.abc import Iterator
from datetime import date, timedelta

import pytest
from django.utils import timezone
from django.utils.translation import override

from audit.models import LedgerEntry
from holding import clock
from holding.models import Unit
from iam.access.rights import NotHeldError, RefusedError
from iam.authority import services as authority
from iam.authority.models import Approval, Decision
from iam.authority.tests.factories import who
from subsidiaries.replacement import caps, delegating, observing, outlook, services
from subsidiaries.replacement.delegating import Cap
from subsidiaries.replacement.models import DivisionState, SeatState, StaffingRule
from subsidiaries.replacement.planning import CapDelegation
from subsidiaries.replacement.tests.test_staffing import begin

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    with override("en"):
        yield


@pytest.fixture
def pricing(db: None) -> Unit:
    unit = begin()
    StaffingRule.objects.update(daily_cap=2 / 35)
    return unit


def today() -> date:
    return clock.today().date()


def ask(unit: Unit, cap: int, *, days: int | None = 1, key: str = "c1") -> Approval:
    ends = None if days is None else today() + timedelta(days=days - 1)
    return delegating.ask(cap=Cap(unit, cap, today(), ends), by=who("paula"), reason="a mass replacement", key=key)


def grant(asked: Approval, name: str) -> str:
    return authority.decide(approval=asked, person=who(name), verdict=Decision.Verdict.APPROVE, note="yes").state


def fail(unit: Unit) -> tuple[int, int]:
    SeatState.objects.filter(unit=unit, role="operator").update(state="failed", since=timezone.now())
    observing.recount(division_ids=DivisionState.objects.values_list("division_id", flat=True))
    found = services.ensure(unit=unit.slug)
    return found.replaced, found.deferred


def test_a_delegated_cap_lets_arp_act_by_itself(pricing: Unit) -> None:
    asked = ask(pricing, 5)
    assert (asked.state, int(asked.value), asked.matter.slug) == ("pending", 3, "arp-daily-cap")
    assert not CapDelegation.objects.exists()
    assert grant(asked, "dora") == "executed"
    assert fail(pricing) == (5, 0)
    assert not Approval.objects.exclude(pk=asked.pk).exists()
    assert LedgerEntry.objects.get(action="arp.delegate-cap").object == "unit/pricing"


def test_without_one_the_rule_counts_and_people_are_asked(pricing: Unit) -> None:
    ask(pricing, 5)
    assert fail(pricing) == (2, 3)
    assert Approval.objects.filter(key__startswith="arp-cap/").count() == 1


def test_days_add_up_to_what_is_judged(pricing: Unit) -> None:
    assert int(ask(pricing, 102, days=30).value) == 3000
    for name in ("dora", "paula"):
        with pytest.raises(authority.NotAllowedError):
            grant(Approval.objects.get(), name)
    assert grant(Approval.objects.get(), "caio") == "executed"
    [seen] = outlook.outlook(units=[pricing], now=timezone.now())
    assert (seen.cap, seen.usual_cap, seen.delegation and seen.delegation.cap) == (102, 2, 102)


def test_it_ends_with_its_last_day(pricing: Unit) -> None:
    grant(ask(pricing, 5), "dora")
    rule = StaffingRule.objects.get()
    assert caps.cap_of(pricing, rule) == 5
    CapDelegation.objects.update(starts_on=today() - timedelta(days=2), ends_on=today() - timedelta(days=1))
    assert caps.cap_of(pricing, rule) == 2


def test_a_lower_cap_may_stand_without_an_end_and_is_revoked(pricing: Unit) -> None:
    assert grant(ask(pricing, 1, days=None), "dora") == "executed"
    rule = StaffingRule.objects.get()
    assert caps.cap_of(pricing, rule) == 1
    found = CapDelegation.objects.get()
    with pytest.raises(NotHeldError):
        delegating.revoke(delegation=found, by=who("tomas"), reason="no")
    with pytest.raises(RefusedError, match="Say why"):
        delegating.revoke(delegation=found, by=who("paula"), reason="")
    delegating.revoke(delegation=found, by=who("paula"), reason="over")
    assert caps.cap_of(pricing, rule) == 2
    assert caps.cap_of(Unit.objects.get(slug="tax"), rule) == 2
    with pytest.raises(RefusedError, match="ended already"):
        delegating.revoke(delegation=found, by=who("paula"), reason="again")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"ends_on": None}, "needs an end"),
        ({"ends_on": "2001-01-01"}, "before it begins"),
        ({"cap": -1}, "from 0 to"),
        ({"cap": True}, "from 0 to"),
        ({"unit": "moon"}, "no unit"),
    ],
)
def test_the_action_refuses_what_cannot_be(pricing: Unit, wrong: dict[str, object], words: str) -> None:
    right = {"unit": "pricing", "cap": 9, "starts_on": today().isoformat(), "ends_on": today().isoformat()}
    delegating.verify(right)
    with pytest.raises(ValueError, match=words):
        delegating.verify(right | wrong)


def test_a_higher_cap_does_not_last_for_ever(pricing: Unit) -> None:
    with pytest.raises(RefusedError, match="at most 92 days"):
        ask(pricing, 9, days=100)
    with pytest.raises(RefusedError, match="needs an end"):
        ask(pricing, 9, days=None)
