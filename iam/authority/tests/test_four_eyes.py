"""Four eyes: an account and the person who answers for it are one pair."""

import pytest

from iam.access.models import User
from iam.authority import services
from iam.authority.models import Approval
from iam.authority.tests.factories import (
    EPOCH,
    HOUR,
    T0,
    ask,
    decide,
    make_account,
    make_authority,
    office_of,
    offices,
    who,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def authority(db: None) -> None:
    make_authority()


def test_who_answers_for_the_account_that_asked_does_not_decide() -> None:
    asked = ask(by=make_account("svc-dora", "dora").username)
    answer = services.explain(approval=asked, person=who("dora"), at=T0 + HOUR)
    assert (answer.allowed, answer.reason) == (False, "Who asked for it does not decide it.")
    assert services.titles(approval=asked, person=who("dora"), at=T0 + HOUR) == []
    assert asked not in Approval.objects.waiting_for(who("dora"), T0 + HOUR)
    assert asked in Approval.objects.waiting_for(who("dani"), T0 + HOUR)
    assert asked.levels.get().eligible == [who("dani").pk]
    with pytest.raises(services.NotAllowedError):
        decide(asked, "dora")
    assert decide(asked, "dani") == "approved"


def test_nobody_decides_in_the_stead_of_who_answers_for_the_account_that_asked() -> None:
    services.substitute(person=who("paula"), substitute=who("omar"), reason="r", actor="t", valid_from=EPOCH)
    services.delegate(
        appointment=office_of("paula"), delegator=who("paula"), person=who("sara"), reason="r", valid_from=EPOCH
    )
    theirs = ask(200_000, by=make_account("svc-paula", "paula").username)
    other = ask(200_000)
    for name in ("omar", "sara"):
        assert list(Approval.objects.waiting_for(who(name), T0 + HOUR)) == [other]
        answer = services.explain(approval=theirs, person=who(name), at=T0 + HOUR)
        assert answer.reason == "Who acts for the one who asked for it does not decide it."
    assert offices(theirs) == ["subsidiary-ceo", "group-cfo"]  # nobody else holds the office: the next has joined


def test_two_accounts_of_one_person_are_one_pair_of_eyes() -> None:
    asked = ask(by=make_account("svc-omar", "omar").username)
    second = make_account("agent-omar", "omar", kind=User.Kind.AGENT)
    services.delegate(
        appointment=office_of("dora"), delegator=who("dora"), person=second, reason="r", valid_from=EPOCH
    )
    assert not services.explain(approval=asked, person=second, at=T0 + HOUR).allowed
    assert asked not in Approval.objects.waiting_for(second, T0 + HOUR)
