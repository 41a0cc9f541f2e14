"""What the database refuses by itself, whoever asks."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.db.models import F

from holding import scope
from iam.access.models import User
from iam.authority import services
from iam.authority.models import (
    Appointment,
    Approval,
    Decision,
    Delegation,
    Interest,
    Level,
    MatrixVersion,
    Matter,
    Office,
    Rule,
)
from iam.authority.tests.factories import (
    EPOCH,
    HOUR,
    NO,
    T0,
    YES,
    ask,
    decide,
    make_account,
    make_authority,
    office_of,
    who,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def authority(db: None) -> None:
    make_authority()


def refused(act: Callable[[], object]) -> str:
    """Return the words with which the database refuses; "" when it does not."""
    try:
        with transaction.atomic():
            act()
            connection.check_constraints()
    except DatabaseError as error:
        return str(error)
    return ""


def decision(approval: Approval, person: str, verdict: str = YES, **fields: Any) -> Decision:
    office = approval.levels.all()[0].office
    return Decision(
        approval=approval, person=who(person), office=office, verdict=verdict, at=T0, **{"note": "n", **fields}
    )


def delete_all(table: str) -> None:
    """Delete past Django, which would refuse by itself what other rows refer to."""
    with connection.cursor() as cursor:
        cursor.execute(f"delete from authority_{table}")  # noqa: S608 - a name of this module


@pytest.mark.parametrize("table", ["decision", "level", "approval", "appointment"])
def test_history_is_never_deleted(table: str) -> None:
    decide(ask(matter="payment-release"), "dora")
    assert "is refused" in refused(lambda: delete_all(table))


@pytest.mark.parametrize(
    "change",
    [
        {"parameters": {"cap": 1}}, {"digest": "x"}, {"judged": 1}, {"value": 1}, {"requester": None},
        {"action": "x"}, {"by_rule": True}, {"title": "x"}, {"expires_at": F("expires_at") + timedelta(days=9)},
    ],
)  # fmt: skip
def test_what_was_asked_for_stays(change: dict[str, Any]) -> None:
    ask()
    assert "stays as it is" in refused(lambda: Approval.objects.update(**change))


def test_what_was_decided_stays() -> None:
    decide(ask(matter="payment-release"), "dora")
    assert "stays as it is" in refused(lambda: Decision.objects.update(verdict=NO))
    assert "stays as it is" in refused(lambda: Level.objects.update(required=1))


@pytest.mark.parametrize("table", ["rule", "matrixversion", "matter", "office"])
def test_a_version_in_force_is_never_deleted(table: str) -> None:
    assert refused(lambda: delete_all(table))


def test_a_version_in_force_never_changes() -> None:
    version, rule = MatrixVersion.objects.get(), Rule.objects.all()[0]
    assert refused(lambda: Rule.objects.filter(pk=rule.pk).update(limit=Decimal(1)))
    assert refused(
        lambda: Rule.objects.create(
            version=version, matter=rule.matter, office=Office.objects.get(slug="ethics-committee")
        )
    )
    for change in ({"valid_from": T0}, {"digest": "x"}, {"approver": "other"}, {"status": "draft"}, {"number": 9}):
        assert "never changes" in refused(partial(MatrixVersion.objects.update, **change)), change
    draft = services.draft_matrix(author="ana", rules=[services.RuleText("capex", "group-cfo", Decimal(5))], at=T0)
    assert refused(partial(Rule.objects.filter(pk=rule.pk).update, version=draft))
    assert Rule.objects.filter(version=draft).update(limit=Decimal(6)) == 1
    draft.delete()


def test_at_most_one_version_is_in_force() -> None:
    assert refused(
        lambda: MatrixVersion.objects.create(
            number=2, status="adopted", valid_from=T0, author="a", approver="b", digest="x", created_at=T0
        )
    )
    assert refused(
        lambda: MatrixVersion.objects.create(
            number=2, status="superseded", valid_from=EPOCH, valid_to=T0, author="a", approver="b", digest="x",
            created_at=T0,
        )
    )  # fmt: skip
    assert refused(
        lambda: MatrixVersion.objects.create(
            number=2, status="superseded", valid_from=EPOCH - HOUR, valid_to=EPOCH, author="a", approver="a",
            digest="x", created_at=T0,
        )
    )  # fmt: skip


@pytest.mark.parametrize("change", [{"reserved": False}, {"measure": "count"}, {"slug": "else"}])
def test_what_judgements_follow_from_stays(change: dict[str, Any]) -> None:
    assert refused(lambda: Matter.objects.filter(slug="merger").update(**change))
    assert Matter.objects.filter(slug="merger").update(sla_hours=1, name_es="Fusión") == 1


def test_four_eyes() -> None:
    approval = ask(by="dora")
    substitution = services.substitute(
        person=who("dora"), substitute=who("omar"), reason="r", actor="t", valid_from=EPOCH
    )
    for_dora = decision(approval, "omar", acting_for=who("dora"), substitution=substitution)
    for forbidden in (decision(approval, "dora"), for_dora):
        assert "the requester does not decide" in refused(forbidden.save)
    decision(approval, "dani").save()


def test_an_account_is_the_same_pair_of_eyes_as_its_owner() -> None:
    approval = ask(by=make_account("svc-dora", "dora").username)
    other = make_account("agent-dora", "dora", kind=User.Kind.AGENT)
    substitution = services.substitute(
        person=who("dora"), substitute=who("omar"), reason="r", actor="t", valid_from=EPOCH
    )
    for_dora = decision(approval, "omar", acting_for=who("dora"), substitution=substitution)
    for forbidden in (decision(approval, "dora"), decision(approval, other.username), for_dora):
        assert "the requester does not decide" in refused(forbidden.save)
    asked = ask(by="dora")
    assert "the requester does not decide" in refused(decision(asked, other.username).save)
    decision(approval, "dani").save()


def test_one_person_once_by_hand_and_by_proxy() -> None:
    approval = ask(matter="payment-release")
    substitution = services.substitute(
        person=who("dora"), substitute=who("omar"), reason="r", actor="t", valid_from=EPOCH
    )
    for_dora: dict[str, Any] = {"acting_for": who("dora"), "substitution": substitution}
    for_omar: dict[str, Any] = {"acting_for": who("omar"), "substitution": substitution}
    decision(approval, "dora").save()
    for again, constraint in (
        (decision(approval, "dora"), "decision_by_person_once"),
        (decision(approval, "omar", **for_dora), "decision_for_person_once"),
        (decision(approval, "dora", **for_omar), "decision_by_person_once"),
        (decision(approval, "dani", NO, note=""), "decision_note_on_reject"),
        (decision(approval, "dani", acting_for=who("omar")), "decision_title"),
        (decision(approval, "dani", substitution=substitution), "decision_title"),
    ):
        assert constraint in refused(again.save)


@pytest.mark.parametrize(
    ("state", "times"),
    [
        ("approved", {"settled_at": T0}),
        ("rejected", {"settled_at": T0}),
        ("executed", {"settled_at": T0, "executed_at": T0}),
        ("failed", {"settled_at": T0}),
        ("expired", {}),
    ],
)
def test_a_state_is_not_skipped(state: str, times: dict[str, Any]) -> None:
    ask()
    assert refused(lambda: Approval.objects.update(state=state, **times))


def test_a_settled_request_stays_settled_and_takes_no_decision() -> None:
    approval = ask()
    decide(approval, "dora", NO)
    for state in ("pending", "approved", "executed", "expired"):
        assert refused(partial(Approval.objects.update, state=state)), state
    assert "takes no decision" in refused(decision(approval, "dani").save)
    assert refused(lambda: Approval.objects.update(failure="x"))


@pytest.mark.parametrize("fields", [{"state": "executed"}, {"state": "approved"}, {"by_rule": True}])
def test_a_request_begins_as_one(fields: dict[str, Any]) -> None:
    approval = ask()
    approval.pk, approval.key, approval.settled_at, approval.executed_at = None, "other", None, None
    for name, value in fields.items():
        setattr(approval, name, value)
    if approval.state != "pending":
        approval.settled_at = T0
    if approval.state == "executed":
        approval.executed_at = T0
    assert refused(approval.save)


def test_only_ends_of_authority_are_written_and_never_put_off() -> None:
    appointment = office_of("paula")
    services.end_appointment(appointment=appointment, actor="t", at=T0)
    mine = Appointment.objects.filter(pk=appointment.pk)
    assert refused(lambda: mine.update(valid_to=None))
    assert refused(lambda: mine.update(valid_to=T0 + HOUR))
    assert refused(lambda: mine.update(person=who("omar")))
    assert refused(mine.delete)
    assert "its end stays" in refused(lambda: mine.update(valid_to=T0 - HOUR))
    services.declare_interest(
        person=who("dora"), kind=Interest.Kind.OTHER, counterparty="Acme", actor="t", valid_from=EPOCH
    )
    assert refused(lambda: Interest.objects.update(counterparty="Bolt"))
    assert refused(lambda: Interest.objects.update(valid_to=EPOCH - HOUR))


def test_no_end_is_written_to_before_a_decision_given_under_it() -> None:
    lent = services.delegate(
        appointment=office_of("dora"), delegator=who("dora"), person=who("omar"), reason="r", valid_from=EPOCH
    )
    absent = services.substitute(
        person=who("paula"), substitute=who("sara"), reason="r", actor="t", valid_from=EPOCH
    )
    decide(ask(), "omar", acting_for="dora")
    decide(ask(400_000), "sara", acting_for="paula")
    decide(ask(unit="tax"), "toni")
    given = T0 + HOUR
    rows: tuple[Any, ...] = (office_of("dora"), lent, office_of("paula"), absent, office_of("toni"))
    with scope.opened(scope.Scope({"authority.manage": None})):  # decisions of units out of view count too
        for row in rows:
            same = type(row).objects.filter(pk=row.pk)
            assert "was given under it" in refused(lambda same=same: same.update(valid_to=given)), row  # type: ignore[misc]
        with connection.cursor() as cursor:
            cursor.execute("select current_setting('app.units')")
            assert cursor.fetchone() == ("",)
    for row in rows:
        assert type(row).objects.filter(pk=row.pk).update(valid_to=given + HOUR) == 1
    dani = Appointment.objects.filter(person=who("dani"))
    assert dani.update(valid_to=T0 - HOUR) == 1  # decided nothing


def test_only_the_holder_of_an_office_lends_it() -> None:
    def lend(delegator: str, to: str) -> None:
        Delegation.objects.create(
            appointment=office_of("paula"), delegator=who(delegator), person=who(to), reason="r", valid_from=T0,
            recorded_by="t",
        )  # fmt: skip

    lend("paula", "omar")
    assert refused(lambda: lend("omar", "sara"))
    assert refused(lambda: lend("paula", "paula"))
    assert refused(lambda: Delegation.objects.update(limit=Decimal(1)))
    assert refused(lambda: Delegation.objects.update(matters=["capex"]))
