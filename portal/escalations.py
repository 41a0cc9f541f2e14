"""Escalations as people see them: what waits, who has it, and one with all that led to it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q, QuerySet
from django.http import Http404
from django.utils.translation import gettext as _

from bus import mailbox
from bus.models import DirectedMessage
from holding import scope
from holding.models import Agent
from iam.access.models import RoleBinding, User
from iam.authority.models import Appointment
from portal.agents import address
from subsidiaries.escalations.models import Escalation, Step
from subsidiaries.escalations.services import DECIDE, letter_key

SHOWN = 200  # open ones on the page; more are behind a filter
OPEN, ALL = "open", "all"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The filters of the list; empty: all. `state` is a state, `open` (the default) or `all`."""

    unit: str = ""
    matter: str = ""
    severity: str = ""
    state: str = OPEN


@dataclass(frozen=True, slots=True)
class Count:
    """How many wait, and how many of them are overdue."""

    open: int = 0
    overdue: int = 0


def counts(*, at: datetime) -> dict[int, Count]:
    """Return what waits in each unit in view that has anything waiting, by its id."""
    return {unit: Count(*numbers) for unit, numbers in Escalation.objects.open_by_unit(at).items()}


def total(found: Iterable[Count]) -> Count:
    """Return the sum."""
    rows = list(found)
    return Count(sum(row.open for row in rows), sum(row.overdue for row in rows))


def listed(wanted: Wanted) -> QuerySet[Escalation]:
    """Return the escalations of the units in view that are wanted."""
    found = Escalation.objects.for_listing()
    if wanted.unit:
        found = found.filter(unit__slug=wanted.unit)
    if wanted.matter:
        found = found.filter(matter=wanted.matter)
    if wanted.severity:
        found = found.filter(severity=Escalation.Severity[wanted.severity.upper()])
    if wanted.state == OPEN:
        return found & Escalation.objects.open()
    return found if wanted.state == ALL else found.filter(state=wanted.state)


def most_urgent(found: QuerySet[Escalation]) -> list[Escalation]:
    """Return the open ones by severity and age, at most 200."""
    return list(found.order_by("severity", "raised_at", "pk")[:SHOWN])


def holders(rows: Iterable[Escalation], *, at: datetime) -> dict[int, str]:
    """Return who holds each office that owns something here: the person's name, if it is one person.

    Nobody's to whoever may not see the delegation of authority.
    """
    if not scope.current().has("authority.view"):
        return {}
    offices = {row.office_id for row in rows if row.office_id}
    people: dict[int, list[str]] = {}
    for held in Appointment.objects.in_office(at).filter(office__in=offices).select_related("person"):
        people.setdefault(held.office_id, []).append(held.person.name)
    return {office: names[0] for office, names in people.items() if len(names) == 1}


@dataclass(frozen=True, slots=True)
class Dossier:
    """All that the page of an escalation shows."""

    row: Escalation
    steps: list[Step]
    agent: str
    """The page of the agent that raised it, or ""."""
    holder: str
    letter: DirectedMessage | None
    may_decide: bool
    is_mine: bool
    people: list[User]
    """Who else may have it."""


def find(pk: int) -> Escalation:
    """Return an escalation of the units in view. Raises Http404."""
    row = Escalation.objects.for_listing().filter(pk=pk).first()
    if row is None:
        raise Http404(_("There is no escalation %(id)s.") % {"id": pk})
    return row


def dossier(row: Escalation, person: User, *, at: datetime) -> Dossier:
    """Read the page of an escalation found by `find`."""
    raised_by = Agent.objects.select_related("seat__unit", "seat__body").filter(subject=row.agent).first()
    may = row.is_open and scope.current().allows(DECIDE, row.unit_id)
    return Dossier(
        row=row,
        steps=list(row.steps.order_by("at", "pk")),
        agent=address(raised_by) if raised_by else "",
        holder=holders([row], at=at).get(row.office_id or 0, ""),
        letter=mailbox.letters_to(address=row.agent).filter(key=letter_key(row)).first(),
        may_decide=may,
        is_mine=row.person_id in (None, person.pk),
        people=_others(row, person) if may else [],
    )


def _others(row: Escalation, person: User) -> list[User]:
    """Return people whose bindings let them decide it, as far as whoever asks sees them."""
    bindings = RoleBinding.objects.in_view().in_force().giving(DECIDE).filter(Q(unit=None) | Q(unit=row.unit))
    people = User.objects.filter(
        pk__in=bindings.values("user"), kind=User.Kind.PERSON, is_active=True, cleared=True
    )
    return list(people.exclude(pk__in=[person.pk, row.person_id or 0]).order_by("last_name", "username")[:SHOWN])
