"""Writes of who holds authority: appointments, delegations, substitutions, interests."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import TypeVar

from django.db import transaction
from django.utils.translation import gettext as _

from audit import services as audit
from holding import clock
from holding.models import Unit
from iam.access.models import User
from iam.authority.matrix import matrix_at
from iam.authority.models import Appointment, Delegation, Interest, Matter, Office, Rule, Substitution


class HolderError(ValueError):
    """Authority that cannot be given so; the text says why."""


class NotHolderError(HolderError):
    """Authority that is not this person's to give."""


# --- appointments ------------------------------------------------------------------------------------------


@transaction.atomic
def appoint_to_office(
    *,
    office: str,
    person: User,
    actor: str,
    unit: Unit | None = None,
    valid_from: datetime | None = None,
    valid_to: datetime | None = None,
) -> Appointment:
    """Give a person an office, of a unit where the office is one of units, from now unless told otherwise.

    Raises NotHolderError when `actor` is the person; HolderError when the unit is missing or too much, when the
    person holds the office already in that time, or when it ends before it begins.
    """
    # Locked, so that two appointments at once cannot each miss the other.
    found = Office.objects.select_for_update().get(slug=office)
    start = valid_from or clock.now()
    if (found.scope == Office.Scope.UNIT) != (unit is not None):
        raise HolderError(_("An office of units needs a unit, and no other office has one."))
    if person.get_username() == actor:  # else an administrator could make a second pair of eyes of their own
        raise NotHolderError(_("Nobody appoints themselves."))
    _check_span(start, valid_to)
    same = Appointment.objects.filter(office=found, person=person, unit=unit).exclude(valid_to__lte=start)
    if any(valid_to is None or other.valid_from < valid_to for other in same):
        raise HolderError(_("The person holds this office already in that time."))
    appointment = Appointment.objects.create(
        office=found, person=person, unit=unit, valid_from=start, valid_to=valid_to, recorded_by=actor
    )
    _record(
        actor,
        "office.appoint",
        f"person/{person.pk}",
        {"office": office, "unit": unit.slug if unit else "", "appointment": appointment.pk, **_span(appointment)},
    )
    return appointment


@transaction.atomic
def end_appointment(*, appointment: Appointment, actor: str, at: datetime | None = None) -> Appointment:
    """End an appointment, now unless told otherwise; delegations from it end with it. Ended already: unchanged."""
    ended = _end(Appointment.objects.select_for_update().get(pk=appointment.pk), at)
    if ended:
        _record(actor, "office.end", f"person/{ended.person_id}", {"appointment": ended.pk, **_span(ended)})
    return ended or appointment


# --- delegations -------------------------------------------------------------------------------------------


@transaction.atomic
def delegate(
    *,
    appointment: Appointment,
    delegator: User,
    person: User,
    reason: str,
    matters: Iterable[str] = (),
    limit: Decimal | None = None,
    valid_from: datetime | None = None,
    valid_to: datetime | None = None,
) -> Delegation:
    """Lend the authority of an appointment, for the matters named (none: all), up to a limit (None: its own).

    It ends with the appointment. Raises NotHolderError when `delegator` does not hold the appointment itself (a
    delegate cannot delegate on); HolderError for a seat in a body, for a matter that the office does not decide,
    and for a limit above the office's own under the matrix in force.
    """
    held = Appointment.objects.select_related("office").select_for_update(of=("self",)).get(pk=appointment.pk)
    start, slugs = valid_from or clock.now(), sorted(set(matters))
    if held.person_id != delegator.pk:
        raise NotHolderError(_("Only who holds an office can delegate it: a delegate cannot delegate on."))
    if person.pk == delegator.pk:
        raise HolderError(_("Nobody delegates to themselves."))
    if held.office.scope == Office.Scope.BODY:
        raise HolderError(_("A seat in a body is not delegated: its proxies are the body's own matter."))
    if not Appointment.objects.at(start).filter(pk=held.pk).exists():
        raise HolderError(_("The appointment does not hold at that time."))
    _check_span(start, valid_to)
    _check_limit(held.office, slugs, limit, start)
    delegation = Delegation.objects.create(
        appointment=held,
        delegator=delegator,
        person=person,
        matters=slugs,
        limit=limit,
        reason=reason,
        valid_from=start,
        valid_to=valid_to,
        recorded_by=delegator.get_username(),
    )
    _record(
        delegator.get_username(),
        "office.delegate",
        f"person/{person.pk}",
        {
            "delegation": delegation.pk,
            "appointment": held.pk,
            "matters": slugs,
            "limit": None if limit is None else str(limit),
            "reason": reason,
            **_span(delegation),
        },
    )
    return delegation


def _check_limit(office: Office, slugs: list[str], limit: Decimal | None, at: datetime) -> None:
    if limit is not None and (not limit.is_finite() or limit < 0):
        raise HolderError(_("A limit is a number from 0."))
    if limit is not None and not slugs:
        raise HolderError(_("A limit needs the matters that it is measured in."))
    rules = Rule.objects.filter(version=matrix_at(at), office=office).select_related("matter")
    own = {rule.matter.slug: rule.limit for rule in rules}
    if unknown := [slug for slug in slugs if slug not in own]:
        raise HolderError(_("The office does not decide: %(matters)s.") % {"matters": ", ".join(unknown)})
    measures = set(Matter.objects.filter(slug__in=slugs).values_list("measure", flat=True))
    if limit is not None and len(measures) > 1:
        raise HolderError(_("Matters of different measures have no limit in common."))
    for slug in slugs:
        most = own[slug]
        if limit is not None and most is not None and limit > most:
            raise HolderError(
                _("%(matter)s: the limit is above the delegator's own, %(limit)s.")
                % {"matter": slug, "limit": f"{most.normalize():f}"}
            )


