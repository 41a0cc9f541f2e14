"""The executive figures of the holding: what is live, what is short, what is not known."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Case, Count, F, IntegerField, OuterRef, Subquery, Sum, Value, When

from holding.models import Role, Unit
from subsidiaries.performance.models import KpiMinute
from subsidiaries.replacement.models import STALE_AFTER, Census, Replacement

DAY = timedelta(hours=24)
RECENT = timedelta(minutes=2)  # the minute that runs is incomplete; every agent sends once in 60 s


@dataclass(slots=True)
class Staffing:
    """Seats of a unit, how many are live, of how many anything is known, and whether a quota is missed."""

    seats: int = 0
    live: int = 0
    heard: int = 0
    quota_missed: bool = False

    @property
    def coverage(self) -> float | None:
        """The share of seats whose division was heard of lately, 0 to 1; None without seats."""
        return share(self.heard, self.seats)


def share(part: int, whole: int) -> float | None:
    """Return part / whole with four decimals, never rounded up to 1; None when there is no whole."""
    if not whole:
        return None
    return 1.0 if part == whole else min(round(part / whole, 4), 0.9999)


def staffing(*, now: datetime) -> dict[int, Staffing]:
    """Return the staffing of each unit by its id (one query over the census)."""
    quota = Role.objects.filter(slug=OuterRef("role")).values("count")
    heard = When(division__state__seen_at__gte=now - STALE_AFTER, then=F("seats"))
    rows = (
        Census.objects.heard(now)
        .annotate(heard_seats=Case(heard, default=Value(0), output_field=IntegerField()))
        .values_list("unit_id", "role")
        .annotate(Sum("seats"), Sum("heard_live"), Sum("heard_seats"), quota=Subquery(quota))
        .order_by()
    )
    units: dict[int, Staffing] = defaultdict(Staffing)
    for unit, _role, seats, live, known, quota in rows:
        one = units[unit]
        one.seats += seats
        one.live += live
        one.heard += known
        one.quota_missed |= live < (quota or 0)
    return units


def replacements_since(start: datetime) -> dict[int, int]:
    """Return how many replacements each unit had since `start`, by its id."""
    rows = Replacement.objects.filter(decided_at__gte=start).values_list("unit_id").annotate(Count("id")).order_by()
    return dict(rows)


def units_in_order() -> list[dict[str, Any]]:
    """Return the units in the holding's order, as rows."""
    columns = ("id", "slug", "name_es", "name_en", "kind", "floor")
    return [dict(row) for row in Unit.objects.values(*columns).order_by("position")]


def recent_kpis(*, now: datetime) -> dict[int, dict[str, float]]:
    """Return the five KPIs of each unit that sent samples lately, by the unit's id."""
    start = now.replace(second=0, microsecond=0) - RECENT
    return {
        unit: {name: value for name, value in means._asdict().items() if name != "n"}
        for unit, means in KpiMinute.objects.for_overview(start).items()
    }
