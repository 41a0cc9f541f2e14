"""The delegation of authority as a person sees it: the matrix of a version, who holds office, one's own titles."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q, QuerySet

from iam.access.models import User
from iam.authority.models import (
    Appointment,
    Delegation,
    Hat,
    Interest,
    MatrixVersion,
    Matter,
    Office,
    Rule,
    Substitution,
)
from iam.authority.models.holders import hats


@dataclass(frozen=True, slots=True)
class Column:
    """Offices of one rank, side by side in the matrix."""

    rank: int
    offices: list[Office]

    @property
    def scope(self) -> str:
        """The scope of its offices."""
        return self.offices[0].scope


@dataclass(frozen=True, slots=True)
class Line:
    """A matter, and its rules in each column."""

    matter: Matter
    cells: list[tuple[Column, list[Rule]]]


@dataclass(frozen=True, slots=True)
class Matrix:
    """A version of the matrix as a table."""

    version: MatrixVersion | None
    columns: list[Column]
    lines: list[Line]


def matrix(version: MatrixVersion | None) -> Matrix:
    """Return a version as a table: matters by offices of a rank (one query)."""
    rules = list(Rule.objects.filter(version=version).select_related("matter", "office")) if version else []
    columns = [Column(rank, offices) for rank, offices in sorted(_by_rank(rule.office for rule in rules).items())]
    matters = {rule.matter_id: rule.matter for rule in rules}
    lines = [
        Line(
            matter,
            [
                (
                    column,
                    [rule for rule in rules if rule.matter_id == matter.pk and rule.office.rank == column.rank],
                )
                for column in columns
            ],
        )
        for matter in sorted(matters.values(), key=lambda one: one.position)
    ]
    return Matrix(version, columns, lines)


def _by_rank(offices: Iterable[Office]) -> dict[int, list[Office]]:
    ranks: dict[int, dict[int, Office]] = {}
    for office in offices:
        ranks.setdefault(office.rank, {})[office.pk] = office
    return {rank: sorted(found.values(), key=lambda one: one.slug) for rank, found in ranks.items()}


def holders(*, at: datetime, unit: str, units: frozenset[int] | None) -> QuerySet[Appointment]:
    """Return who holds the offices of the group and, of those units that are in view, of the one named."""
    of_units = Q(unit__slug=unit) if units is None else Q(unit__slug=unit, unit__in=units)
    return (
        Appointment.objects.at(at)
        .filter(Q(unit=None) | of_units)
        .select_related("office", "person", "unit")
        .order_by("-office__rank", "office__slug", "person__last_name")
    )


@dataclass(frozen=True, slots=True)
class Mine:
    """What a person holds, lent, was lent and declared; what has ended is left out."""

    hats: list[Hat]
    lent: list[Delegation]
    absences: list[Substitution]
    interests: list[Interest]


def mine(person: User, *, at: datetime) -> Mine:
    """Read a person's own authority."""
    open_ended = Q(valid_to=None) | Q(valid_to__gt=at)
    return Mine(
        hats=list(hats(person, at)),
        lent=list(
            Delegation.objects.filter(open_ended, delegator=person).select_related("person", "appointment__office")
        ),
        absences=list(Substitution.objects.filter(open_ended, person=person).select_related("substitute")),
        interests=list(Interest.objects.filter(open_ended, person=person).select_related("unit")),
    )


def lendable(person: User, *, at: datetime) -> QuerySet[Appointment]:
    """Return the appointments that a person may lend: their own, but for seats in bodies."""
    return (
        Appointment.objects.in_office(at)
        .filter(person=person)
        .exclude(office__scope=Office.Scope.BODY)
        .select_related("office", "unit")
    )
