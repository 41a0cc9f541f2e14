"""What one may see of who holds authority: of the units in view, and one's own whatever the unit."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Exists, F, OuterRef, Q, QuerySet

from holding.scope import Units
from iam.access.models import User
from iam.authority.models import Appointment, Delegation, Hat, Interest, Office, Substitution
from iam.authority.models.holders import hats


def appointments(*, person: User, units: Units) -> QuerySet[Appointment]:
    """Return who holds the offices of the group and of these units (None: of all), and what the person holds."""
    rows = Appointment.objects.select_related("office", "person", "unit")
    return rows if units is None else rows.filter(Q(unit=None) | Q(unit__in=units) | Q(person=person))


def holders(*, at: datetime, unit: str, units: Units) -> QuerySet[Appointment]:
    """Return who holds the offices of the group and, of those units that are in view, of the one named."""
    of_units = Q(unit__slug=unit) if units is None else Q(unit__slug=unit, unit__in=units)
    return (
        Appointment.objects.at(at)
        .filter(Q(unit=None) | of_units)
        .select_related("office", "person", "unit")
        .order_by("-office__rank", "office__slug", "person__last_name")
    )


def delegations(*, person: User, units: Units) -> QuerySet[Delegation]:
    """Return the loans of offices of these units (None: of all), and those that the person gave or got."""
    rows = Delegation.objects.select_related("appointment__office", "appointment__unit", "delegator", "person")
    if units is None:
        return rows
    return rows.filter(Q(appointment__unit__in=units) | Q(delegator=person) | Q(person=person))


def substitutions(*, person: User, units: Units, at: datetime) -> QuerySet[Substitution]:
    """Return who stands in for those who hold an office of these units (None: of all), and for or by the person."""
    rows = Substitution.objects.select_related("person", "substitute")
    if units is None:
        return rows
    return rows.filter(_of_a_holder(units, at) | Q(person=person) | Q(substitute=person))


def interests(*, person: User, units: Units, at: datetime) -> QuerySet[Interest]:
    """Return the interests of those who hold an office of these units (None: of all), and the person's own."""
    rows = Interest.objects.select_related("person", "unit")
    return rows if units is None else rows.filter(_of_a_holder(units, at) | Q(person=person))


def _of_a_holder(units: frozenset[int], at: datetime) -> Q:
    return Q(Exists(Appointment.objects.at(at).filter(person=OuterRef("person"), unit__in=units)))


def lendable(*, person: User, at: datetime) -> QuerySet[Appointment]:
    """Return the appointments that a person may lend: their own, but for seats in bodies."""
    return (
        Appointment.objects.in_office(at)
        .filter(person=person)
        .exclude(office__scope=Office.Scope.BODY)
        .select_related("office", "unit")
    )


@dataclass(frozen=True, slots=True)
class Mine:
    """What a person holds, lent and declared, and who stands in for them; what has ended is left out."""

    hats: list[Hat]
    lent: list[Delegation]
    absences: list[Substitution]
    interests: list[Interest]


def mine(*, person: User, at: datetime) -> Mine:
    """Read a person's own authority."""
    nothing: Units = frozenset()
    lent = delegations(person=person, units=nothing).filter(not_ended(at), delegator=person)
    absences = substitutions(person=person, units=nothing, at=at).filter(not_ended(at), person=person)
    own = interests(person=person, units=nothing, at=at).filter(not_ended(at))
    return Mine(hats=list(hats(person, at)), lent=list(lent), absences=list(absences), interests=list(own))


def not_ended(at: datetime) -> Q:
    """What holds at that time, or will; what ended as it began never did."""
    return Q(valid_to=None) | (Q(valid_to__gt=at) & Q(valid_to__gt=F("valid_from")))
