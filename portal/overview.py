"""The executive overview: who is below the floor, how the KPIs compare, what happened."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Q
from django.utils import timezone

from holding.models import Unit
from portal.activity import Feed, feed
from portal.commands import Pause, pauses_of, with_pauses
from portal.escalations import Count as Waiting
from portal.escalations import counts, total
from portal.figures import DAY, Staffing, share, staffing
from portal.kpis import KPIS, NOW, Cell, cells, holding_means
from subsidiaries.performance.models import KpiMinute, Means
from subsidiaries.replacement.models import Incident, Replacement

FEED = 14
SORTS = ("worst", "name", "headcount", *(kpi.field for kpi in KPIS), "replacements", "coverage")


@dataclass(frozen=True, slots=True)
class Row:
    """A unit in the table of the overview."""

    unit: Unit
    staffing: Staffing
    cells: list[Cell]
    replaced: int
    waiting: int
    incidents: int

    @property
    def deficit(self) -> int:
        """How many live agents the unit is short of its floor."""
        return max(self.unit.floor - self.staffing.live, 0)

    @property
    def status(self) -> str:
        """The status of the headcount: `crit` below the floor, `warn` when a role's quota is missed, `ok`."""
        if self.deficit:
            return "crit"
        return "warn" if self.staffing.quota_missed else "ok"

    @property
    def badness(self) -> tuple[int, ...]:
        """What the worst are sorted by: floor, incidents, short roles, then KPIs far below the mean."""
        steps = [cell.step for cell in self.cells if cell.step]
        return (
            self.deficit,
            self.incidents,
            int(self.staffing.quota_missed),
            self.waiting,
            sum(step <= 2 for step in steps),
            sum(4 - step for step in steps),
        )


@dataclass(frozen=True, slots=True)
class Overview:
    """All that the overview shows, as of one instant."""

    as_of: datetime
    rows: list[Row]
    corporate: Row | None
    below: list[Row]
    live: int
    seats: int
    coverage: float | None
    replaced: int
    waiting: int
    incidents: list[Incident]
    escalations: Waiting
    pauses: list[Pause]
    means: Means | None
    feed: Feed

    @property
    def units(self) -> int:
        """How many units there are, the parent company with them."""
        return len(self.rows) + (self.corporate is not None)

    @property
    def status(self) -> str:
        """The status of the whole: the worst of its units."""
        statuses = {row.status for row in [*self.rows, *([self.corporate] if self.corporate else [])]}
        return next((status for status in ("crit", "warn") if status in statuses), "ok")


def overview(*, sort: str = "worst", descending: bool = False) -> Overview:
    """Read the overview: ten queries whatever the number of agents. `sort` is one of `SORTS`."""
    as_of = timezone.now()
    units = list(with_pauses(Unit.objects.select_related("sector")).order_by("position"))
    staffed = staffing(now=as_of)
    kpis = KpiMinute.objects.for_overview(as_of - NOW)
    replaced = _replaced_since(as_of - DAY)
    incidents = list(Incident.objects.filter(closed_at=None).select_related("unit").order_by("opened_at"))
    means = holding_means(kpis.values())
    rows = [
        Row(
            unit=unit,
            staffing=staffed[unit.pk],
            cells=cells(kpis.get(unit.pk), means),
            replaced=replaced.get(unit.pk, (0, 0))[0],
            waiting=replaced.get(unit.pk, (0, 0))[1],
            incidents=sum(incident.unit_id == unit.pk for incident in incidents),
        )
        for unit in units
    ]
    subsidiaries = [row for row in rows if row.unit.kind == Unit.Kind.SUBSIDIARY]
    seats = sum(row.staffing.seats for row in rows)
    return Overview(
        as_of=as_of,
        rows=_sorted(subsidiaries, sort, descending),
        corporate=next((row for row in rows if row.unit.kind == Unit.Kind.CORPORATE), None),
        below=sorted((row for row in rows if row.deficit), key=lambda row: row.deficit, reverse=True),
        live=sum(row.staffing.live for row in rows),
        seats=seats,
        coverage=share(sum(row.staffing.heard for row in rows), seats),
        replaced=sum(row.replaced for row in rows),
        waiting=sum(row.waiting for row in rows),
        incidents=incidents,
        escalations=total(counts(at=as_of).values()),
        pauses=pauses_of(units),
        means=means,
        feed=feed(limit=FEED, units={unit.pk: unit for unit in units}),
    )


def _replaced_since(since: datetime) -> dict[int, tuple[int, int]]:
    """Replacements decided since, and those not live yet, by unit."""
    rows = (
        Replacement.objects.filter(Q(decided_at__gte=since) | Q(live_at=None))
        .order_by()
        .values_list("unit_id")
        .annotate(decided=Count("pk", filter=Q(decided_at__gte=since)), waiting=Count("pk", filter=Q(live_at=None)))
    )
    return {unit: (replaced, waiting) for unit, replaced, waiting in rows}


def _sorted(rows: list[Row], sort: str, descending: bool) -> list[Row]:
    if sort == "worst":
        return sorted(rows, key=lambda row: row.badness, reverse=not descending)
    if sort == "name":
        return sorted(rows, key=lambda row: row.unit.name.casefold(), reverse=descending)
    return sorted(rows, key=lambda row: _figure(row, sort), reverse=descending)


def _figure(row: Row, sort: str) -> float:
    """The figure that a column is sorted by; what has none comes first, since it needs a look."""
    if sort == "headcount":
        return row.staffing.live - row.unit.floor
    if sort == "replacements":
        return row.replaced
    if sort == "coverage":
        return -1 if row.staffing.coverage is None else row.staffing.coverage
    value = next(cell.value for cell in row.cells if cell.kpi.field == sort)
    return -1 if value is None else value
