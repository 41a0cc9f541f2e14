"""Who may decide an approval, whether enough people have, and what another version of the matrix would have asked.

Reads only. Authority is judged when a decision is given, against the levels written when it was asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q
from django.utils import formats
from django.utils.translation import gettext as _

from holding import clock
from holding.scope import Units
from iam.access.models import User
from iam.authority.matrix import matrix_at
from iam.authority.models import (
    ENVELOPE,
    Appointment,
    Approval,
    Decision,
    Delegation,
    Hat,
    Interest,
    Level,
    MatrixVersion,
    Office,
    Rule,
    Substitution,
)
from iam.authority.models.holders import hats, same_eyes


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether a person may decide, why (a sentence), and under which title."""

    allowed: bool
    reason: str
    hat: Hat | None = None


def explain(
    *,
    approval: Approval,
    person: User,
    acting_for: User | None = None,
    acting_as: str = "",
    at: datetime | None = None,
) -> Answer:
    """Say whether a person may decide an approval now, and why.

    With `acting_for`, only in that person's stead; with `acting_as`, only under the title of that key (`Hat.key`).
    The state is the one that `approval` was read with.
    """
    when = at or clock.now()
    levels = list(approval.levels.select_related("office"))
    if refusal := _refused_whatever_title(approval, person, when):
        return Answer(False, refusal)
    held = [hat for hat in hats(person, when) if acting_as in {"", hat.key}]
    if acting_as and not held:
        return Answer(False, _("The person does not hold the title that was chosen."))
    titles = [hat for hat in held if _concerns(hat, approval, levels)]
    if acting_as and not titles:
        return Answer(False, _("%(title)s This title does not decide it.") % {"title": _why(held[0])})
    if acting_for is not None:
        titles = [hat for hat in titles if hat.acting_for == acting_for]
    if not titles:
        return Answer(False, _no_title(approval, person, levels, when))
    refusals = [(_refused_under(hat, approval, when), hat) for hat in sorted(titles, key=_preference)]
    for refusal, hat in refusals:
        if not refusal:
            return Answer(True, _why(hat), hat)
    return Answer(False, refusals[0][0])


def titles(*, approval: Approval, person: User, at: datetime) -> list[Hat]:
    """Return the titles under which a person may decide an approval; without a choice the first is taken."""
    if _refused_whatever_title(approval, person, at):
        return []
    levels = list(approval.levels.select_related("office"))
    held = [hat for hat in hats(person, at) if _concerns(hat, approval, levels)]
    return [hat for hat in sorted(held, key=_preference) if not _refused_under(hat, approval, at)]


def _preference(hat: Hat) -> tuple[bool, bool, int]:
    """One's own office first, an office that decides alone before a seat in a body, the higher first."""
    office = hat.appointment.office
    return hat.acting_for is not None, office.scope == Office.Scope.BODY, -office.rank


def _refused_whatever_title(approval: Approval, person: User, when: datetime) -> str:
    """Why a person does not decide it under any title; "" when one may do."""
    refusals = (
        (
            approval.state != Approval.State.PENDING,
            _("It is no longer waiting for a decision: %(state)s.") % {"state": approval.get_state_display()},
        ),
        (approval.expires_at <= when, _("It expired before it was decided.")),
        (
            not (person.is_active and person.cleared),
            _("The person is not active, or has no clearance."),
        ),
        (person.pk in askers(approval), _("Who asked for it does not decide it.")),
        (person.pk in recused(approval, when), _("The person has an interest in it, or is a party to it.")),
        (
            approval.decisions.filter(person=person).exists(),
            _("The person has decided it already; one person counts once."),
        ),
    )
    return next((reason for refused, reason in refusals if refused), "")


def _concerns(hat: Hat, approval: Approval, levels: Sequence[Level]) -> bool:
    office = hat.appointment.office
    return (
        any(level.office_id == office.pk for level in levels)
        and (office.scope != Office.Scope.UNIT or hat.appointment.unit_id == approval.unit_id)
        and (hat.delegation is None or hat.delegation.names(approval.matter))
    )


def _refused_under(hat: Hat, approval: Approval, when: datetime) -> str:
    """Why a title does not allow to decide; "" when it does."""
    owner, delegation = hat.appointment.person, hat.delegation
    if owner.pk in askers(approval):
        return _("Who acts for the one who asked for it does not decide it.")
    if owner.pk in recused(approval, when):
        return _("The one acted for has an interest in it, or is a party to it.")
    if Decision.objects.filter(approval=approval).represents(owner).exists():
        return _("It was decided already on the authority of %(person)s.") % {"person": owner}
    if delegation is not None and delegation.limit is not None and approval.judged > delegation.limit:
        return _("The value judged is above the limit of the delegation.")
    return ""


def _no_title(approval: Approval, person: User, levels: Sequence[Level], when: datetime) -> str:
    offices = [level.office for level in levels]
    held = Appointment.objects.filter(office__in=offices).filter(Q(unit=None) | Q(unit=approval.unit))
    ended = (
        *held.filter(person=person, valid_to__lte=when),
        *Delegation.objects.filter(appointment__in=held, person=person, valid_to__lte=when),
        *Delegation.objects.filter(appointment__in=held.filter(valid_to__lte=when), person=person),
        *Substitution.objects.filter(person__in=held.values("person"), substitute=person, valid_to__lte=when),
    )
    names = ", ".join(office.name for office in offices)
    if ended:
        day = formats.date_format(max(_ended_at(row) for row in ended), "SHORT_DATETIME_FORMAT")
        return _("The person's authority as %(offices)s ended: %(when)s.") % {"offices": names, "when": day}
    return _("Only %(offices)s may decide it, and the person holds no such office.") % {"offices": names}


