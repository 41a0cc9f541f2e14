"""Writes of approvals: asking, deciding, executing; and the doors to the other writes of authority.

Whoever writes an approval holds its row's lock. What is approved is executed by the call that approved it, in a
transaction of its own; if that is lost, `tick` executes it. The effect and the state `executed` commit together,
so it happens once.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import OperationalError, transaction
from django.db.models import Max, QuerySet
from django.utils.translation import gettext as _

from audit import services as audit
from holding import clock
from holding.scope import EVERYTHING, Units, opened
from iam.access.models import User
from iam.authority import (
    actions,
    asking,
    judging,
    matrix,
    offices,
    people,
    proposals,
    rates,
    reading,
    seen,
    telling,
)
from iam.authority.models import Approval, Decision, Hat, Level, Rule

log = logging.getLogger(__name__)

register_action = actions.register_action
rejudge = judging.rejudge
matrix_at = matrix.matrix_at
draft_matrix = matrix.draft_matrix
adopt_matrix = matrix.adopt_matrix
install_matrix = matrix.install_matrix
propose = proposals.propose
propose_text = proposals.propose_text
changes_of = proposals.changes_of
text_of = proposals.text_of
appoint_to_office = offices.appoint_to_office
end_appointment = offices.end_appointment
delegate = offices.delegate
revoke_delegation = offices.revoke_delegation
substitute = offices.substitute
end_substitution = offices.end_substitution
declare_interest = offices.declare_interest
end_interest = offices.end_interest
load_people = people.load_people
record_rate = rates.record_rate
holders = seen.holders
lendable = seen.lendable
not_ended = seen.not_ended
appointments_seen = seen.appointments
delegations_seen = seen.delegations
substitutions_seen = seen.substitutions
interests_seen = seen.interests

Request = asking.Request
Preview = asking.Preview
Answer = judging.Answer
Mine = seen.Mine
Rejudgement = judging.Rejudgement
Change = proposals.Change
Proposal = proposals.Proposal
RuleText = reading.RuleText
NoAuthorityError = asking.NoAuthorityError
KeyInUseError = asking.KeyInUseError
MatrixError = reading.MatrixError
NotAdopterError = matrix.NotAdopterError
HolderError = offices.HolderError
NotHolderError = offices.NotHolderError
PeopleError = people.PeopleError
RateError = rates.RateError
UnusualRateError = rates.UnusualRateError
SOURCE = telling.SOURCE


class NotAllowedError(ValueError):
    """The person may not do this to the approval; the text says why."""


def mine(*, person: User, at: datetime) -> Mine:
    """Return what a person holds, lent and declared, of whatever unit."""
    with opened(EVERYTHING):
        return seen.mine(person=person, at=at)


# --- asking ------------------------------------------------------------------------------------------------


def request_approval(*, request: Request, at: datetime | None = None) -> Approval:
    """Ask for a decision; the same key again returns the first request. Within the envelope it is granted at once.

    Raises NoAuthorityError when nobody may decide it, KeyInUseError for the key of another request, RateError for a
    currency without a rate, ValueError for a value or parameters that cannot be. What counts, such as the requests
    that are added up, counts whether or not whoever asks may see it.
    """
    with opened(EVERYTHING):
        approval = asking.ask(request=request, at=at or clock.now())
        return _execute_if_approved(approval, at)


def preview(*, request: Request, at: datetime | None = None) -> Preview:
    """Return who would decide a request, without making it. Raises what `request_approval` raises."""
    with opened(EVERYTHING):
        return asking.preview(request=request, at=at or clock.now())


# --- deciding ----------------------------------------------------------------------------------------------


def visible(
    *, pk: int, person: User, units: Units, only: bool = False, at: datetime | None = None
) -> Approval | None:
    """Return an approval of these units (None: of all), or one of any unit that concerns the person; else None.

    It concerns whoever asked for it, decided it, or may decide it. With `only`, of these units alone.
    """
    with opened(EVERYTHING):
        return judging.visible(pk=pk, person=person, units=units, at=at or clock.now(), only=only)


def explain(
    *, approval: Approval, person: User, acting_for: User | None = None, at: datetime | None = None
) -> Answer:
    """Say whether a person may decide an approval, and why, in a sentence (see `judging.explain`)."""
    with opened(EVERYTHING):
        return judging.explain(approval=approval, person=person, acting_for=acting_for, at=at)


def titles(*, approval: Approval, person: User, at: datetime | None = None) -> list[Hat]:
    """Return the titles under which a person may decide an approval; without a choice the first is taken."""
    with opened(EVERYTHING):
        return judging.titles(approval=approval, person=person, at=at or clock.now())


def decide(
    *,
    approval: Approval,
    person: User,
    verdict: Decision.Verdict,
    note: str = "",
    acting_for: User | None = None,
    acting_as: str = "",
    at: datetime | None = None,
) -> Approval:
    """Give a person's decision; the one that completes the number required executes what was approved.

    `acting_as` is the key of the title that the person chose (`Hat.key`). Raises NotAllowedError with the reason,
    ValueError for a rejection without a note.
    """
    with opened(EVERYTHING):
        done = _decide(approval.pk, person, verdict, note.strip(), acting_for, at, acting_as)
        return _execute_if_approved(done, at)


@transaction.atomic
def _decide(
    pk: int,
    person: User,
    verdict: Decision.Verdict,
    note: str,
    acting_for: User | None,
    at: datetime | None,
    acting_as: str = "",
) -> Approval:
    if verdict == Decision.Verdict.REJECT and not note:
        raise ValueError(_("A rejection needs a note."))
    approval = Approval.objects.locked(pk)
    when = at or clock.now()
    answer = judging.explain(approval=approval, person=person, acting_for=acting_for, acting_as=acting_as, at=when)
    if answer.hat is None:
        raise NotAllowedError(answer.reason)
    hat = answer.hat
    Decision.objects.create(
        approval=approval,
        person=person,
        acting_for=hat.acting_for,
        office=hat.appointment.office,
        delegation=hat.delegation,
        substitution=hat.substitution,
        verdict=verdict,
        note=note,
        at=when,
    )
    details = {
        "verdict": Decision.Verdict(verdict).value,
        "office": hat.appointment.office.slug,
        "title": hat.key,
        "acting_for": hat.acting_for.get_username() if hat.acting_for else "",
        "note": note,
    }
    state = judging.outcome(approval, when)
    if state is None:
        telling.record(approval, actor=person.get_username(), action="approval.decide", details=details)
    else:
        _settle(approval, state, actor=person.get_username(), action="approval.decide", details=details, at=when)
    return approval


def withdraw(
    *,
    approval: Approval,
    person: User | None = None,
    actor: str = "",
    reason: str = "",
    at: datetime | None = None,
) -> Approval:
    """Take back a request that waits: a person their own, the portal (`actor`) what it asked for under that name.

    Raises NotAllowedError.
    """
    with opened(EVERYTHING):
        return _withdraw(approval.pk, person, actor, reason, at)


@transaction.atomic
def _withdraw(pk: int, person: User | None, actor: str, reason: str, at: datetime | None) -> Approval:
    found = Approval.objects.locked(pk)
    name = person.get_username() if person else actor
    if found.requester != person or found.actor != name:
        raise NotAllowedError(_("Only who asked for it can withdraw it."))
    if found.state != Approval.State.PENDING:
        raise NotAllowedError(_("It is no longer waiting for a decision."))
    _settle(
        found,
        Approval.State.WITHDRAWN,
        actor=name,
        action="approval.withdraw",
        details={"reason": reason},
        at=at or clock.now(),
    )
    return found


def _settle(
    approval: Approval,
    state: Approval.State,
    *,
    actor: str,
    action: str,
    details: dict[str, Any],
    at: datetime,
) -> None:
    before = telling.state_of(approval)
    approval.state, approval.settled_at = state.value, at
    approval.remind_at = approval.escalate_at = None
    approval.save(update_fields=["state", "settled_at", "remind_at", "escalate_at"])
    telling.record(approval, actor=actor, action=action, before=before, details=details)
    telling.tell(approval, at)


# --- executing ---------------------------------------------------------------------------------------------


def execute_approved(*, approval: Approval, at: datetime | None = None) -> Approval:
    """Execute what was approved, once: anything but `approved` is left as it is. A failure is recorded as such.

    Raises OperationalError when the database is lost meanwhile: then it stays approved, and `tick` executes it.
    """
    try:
        return _execute(approval.pk, at or clock.now())
    except OperationalError:
        raise
    except Exception as error:
        log.exception("approval %s: %s failed", approval.pk, approval.action)
        return _fail(approval.pk, str(error) or type(error).__name__, at or clock.now())


@transaction.atomic
def _execute(pk: int, at: datetime) -> Approval:
    approval = Approval.objects.locked(pk)
    if approval.state != Approval.State.APPROVED or not approval.action:
        return approval
    if audit.digest(approval.parameters) != approval.digest:
        raise ValueError(_("The parameters are not those that were approved."))
    action = actions.action_named(approval.action)
    action.verify(approval.parameters)
    action.run(approval)
    if action.confirm is not None and not action.confirm(approval):
        raise ValueError(_("It was carried out, but its effect is not there."))
    before = telling.state_of(approval)
    approval.state, approval.executed_at = Approval.State.EXECUTED.value, at
    approval.save(update_fields=["state", "executed_at"])
    telling.record(
        approval, actor=SOURCE, action="approval.execute", before=before, details={"action": approval.action}
    )
    telling.tell(approval, at)
    return approval


@transaction.atomic
def _fail(pk: int, reason: str, at: datetime) -> Approval:
    approval = Approval.objects.locked(pk)
    if approval.state != Approval.State.APPROVED:
        return approval
    before = telling.state_of(approval)
    approval.state, approval.failure = Approval.State.FAILED.value, reason[:500]
    approval.save(update_fields=["state", "failure"])
    telling.record(
        approval, actor=SOURCE, action="approval.fail", before=before, details={"reason": approval.failure}
    )
    telling.tell(approval, at)
    return approval


def _execute_if_approved(approval: Approval, at: datetime | None) -> Approval:
    if approval.state == Approval.State.APPROVED and approval.action:
        return execute_approved(approval=approval, at=at)
    return approval


# --- time --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tick:
    """How many approvals a tick reminded of, escalated, let expire and executed."""

    reminded: int
    escalated: int
    expired: int
    executed: int


def tick(*, at: datetime | None = None) -> Tick:
    """Do what time asks for: expire, execute what was approved and not executed, escalate, remind."""
    when = at or clock.now()
    pending = Approval.objects.filter(state=Approval.State.PENDING)
    approved = Approval.objects.filter(state=Approval.State.APPROVED).exclude(action="")
    expired = _each(pending.filter(expires_at__lte=when), lambda pk: _expire(pk, when))
    executed = _each(
        approved, lambda pk: execute_approved(approval=Approval.objects.get(pk=pk), at=when).executed_at is not None
    )
    escalated = _each(pending.filter(escalate_at__lte=when), lambda pk: _escalate(pk, when))
    reminded = _each(pending.filter(remind_at__lte=when), lambda pk: _remind(pk, when))
    return Tick(reminded=reminded, escalated=escalated, expired=expired, executed=executed)


def _each(approvals: QuerySet[Approval], do: Callable[[int], bool]) -> int:
    """Do something to each of the approvals and count those to which it was done; one's failure is its own."""
    done = 0
    for pk in approvals.order_by("pk").values_list("pk", flat=True):
        try:
            done += do(pk)
        except Exception:
            log.exception("approval %s: left for the next tick", pk)
    return done