@transaction.atomic
def revoke_delegation(*, delegation: Delegation, actor: str, at: datetime | None = None) -> Delegation:
    """End a delegation, now unless told otherwise. Ended already: unchanged."""
    ended = _end(Delegation.objects.select_for_update().get(pk=delegation.pk), at)
    if ended:
        _record(actor, "office.revoke", f"person/{ended.person_id}", {"delegation": ended.pk, **_span(ended)})
    return ended or delegation


# --- substitutions and interests ---------------------------------------------------------------------------


@transaction.atomic
def substitute(
    *,
    person: User,
    substitute: User,
    reason: str,
    actor: str,
    valid_from: datetime | None = None,
    valid_to: datetime | None = None,
) -> Substitution:
    """Let somebody decide with all offices of an absent person. Not with what was delegated to that person.

    Raises HolderError for the person themselves, and when somebody else stands in for them in that time.
    """
    start = valid_from or clock.now()
    User.objects.select_for_update(no_key=True).get(pk=person.pk)
    if person.pk == substitute.pk:
        raise HolderError(_("Nobody stands in for themselves."))
    _check_span(start, valid_to)
    others = Substitution.objects.filter(person=person).exclude(valid_to__lte=start)
    if any(valid_to is None or other.valid_from < valid_to for other in others):
        raise HolderError(_("Somebody stands in for the person already in that time."))
    made = Substitution.objects.create(
        person=person, substitute=substitute, reason=reason, valid_from=start, valid_to=valid_to, recorded_by=actor
    )
    _record(
        actor,
        "office.substitute",
        f"person/{person.pk}",
        {"substitution": made.pk, "substitute": substitute.get_username(), "reason": reason, **_span(made)},
    )
    return made


@transaction.atomic
def end_substitution(*, substitution: Substitution, actor: str, at: datetime | None = None) -> Substitution:
    """End a substitution, now unless told otherwise. Ended already: unchanged."""
    ended = _end(Substitution.objects.select_for_update().get(pk=substitution.pk), at)
    if ended:
        _record(actor, "office.return", f"person/{ended.person_id}", {"substitution": ended.pk, **_span(ended)})
    return ended or substitution


@transaction.atomic
def declare_interest(
    *,
    person: User,
    kind: Interest.Kind,
    actor: str,
    unit: Unit | None = None,
    counterparty: str = "",
    valid_from: datetime | None = None,
    valid_to: datetime | None = None,
) -> Interest:
    """Note a person's interest in a unit or else in a counterparty: they are recused from what touches it.

    Raises HolderError when it names neither or both.
    """
    start, name = valid_from or clock.now(), party(counterparty)
    if (unit is None) == (not name):
        raise HolderError(_("An interest is in a unit or in a counterparty."))
    _check_span(start, valid_to)
    interest = Interest.objects.create(
        person=person, kind=kind, unit=unit, counterparty=name, valid_from=start, valid_to=valid_to,
        recorded_by=actor,
    )  # fmt: skip
    _record(
        actor,
        "interest.declare",
        f"person/{person.pk}",
        {"interest": interest.pk, "kind": kind, "in": unit.slug if unit else name, **_span(interest)},
    )
    return interest


@transaction.atomic
def end_interest(*, interest: Interest, actor: str, at: datetime | None = None) -> Interest:
    """End an interest, now unless told otherwise. Ended already: unchanged."""
    ended = _end(Interest.objects.select_for_update().get(pk=interest.pk), at)
    if ended:
        _record(actor, "interest.end", f"person/{ended.person_id}", {"interest": ended.pk, **_span(ended)})
    return ended or interest


def party(text: str) -> str:
    """Return the one spelling of a counterparty's name, but for its case."""
    return " ".join(text.split())


# --- spans -------------------------------------------------------------------------------------------------

Held = TypeVar("Held", Appointment, Delegation, Substitution, Interest)


def _check_span(start: datetime, end: datetime | None) -> None:
    if end is not None and end <= start:
        raise HolderError(_("It would end before it begins."))


def _span(row: Appointment | Delegation | Substitution | Interest) -> dict[str, str | None]:
    return {"from": row.valid_from.isoformat(), "to": row.valid_to.isoformat() if row.valid_to else None}


def _end(row: Held, at: datetime | None) -> Held | None:
    """Write the end of a row, at its beginning if that is still to come; None when it has an earlier end."""
    when = max(at or clock.now(), row.valid_from)
    if row.valid_to is not None and row.valid_to <= when:
        return None
    row.valid_to = when
    row.save(update_fields=["valid_to"])
    return row


def _record(actor: str, action: str, object: str, details: dict[str, object]) -> None:
    audit.record(actor=actor, action=action, object=object, after=details, details=details)