def _ended_at(row: Appointment | Delegation | Substitution) -> datetime:
    ends = [row.valid_to, row.appointment.valid_to if isinstance(row, Delegation) else None]
    return min(end for end in ends if end is not None)


def _why(hat: Hat) -> str:
    office = hat.appointment.office.name
    if hat.acting_for:
        return _("As %(office)s, for %(person)s.") % {"office": office, "person": hat.acting_for}
    return _("As %(office)s.") % {"office": office}


def visible(*, pk: int, person: User, units: Units, at: datetime, only: bool = False) -> Approval | None:
    """Return an approval of these units (None: of all), or one of any unit that concerns the person; else None.

    With `only`, of these units alone, also when it concerns the person.
    """
    rows = Approval.objects.for_listing().filter(pk=pk)
    found = rows.of_units(units).first()
    return found if found or only else rows.concerning(person, at).first()


# --- counting ----------------------------------------------------------------------------------------------


def askers(approval: Approval) -> set[int]:
    """Return the ids of the accounts that are one pair of eyes with the requester: its owner's, and the owner."""
    return {one.pk for one in same_eyes(approval.requester)} if approval.requester else set()


def recused(approval: Approval, at: datetime) -> set[int]:
    """Return the ids of the people who are parties to an approval, or had an interest in it since it was asked for.

    At any time since then: else whoever has an interest would end it, decide, and declare it again.
    """
    interested = Interest.objects.during(approval.requested_at, at).touching(
        approval.unit_id, approval.counterparty
    )
    return {*approval.parties, *interested.values_list("person_id", flat=True)}


def eligible(approval: Approval, office: Office, at: datetime) -> set[int]:
    """Return the ids of the holders of an office who could decide: neither the requester's eyes nor recused."""
    held = Appointment.objects.holding(office, approval.unit, at).values_list("person_id", flat=True)
    return set(held) - recused(approval, at) - askers(approval)


def counting_towards(office: Office, offices: Sequence[Office]) -> list[Office]:
    """Return which of the offices count where one is required: of a body itself, else its rank and above."""
    if office.scope == Office.Scope.BODY:
        return [office]
    return [other for other in offices if other.scope != Office.Scope.BODY and other.rank >= office.rank]


def majority(members: int) -> int:
    """Return the least number that is more than half."""
    return members // 2 + 1


def outcome(approval: Approval, at: datetime) -> Approval.State | None:
    """Return what the decisions given so far come to; None while it is open.

    One no of an office rejects; a body rejects when a majority for it is out of reach. Members who join
    a body meanwhile raise its majority.
    """
    levels = list(approval.levels.select_related("office"))
    offices = [level.office for level in levels]
    rejected = False
    for level in levels:
        counting = counting_towards(level.office, offices)
        yes = approval.decisions.people(counting, Decision.Verdict.APPROVE)
        no = approval.decisions.people([level.office], Decision.Verdict.REJECT)
        needed = level.required
        if level.majority:
            members = len(_members(approval, level.office, at))
            needed = max(needed, majority(members))
            rejected |= bool(no) and members - len(no) < needed
        else:
            rejected |= bool(no)
        if len(yes) >= needed:
            return Approval.State.APPROVED
    return Approval.State.REJECTED if rejected else None


def _members(approval: Approval, office: Office, at: datetime) -> set[int]:
    """The members of a body who can vote or have voted."""
    voted = approval.decisions.filter(office=office).values_list("acting_for_id", "person_id")
    return eligible(approval, office, at) | {owner or person for owner, person in voted}


# --- the past ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rejudgement:
    """What a version of the matrix asks of an approval, and whether the decisions given satisfy it."""

    version: MatrixVersion
    office: Office | None  # None: nobody may decide it
    required: int
    sufficient: bool


def rejudge(*, approval: Approval, when: datetime) -> Rejudgement | None:
    """Judge an approval by the matrix of another time; None when there was none. The value judged stays."""
    version = matrix_at(when)
    if version is None:
        return None
    rule = Rule.objects.covering(version, approval.matter, approval.judged).first()
    if rule is None:
        return Rejudgement(version, None, 0, False)
    if rule.office.slug == ENVELOPE:
        return Rejudgement(version, rule.office, 0, approval.by_rule or _is_granted(approval))
    at = approval.settled_at or when
    needed = rule.required or majority(len(_members(approval, rule.office, at)))
    given = [decision.office for decision in approval.decisions.select_related("office")]
    people = approval.decisions.people(counting_towards(rule.office, given), Decision.Verdict.APPROVE)
    by_higher_body = any(
        level.office.rank > rule.office.rank
        and len(approval.decisions.people([level.office], Decision.Verdict.APPROVE)) >= level.required
        for level in approval.levels.filter(majority=True).select_related("office")
    )
    return Rejudgement(version, rule.office, needed, len(people) >= needed or by_higher_body)


def _is_granted(approval: Approval) -> bool:
    return approval.state in {Approval.State.APPROVED, Approval.State.EXECUTED, Approval.State.FAILED}
