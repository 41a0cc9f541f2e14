"""What time does: reminders, escalation, expiry; and the matrix of another day."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from audit.models import LedgerEntry
from bus.models import OutboxMessage
from holding import clock
from iam.authority import services
from iam.authority.models import Approval, MatrixVersion
from iam.authority.services import MatrixError, NoAuthorityError, NotAllowedError, Tick
from iam.authority.tasks import authority_tick
from iam.authority.tests.factories import (
    DAY,
    EPOCH,
    HOUR,
    NO,
    T0,
    ask,
    decide,
    make_authority,
    offices,
    unit_of,
    who,
)

pytestmark = pytest.mark.django_db
RuleText = services.RuleText
MINUTE = timedelta(minutes=1)
NEXT = T0 + 40 * DAY


@pytest.fixture(autouse=True)
def authority(db: None) -> None:
    make_authority()


def types(approval: Approval) -> list[str]:
    messages = OutboxMessage.objects.filter(dedup__startswith=f"approval-{approval.pk}-").order_by("pk")
    return [message.headers["ce-type"].split(".")[3] for message in messages]


def acts(approval: Approval) -> list[str]:
    entries = LedgerEntry.objects.filter(object=f"approval/{approval.pk}").order_by("pk")
    return [entry.action.split(".")[1] for entry in entries]


# --- escalation and expiry ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "did"),
    [
        (23 * HOUR + 59 * MINUTE, Tick(reminded=0, escalated=0, expired=0, executed=0)),
        (24 * HOUR, Tick(reminded=1, escalated=0, expired=0, executed=0)),
        (47 * HOUR + 59 * MINUTE, Tick(reminded=1, escalated=0, expired=0, executed=0)),
        (48 * HOUR, Tick(reminded=1, escalated=1, expired=0, executed=0)),
        (240 * HOUR - MINUTE, Tick(reminded=1, escalated=1, expired=0, executed=0)),
        (240 * HOUR, Tick(reminded=0, escalated=0, expired=1, executed=0)),
    ],
)
def test_half_way_it_reminds_when_due_it_escalates_in_the_end_it_expires(after: timedelta, did: Tick) -> None:
    ask()
    assert services.tick(at=T0 + after) == did
    assert services.tick(at=T0 + after) == Tick(reminded=0, escalated=0, expired=0, executed=0)


def test_each_time_that_passes_adds_the_next_rank() -> None:
    approval = ask()
    added = ["subsidiary-director", "subsidiary-ceo", "group-cfo", "group-ceo"]
    for turn in range(1, 4):
        services.tick(at=T0 + turn * 48 * HOUR)
        assert offices(approval) == added[: turn + 1]
    assert set(approval.levels.values_list("cause", flat=True)) == {"required", "late"}
    assert sorted(types(approval)) == ["escalate", "escalate", "escalate", "remind"]
    assert acts(approval) == ["request", "escalate", "remind", "escalate", "escalate"]
    assert decide(approval, "dora", at=T0 + 150 * HOUR) == "approved"


@pytest.mark.parametrize(("name", "state"), [("paula", "approved"), ("dora", "approved")])
def test_after_an_escalation_both_ranks_may_decide(name: str, state: str) -> None:
    approval = ask()
    with pytest.raises(NotAllowedError):
        decide(approval, "paula")
    services.tick(at=T0 + 48 * HOUR)
    assert decide(approval, name, at=T0 + 49 * HOUR) == state


def test_a_seat_in_a_body_does_not_count_for_the_office_below_it() -> None:
    approval = ask(9_000_000)
    services.tick(at=T0 + 48 * HOUR)
    assert offices(approval) == ["group-ceo", "board"]
    states = [decide(approval, f"board{n}", at=T0 + 49 * HOUR) for n in (1, 2, 3)]
    assert states == ["pending", "pending", "approved"]


def test_the_highest_office_has_nobody_above_it() -> None:
    approval = ask(0, matter="merger")
    assert approval.escalate_at is None
    assert services.tick(at=T0 + 200 * HOUR).escalated == 0


def test_what_nobody_may_decide_expires() -> None:
    for appointment in list(unit_of("pricing").appointment_set.all()):
        services.end_appointment(appointment=appointment, actor="test", at=T0)
    approval = ask(1, matter="model-release")
    assert offices(approval) == ["subsidiary-director", "group-caio"]
    services.tick(at=T0 + 120 * HOUR)
    approval.refresh_from_db()
    assert approval.state == Approval.State.EXPIRED


@pytest.mark.parametrize("ticked", [True, False])
def test_an_expired_request_fails_closed_even_before_the_tick(ticked: bool) -> None:
    approval = ask()
    late = T0 + 240 * HOUR
    if ticked:
        services.tick(at=late)
    with pytest.raises(NotAllowedError):
        decide(approval, "dora", at=late)
    assert not Approval.objects.waiting_for(who("dora"), late).exists()
    services.tick(at=late)
    approval.refresh_from_db()
    assert approval.state == Approval.State.EXPIRED
    assert types(approval)[-1] == "expired"
    assert acts(approval) == ["request", "expire"]


def test_the_task_ticks_by_the_business_clock() -> None:
    approval = ask(at=clock.now() - 11 * DAY)
    authority_tick()
    approval.refresh_from_db()
    assert approval.state == Approval.State.EXPIRED


# --- withdrawing -------------------------------------------------------------------------------------------


def test_the_requester_withdraws_what_waits_and_nobody_else() -> None:
    approval = ask()
    with pytest.raises(NotAllowedError, match="Only who asked"):
        services.withdraw(approval=approval, person=who("dora"), at=T0)
    services.withdraw(approval=approval, person=who("rita"), reason="not needed", at=T0 + HOUR)
    with pytest.raises(NotAllowedError, match="no longer"):
        decide(approval, "dora")
    with pytest.raises(NotAllowedError, match="no longer"):
        services.withdraw(approval=approval, person=who("rita"), at=T0)
    assert types(approval) == ["withdrawn"]
    assert acts(approval) == ["request", "withdraw"]


def test_the_portal_withdraws_what_it_asked_for_under_that_name() -> None:
    approval = ask(by="", actor="portal/arp")
    for name in ("portal/authority", ""):
        with pytest.raises(NotAllowedError, match="Only who asked"):
            services.withdraw(approval=approval, actor=name, at=T0)
    with pytest.raises(NotAllowedError, match="Only who asked"):
        services.withdraw(approval=ask(), actor="rita", at=T0)
    assert services.withdraw(approval=approval, actor="portal/arp", at=T0).state == "withdrawn"


# --- the requester's key, and being told -------------------------------------------------------------------


def test_the_same_key_asks_once_and_another_request_may_not_use_it() -> None:
    first = ask(key="k")
    assert ask(key="k") == first
    with pytest.raises(services.KeyInUseError):
        ask(41_000, key="k")
    with pytest.raises(services.KeyInUseError):
        ask(key="k", by="sara")
    assert Approval.objects.count() == 1


@pytest.mark.parametrize(("verdict", "told"), [("approve", "approved"), ("reject", "rejected")])
def test_the_requester_is_told_without_title_or_value(verdict: Any, told: str) -> None:
    approval = ask(counterparty="Acme")
    decide(approval, "dora", NO if verdict == "reject" else verdict)
    message = OutboxMessage.objects.get(dedup=f"approval-{approval.pk}-{told}")
    assert message.subject == "org.claytom.corporate.directive.pricing"
    body = bytes(message.payload)
    assert b'"requester":"rita"' in body
    assert not any(secret in body for secret in (b"Something", b"40000", b"Acme"))
    assert acts(approval) == ["request", "decide"]


def test_lists_and_inboxes() -> None:
    mine, theirs = ask(), ask(by="sara", unit="tax")
    assert list(Approval.objects.requested_by(who("rita"))) == [mine]
    assert list(Approval.objects.for_listing()) == [theirs, mine]
    assert list(Approval.objects.waiting_for(who("toni"), T0)) == [theirs]


# --- versions ----------------------------------------------------------------------------------------------


def lower_limits(author: str = "ana", ceo: int = 30_000) -> MatrixVersion:
    return services.draft_matrix(
        author=author,
        rules=[
            RuleText("opex-budgeted", "subsidiary-director", Decimal(10_000)),
            RuleText("opex-budgeted", "subsidiary-ceo", Decimal(ceo)),
            RuleText("opex-budgeted", "board", None, None),
        ],
        at=T0,
    )


def test_a_new_version_decides_from_its_day_on() -> None:
    draft = lower_limits()
    services.adopt_matrix(number=draft.number, approver="CA-2026-014", valid_from=NEXT, at=T0)
    first = MatrixVersion.objects.get(number=1)
    assert (first.status, first.valid_to) == ("superseded", NEXT)
    for when, number in ((EPOCH - MINUTE, None), (EPOCH, 1), (NEXT - MINUTE, 1), (NEXT, 2), (NEXT + 900 * DAY, 2)):
        found = services.matrix_at(when)
        assert (found.number if found else None) == number
    assert offices(ask(at=NEXT - MINUTE))[0] == "subsidiary-director"
    assert offices(ask(at=NEXT, unit="tax"))[0] == "board"
    with pytest.raises(NoAuthorityError):
        ask(at=EPOCH - MINUTE)


def test_what_was_asked_under_a_version_is_decided_under_it() -> None:
    approval = ask(at=NEXT - HOUR)
    draft = lower_limits()
    services.adopt_matrix(number=draft.number, approver="CA-2026-014", valid_from=NEXT, at=T0)
    assert decide(approval, "dora", at=NEXT + HOUR) == "approved"


@pytest.mark.parametrize(
    ("value", "name", "when", "office", "sufficient"),
    [
        (9_000, "dora", NEXT, "subsidiary-director", True),
        (20_000, "dora", NEXT, "subsidiary-ceo", False),
        (40_000, "dora", NEXT, "board", False),
        (40_000, "dora", T0, "subsidiary-director", True),
        (400_000, "paula", NEXT, "board", False),
    ],
)
def test_a_decision_is_judged_again_by_the_matrix_of_another_day(
    value: int, name: str, when: datetime, office: str, sufficient: bool
) -> None:
    approval = ask(value)
    assert decide(approval, name) == "approved"
    draft = lower_limits()
    services.adopt_matrix(number=draft.number, approver="CA-2026-014", valid_from=NEXT, at=T0)
    approval.refresh_from_db()
    again = services.rejudge(approval=approval, when=when)
    assert again is not None
    assert again.office is not None
    assert (again.office.slug, again.sufficient) == (office, sufficient)


def test_what_the_envelope_granted_is_judged_again_too() -> None:
    approval = ask(500, by="")
    draft = lower_limits()
    services.adopt_matrix(number=draft.number, approver="CA-2026-014", valid_from=NEXT, at=T0)
    then, now = (services.rejudge(approval=approval, when=when) for when in (T0, NEXT))
    assert then is not None
    assert now is not None
    assert (then.sufficient, now.sufficient) == (True, False)
    assert services.rejudge(approval=approval, when=EPOCH - MINUTE) is None


def test_what_the_board_approved_satisfies_a_matrix_that_asks_for_less() -> None:
    approval = ask(0, matter="merger")
    for n in (1, 2, 3):
        decide(approval, f"board{n}")
    again = services.rejudge(approval=approval, when=T0)
    assert again is not None
    assert (again.required, again.sufficient) == (3, True)


@pytest.mark.parametrize(
    ("approver", "start", "word"),
    [
        ("ana", NEXT, "other than its author"),
        ("", NEXT, "other than its author"),
        ("eva", T0 - MINUTE, "past"),
    ],
)
def test_an_adoption_is_refused(approver: str, start: datetime, word: str) -> None:
    draft = lower_limits()
    with pytest.raises(ValueError, match=word):
        services.adopt_matrix(number=draft.number, approver=approver, valid_from=start, at=T0)
    assert MatrixVersion.objects.get(number=1).valid_to is None


def test_versions_come_one_after_the_other() -> None:
    for start in (NEXT, NEXT + DAY):
        services.adopt_matrix(number=lower_limits().number, approver="eva", valid_from=start, at=T0)
    with pytest.raises(ValueError, match="no earlier"):
        services.adopt_matrix(number=lower_limits().number, approver="eva", valid_from=NEXT + HOUR, at=T0)
    with pytest.raises(ValueError, match="not a draft"):
        services.adopt_matrix(number=2, approver="eva", valid_from=NEXT + 9 * DAY, at=T0)


@pytest.mark.parametrize(
    ("rules", "word"),
    [
        ([RuleText("nothing", "board", None, None)], "no such"),
        ([RuleText("capex", "nobody", None)], "no such"),
        ([RuleText("capex", "group-cfo", Decimal(5)), RuleText("capex", "group-cro", Decimal(6))], "one rank"),
        ([RuleText("capex", "group-cfo", Decimal(5)), RuleText("capex", "group-ceo", Decimal(4))], "under"),
        ([RuleText("capex", "group-cfo", None), RuleText("capex", "group-ceo", Decimal(4))], "under"),
        ([RuleText("capex", "group-cfo", Decimal(-1))], "from 0"),
        ([RuleText("capex", "group-cfo", Decimal("Infinity"))], "from 0"),
        ([RuleText("capex", "board", None, 1)], "majority"),
        ([RuleText("capex", "group-cfo", None, None)], "majority"),
        ([RuleText("capex", "group-cfo", None, 0)], "majority"),
        ([RuleText("capex", "agent-envelope", None)], "has a limit"),
        ([RuleText("merger", "group-ceo", Decimal(5))], "reserved"),
    ],
)
def test_a_draft_that_cannot_be_is_refused(rules: list[RuleText], word: str) -> None:
    with pytest.raises(MatrixError, match=word):
        services.draft_matrix(author="ana", rules=rules, at=T0)
    assert MatrixVersion.objects.count() == 1
