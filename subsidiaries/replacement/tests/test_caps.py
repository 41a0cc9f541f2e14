"""The cap of the day: what ARP asks for beyond it, and what an answer changes."""

from datetime import timedelta

import pytest
from django.utils import timezone

from audit.models import LedgerEntry
from holding import clock
from holding.models import Unit
from iam.access.models import User
from iam.access.tests.factories import make_person
from iam.authority import matrix
from iam.authority import services as authority
from iam.authority.models import Approval, Decision
from subsidiaries.replacement import caps, services
from subsidiaries.replacement.models import Allowance, Incident, Replacement, SeatState, StaffingRule
from subsidiaries.replacement.tests.factories import bring_to_life, make_staffed_holding

pytestmark = pytest.mark.django_db
OPERATORS = ("op-0031", "op-0032", "op-0033", "op-0034", "op-0035")
YES, NO = Decision.Verdict.APPROVE, Decision.Verdict.REJECT


@pytest.fixture(autouse=True)
def pricing(db: None) -> Unit:
    """Pricing with five failed operators and a cap of three a day, and a director who may decide."""
    make_staffed_holding()
    bring_to_life("pricing")
    authority.install_matrix(data=matrix.read_matrix(), actor="test")
    unit = Unit.objects.get(slug="pricing")
    authority.appoint_to_office(
        office="subsidiary-director", person=make_person("dora"), unit=unit, actor="test", valid_from=clock.now()
    )
    StaffingRule.objects.update(daily_cap=3 / 35)
    SeatState.objects.filter(seat__code__in=OPERATORS, unit=unit).update(state="failed", since=timezone.now())
    return unit


def cycle() -> tuple[int, int]:
    done = services.ensure(unit="pricing")
    return done.replaced, done.deferred


def answer(verdict: Decision.Verdict) -> str:
    asked = Approval.objects.get()
    dora = User.objects.get(username="dora")
    return authority.decide(approval=asked, person=dora, verdict=verdict, note="Seen").state


def test_beyond_the_cap_people_are_asked_once_a_day(pricing: Unit) -> None:
    assert cycle() == (3, 2)
    assert cycle() == (0, 2)
    asked = Approval.objects.get()
    assert (asked.matter.slug, asked.unit, int(asked.value), asked.actor) == (
        "arp-daily-cap",
        pricing,
        2,
        "portal/arp",
    )
    assert asked.state == "pending"
    assert asked.parameters == {"unit": "pricing", "day": clock.today().date().isoformat(), "extra": 2}


def test_what_is_granted_is_used_by_the_next_cycle_and_no_more(pricing: Unit) -> None:
    cycle()
    assert answer(YES) == "executed"
    assert Allowance.objects.get().extra == 2
    assert LedgerEntry.objects.filter(action="arp.raise-cap", object="unit/pricing").count() == 1
    assert cycle() == (2, 0)
    assert not Incident.objects.filter(kind="cap", closed_at=None).exists()
    again = Replacement.objects.values("seat")[:1]
    SeatState.objects.filter(seat__in=again).update(state="failed", since=timezone.now())
    assert cycle() == (0, 1)
    assert Approval.objects.count() == 1
    assert caps.allowed_beyond_cap(Unit.objects.get(slug="tax")) == 0


def test_a_refusal_changes_nothing(pricing: Unit) -> None:
    cycle()
    assert answer(NO) == "rejected"
    assert cycle() == (0, 2)
    assert Approval.objects.count() == 1
    assert not Allowance.objects.exists()


def test_silence_changes_nothing(pricing: Unit) -> None:
    cycle()
    authority.tick(at=clock.now() + timedelta(hours=13))
    assert Approval.objects.get().state == "expired"
    assert cycle() == (0, 2)
    assert not Allowance.objects.exists()


@pytest.mark.parametrize(
    "wrong", [{"extra": 0}, {"extra": True}, {"extra": "2"}, {"unit": "moon"}, {"day": "2001-01-01"}, {"day": "x"}]
)
def test_the_action_refuses_what_cannot_be_carried_out(wrong: dict[str, object]) -> None:
    right = {"unit": "pricing", "day": clock.today().date().isoformat(), "extra": 2}
    caps.verify(right)
    with pytest.raises(ValueError, match=r"."):
        caps.verify(right | wrong)
