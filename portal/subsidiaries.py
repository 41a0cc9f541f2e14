"""One unit: headcount against floor and quotas, KPIs by role, divisions, what happened in it."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Sum

from holding.models import Division, Role, Unit
from portal.commands import Pause, pauses_of
from portal.escalations import Count as Waiting
from portal.escalations import counts
from portal.kpis import NOW, Cell, Kpi, Spark, cells, holding_means, spark
from subsidiaries.performance.models import KpiMinute, Means
from subsidiaries.replacement.models import STALE_AFTER, Census, Incident, Replacement, UnitFloor
from subsidiaries.replacement.planning import StaffingPlan

HOUR = timedelta(hours=1)
MINUTES = 60
LAST = 10


@dataclass(frozen=True, slots=True)
class Quota:
    """A role (or body) of a unit: its seats and how many of them are live."""

    slug: str
    name: str
    tier: str
    seats: int
    live: int
    floor: int = 0  # of a body: its seats

    @property
    def quota(self) -> int:
        """How many live agents there must be: reserve seats are not among them."""
        return self.floor or self.seats

    @property
    def missing(self) -> int:
        """How many live agents the quota lacks."""
        return max(0, self.quota - self.live)


@dataclass(frozen=True, slots=True)
class Series:
    """The five KPIs of one role: present cells and a sparkline of the last hour for each."""

    name: str
    entries: list[tuple[Cell, Spark | None]]


@dataclass(frozen=True, slots=True)
class Shard:
    """A division: which host runs it and when it was last heard of."""

    division: Division
    host: str
    epoch: int
    seen_at: datetime | None
    heard: bool
    live: int
    seats: int


@dataclass(frozen=True, slots=True)
class UnitPage:
    """All that the page of a unit shows, as of one instant."""

    as_of: datetime
    unit: Unit
    seats: int
    live: int
    quotas: list[Quota]
    cells: list[tuple[Cell, Spark | None]]
    series: list[Series]
    shards: list[Shard]
    incidents: list[Incident]
    escalations: Waiting
    pauses: list[Pause]
    replacements: list[Replacement]
    seconds_below: float

    @property
    def deficit(self) -> int:
        """How many live agents the unit is short of its floor."""
        return max(self.unit.floor - self.live, 0)

    @property
    def heard(self) -> int:
        """How many divisions were heard of lately."""
        return sum(shard.heard for shard in self.shards)

    @property
    def status(self) -> str:
        """The status of the headcount: `crit` below the floor, `warn` when a quota is missed, `ok`."""
        if self.deficit:
            return "crit"
        return "warn" if any(quota.missing for quota in self.quotas) else "ok"


def unit_page(unit: Unit, *, as_of: datetime) -> UnitPage:
    """Read the page of a unit that `with_pauses` has read (ten queries)."""
    by_role = Census.objects.by_role(unit.pk, as_of)
    quotas = _quotas(unit, by_role)
    against = holding_means(KpiMinute.objects.for_overview(as_of - NOW).values())
    minutes = KpiMinute.objects.for_unit(unit.pk, as_of - HOUR)
    floor = UnitFloor.objects.filter(unit=unit).first()
    return UnitPage(
        as_of=as_of,
        unit=unit,
        seats=sum(quota.seats for quota in quotas),
        live=sum(quota.live for quota in quotas),
        quotas=quotas,
        cells=_cells([row for rows in minutes.values() for row in rows], against, as_of),
        series=[
            Series(quota.name, _cells(minutes[quota.slug], None, as_of))
            for quota in quotas
            if quota.slug in minutes
        ],
        shards=_shards(unit, as_of),
        incidents=list(Incident.objects.filter(unit=unit, closed_at=None).order_by("opened_at")),
        escalations=counts(at=as_of).get(unit.pk, Waiting()),
        pauses=pauses_of([unit]),
        replacements=list(
            Replacement.objects.filter(unit=unit)
            .select_related("unit", "seat__unit", "seat__body", "old_agent", "new_agent", "promoted_from")
            .order_by("-pk")[:LAST]
        ),
        seconds_below=_seconds_below(floor, as_of),
    )


def _seconds_below(floor: UnitFloor | None, as_of: datetime) -> float:
    if floor is None:
        return 0.0
    running = (as_of - floor.below_since).total_seconds() if floor.below_since else 0.0
    return floor.seconds_below + max(running, 0.0)


def _quotas(unit: Unit, by_role: dict[str, tuple[int, int]]) -> list[Quota]:
    if unit.kind == Unit.Kind.CORPORATE:
        bodies = [division.body for division in _divisions(unit) if division.body]
        return [Quota(body.slug, body.name, "", *by_role.get(body.slug, (0, 0))) for body in bodies]
    floors = dict(StaffingPlan.objects.filter(unit=unit).values_list("role_id", "floor"))
    return [
        Quota(role.slug, role.name, role.tier, *by_role.get(role.slug, (0, 0)), floors.get(role.pk, role.count))
        for role in Role.objects.order_by("position")
    ]


def _divisions(unit: Unit) -> list[Division]:
    order = ("body__position", "code")
    return list(Division.objects.filter(unit=unit).select_related("body", "state").order_by(*order))


def _shards(unit: Unit, as_of: datetime) -> list[Shard]:
    census = Census.objects.filter(unit=unit).order_by().values_list("division_id")
    counts = {pk: (live, seats) for pk, live, seats in census.annotate(Sum("live"), Sum("seats"))}
    shards = []
    for division in _divisions(unit):
        state = getattr(division, "state", None)
        seen = state.seen_at if state else None
        shards.append(
            Shard(
                division=division,
                host=state.host if state else "",
                epoch=state.epoch if state else 0,
                seen_at=seen,
                heard=bool(seen and seen >= as_of - STALE_AFTER),
                live=counts.get(division.pk, (0, 0))[0],
                seats=counts.get(division.pk, (0, 0))[1],
            )
        )
    return shards


def _cells(
    minutes: list[tuple[datetime, Means]], against: Means | None, as_of: datetime
) -> list[tuple[Cell, Spark | None]]:
    recent = holding_means(means for minute, means in minutes if minute >= as_of - NOW)
    return [
        (cell, spark(_by_minute(minutes, cell.kpi, as_of))) for cell in cells(recent, against if recent else None)
    ]


def _by_minute(minutes: list[tuple[datetime, Means]], kpi: Kpi, as_of: datetime) -> list[float | None]:
    """The KPI of each of the last 60 minutes, None where nothing was reported; roles weighed by samples."""
    sums: list[tuple[float, int]] = [(0.0, 0)] * MINUTES
    for minute, means in minutes:
        place = MINUTES - 1 - int((as_of - minute).total_seconds() // 60)
        if 0 <= place < MINUTES:
            total, count = sums[place]
            sums[place] = (total + getattr(means, kpi.field) * means.n, count + means.n)
    return [total / count if count else None for total, count in sums]
