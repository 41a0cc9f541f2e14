"""The list of agents as a CSV file: which rows, whether they need an approval, and how they are written."""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet, Sum
from django.utils.translation import gettext as _

from audit import services as audit
from holding import clock, scope
from holding.models import Agent, Holding, Unit
from iam.access.models import User
from iam.authority.models import Approval
from portal.agents import STATE, Wanted, listed, shown
from portal.models import Export

FREE_ROWS = 5_000  # up to here in a day, whatever the number of files, nobody is asked
APPROVAL_LASTS = timedelta(days=7)
CHUNK = 1_000
MATTER = "data-export"
EXPORT = "exports.create"
BYTE_ORDER_MARK = "\ufeff"  # without it, spreadsheets take the accents for something else
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the beginning of one


def filters_of(wanted: Wanted) -> dict[str, Any]:
    """Return what an approval of the export is bound to: the list, its filters, and the units it may show."""
    units = scope.current().units(EXPORT)
    return {"list": "agents", **asdict(wanted), "units": None if units is None else sorted(units)}


def exported(wanted: Wanted, *, now: datetime) -> list[int]:
    """Return the ids of the agents that are wanted, of the units that the person may export."""
    agents: QuerySet[Agent] = listed(wanted, now=now)
    units = scope.current().units(EXPORT)
    if units is not None:
        agents = agents.filter(unit__in=units)
    return list(agents.order_by("pk").values_list("pk", flat=True))


def needs_approval(person: User, rows: int, *, now: datetime) -> bool:
    """Return whether so many rows are more than the person may take out of this day without being asked."""
    free = Export.objects.filter(person=person, approval=None, at__gt=now - timedelta(days=1))
    taken: int = free.aggregate(rows=Sum("rows"))["rows"] or 0
    return rows + taken > FREE_ROWS


def usable_approval(person: User, wanted: Wanted, rows: int) -> Approval | None:
    """Return the person's approval of this very export, for as many rows, unused and at most a week old."""
    digest = audit.digest(filters_of(wanted))  # by what the person may export, not by what is read next
    with scope.opened(scope.EVERYTHING):
        return (
            Approval.objects.filter(
                requester=person,
                matter__slug=MATTER,
                state=Approval.State.APPROVED,
                digest=digest,
                value__gte=rows,
                settled_at__gt=clock.now() - APPROVAL_LASTS,
                export=None,
            )
            .order_by("pk")
            .first()
        )


def unit_concerned(wanted: Wanted) -> Unit | None:
    """Return the unit whose matter the export is: the one filtered by, or the only one; else the holding's."""
    if wanted.unit:
        return Unit.objects.filter(slug=wanted.unit).first()
    units = scope.current().units(EXPORT)
    if units is not None and len(units) == 1:
        return Unit.objects.filter(pk__in=units).first()
    return Unit.objects.filter(kind=Unit.Kind.CORPORATE).first()


class _Echo:
    """A file that gives back what is written to it."""

    def write(self, text: str) -> str:
        return text


def lines(ids: list[int], *, wanted: Wanted, person: User, now: datetime) -> Iterator[str]:
    """Return the file line by line.

    Its head is written now, in the language of the request; the rows are read later, when the gate has closed
    behind the request, in chunks that each open the scope of whoever asked.
    """
    holding = Holding.objects.first()
    asked = ", ".join(f"{name}={value}" for name, value in asdict(wanted).items() if value) or _("none")
    head = [
        ["#", holding.clearance if holding else ""],
        ["#", _("exported by"), person.get_username(), now.isoformat(timespec="seconds")],
        ["#", _("filters"), asked],
        ["agent", "subject", "unit", "role", "seat", "division", "generation", "state", "tasks done", "created"],
    ]
    return _written(head, ids, now, scope.current())


def _written(head: list[list[str]], ids: list[int], now: datetime, seen: scope.Scope) -> Iterator[str]:
    writer: Any = csv.writer(_Echo())
    yield BYTE_ORDER_MARK
    for cells in head:
        yield writer.writerow(_row(cells))
    for start in range(0, len(ids), CHUNK):
        with scope.opened(seen):
            agents = list(
                Agent.objects.for_listing()
                .select_related(*STATE)
                .filter(pk__in=ids[start : start + CHUNK])
                .order_by("pk")
            )
        for agent in agents:
            yield writer.writerow(_row(_cells(agent, now)))


def _cells(agent: Agent, now: datetime) -> list[object]:
    known, seat = shown(agent, now=now), agent.seat
    role = seat.role or seat.body
    return [
        agent.agent_id, agent.subject, agent.unit.slug, role.slug if role else "", seat.code, seat.division.key,
        agent.generation, known.state, known.done, agent.created_at.isoformat(timespec="seconds"),
    ]  # fmt: skip


def _row(cells: Iterable[object]) -> list[str]:
    """Return texts that no spreadsheet takes for formulas."""
    texts = ("" if cell is None else str(cell) for cell in cells)
    return [f"'{text}" if text.startswith(FORMULA) else text for text in texts]