@transaction.atomic
def _expire(pk: int, at: datetime) -> bool:
    approval = Approval.objects.locked(pk)
    if approval.state != Approval.State.PENDING or approval.expires_at > at:
        return False
    details = {"expired": approval.expires_at.isoformat()}
    _settle(approval, Approval.State.EXPIRED, actor=SOURCE, action="approval.expire", details=details, at=at)
    return True


@transaction.atomic
def _escalate(pk: int, at: datetime) -> bool:
    """Let the next rank decide too; those who could before still can."""
    approval = Approval.objects.locked(pk)
    if approval.state != Approval.State.PENDING or approval.escalate_at is None or approval.escalate_at > at:
        return False
    top = approval.levels.aggregate(rank=Max("office__rank"))["rank"]
    above = Rule.objects.covering(approval.version, approval.matter, approval.judged).filter(office__rank__gt=top)
    rest = asking.add_levels(approval=approval, rules=above, cause=Level.Cause.LATE, at=at)
    approval.escalate_at = at + timedelta(hours=approval.matter.sla_hours) if rest else None
    approval.save(update_fields=["escalate_at"])
    telling.record(
        approval, actor=SOURCE, action="approval.escalate", details={"offices": telling.office_slugs(approval)}
    )
    telling.call(approval, "escalate", len(telling.office_slugs(approval)))
    return True


@transaction.atomic
def _remind(pk: int, at: datetime) -> bool:
    approval = Approval.objects.locked(pk)
    if approval.state != Approval.State.PENDING or approval.remind_at is None or approval.remind_at > at:
        return False
    approval.remind_at = None
    approval.save(update_fields=["remind_at"])
    telling.record(
        approval, actor=SOURCE, action="approval.remind", details={"offices": telling.office_slugs(approval)}
    )
    telling.call(approval, "remind", 0)
    return True
