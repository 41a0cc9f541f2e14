"""How subsidiaries are staffed, for pages and programs: seats, live agents, the reserve needed, caps of the day."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db.models import Count, DateTimeField, DurationField, ExpressionWrapper, F, Min, OuterRef, Subquery, Sum
from django.db.models import Value as Constant
from django.db.models.functions import Coalesce

from holding import clock
from holding.models import Role, Unit
from subsidiaries.replacement import caps, reserve
from subsidiaries.replacement.models import Allowance, Census, Replacement, StaffingRule, UnitFloor
from subsidiaries.replacement.planning import CapDelegation, StaffingPlan
from subsidiaries.replacement.reserve import Estimate, Observed

WINDOW: Final = timedelta(days=30)
"""How far back failures and restores count."""
LOST: Final = (Replacement.Reason.FAILED, Replacement.Reason.MISSING)


@dataclass(frozen=True, slots=True)
class Outlook:
    """A subsidiary: what it must have, shall have and has, and what follows for its reserve."""

    unit: Unit
    plans: tuple[StaffingPlan, ...]
    seats: int
    live: int
    by_role: dict[str, tuple[int, int]]  # seats and live agents
    observed: Observed
    estimate: Estimate
    cap: int
    usual_cap: int
    delegation: CapDelegation | None
    allowed: int  # beyond the cap, today
    used: int

    @property
    def floor(self) -> int:
        """Live agents that there must be."""
        return self.unit.floor

    @property
    def establishment(self) -> int:
        """Seats that there shall be."""
        return sum(plan.establishment for plan in self.plans)

    @property
    def reserve(self) -> int:
        """Seats beyond the floor that the plans ask for."""
        return sum(plan.reserve for plan in self.plans)

    @property
    def needed(self) -> int:
        """Reserve seats with which the chance of being below the floor is less than the target."""
        return reserve.needed(floor=self.floor, unavailable=self.estimate.unavailable)

    @property
    def below(self) -> float:
        """The chance of being below the floor at an instant, with the reserve of the plans."""
        return self.below_with(self.reserve)

    def below_with(self, seats: int) -> float:
        """The chance of being below the floor at an instant, with so many reserve seats."""
        return reserve.probability_below(floor=self.floor, reserve=seats, unavailable=self.estimate.unavailable)

    def below_after(self, *, floor: int, seats: int) -> float:
        """The chance of being below another floor with so many reserve seats, agents failing as they do."""
        return reserve.probability_below(floor=floor, reserve=seats, unavailable=self.estimate.unavailable)

    @property
    def short(self) -> int:
        """How many live agents the unit is short of its floor."""
        return max(0, self.floor - self.live)

    @property
    def enough(self) -> bool:
        """Whether the reserve of the plans is what is needed."""
        return self.reserve >= self.needed

    @property
    def limit(self) -> int:
        """Replacements that may be decided today."""
        return self.cap + self.allowed


def outlook(*, units: Iterable[Unit], now: datetime) -> list[Outlook]:
    """Return how the subsidiaries are staffed, in their order (seven queries, whatever their number)."""
    wanted = list(units)
    plans: dict[int, list[StaffingPlan]] = {}
    found = StaffingPlan.objects.filter(unit__in=wanted).select_related("role", "unit")
    for plan in found.order_by("role__position"):
        plans.setdefault(plan.unit_id, []).append(plan)
    rows: dict[int, dict[str, tuple[int, int]]] = {}
    census = Census.objects.filter(unit__in=wanted).heard(now).values_list("unit_id", "role")
    for unit, role, seats, live in census.annotate(Sum("seats"), Sum("heard_live")).order_by():
        rows.setdefault(unit, {})[role] = (seats, live)
    seen = observed(units=wanted, seats={pk: sum(n for n, _ in by.values()) for pk, by in rows.items()}, now=now)
    rule, today = StaffingRule.objects.get(), clock.today().date()
    delegated: dict[int, CapDelegation] = {}
    for one in CapDelegation.objects.in_force(today).filter(unit__in=wanted):
        delegated.setdefault(one.unit_id, one)  # the one that decides comes first
    allowed = dict(
        Allowance.objects.filter(day=today, unit__in=wanted)
        .values_list("unit_id")
        .annotate(Sum("extra"))
        .order_by()
    )
    used = caps.used_today(*wanted) if wanted else {}
    return [
        Outlook(
            unit=unit,
            plans=tuple(plans.get(unit.pk, ())),
            seats=sum(seats for seats, _ in rows.get(unit.pk, {}).values()),
            live=sum(live for _, live in rows.get(unit.pk, {}).values()),
            by_role=rows.get(unit.pk, {}),
            observed=seen[unit.pk],
            estimate=reserve.estimate(seen[unit.pk]),
            cap=delegated[unit.pk].cap if unit.pk in delegated else caps.usual_cap(unit, rule),
            usual_cap=caps.usual_cap(unit, rule),
            delegation=delegated.get(unit.pk),
            allowed=allowed.get(unit.pk, 0),
            used=used.get(unit.pk, 0),
        )
        for unit in wanted
    ]


def observed(*, units: Iterable[Unit], seats: dict[int, int], now: datetime) -> dict[int, Observed]:
    """Return what was seen of the units since they were first complete, in the last 30 days, by their ids.

    A seat is empty from the detection of a loss until its next agent is live: if it is empty still, until now; if
    the next agent was lost before it was live, until that was decided.
    """
    start = now - WINDOW
    since = dict(
        UnitFloor.objects.filter(unit__in=units, reached_at__isnull=False).values_list("unit_id", "reached_at")
    )
    later = Replacement.objects.filter(seat=OuterRef("seat"), generation__gt=OuterRef("generation")).order_by()
    after = Subquery(later.values("seat").annotate(at=Min("decided_at")).values("at"))
    until = Coalesce(F("live_at"), after, Constant(now, output_field=DateTimeField()))
    empty = ExpressionWrapper(until - F("detected_at"), output_field=DurationField())
    lost = (
        Replacement.objects.filter(unit__in=units, decided_at__gte=start, reason__in=LOST)
        .annotate(empty=empty)
        .values_list("unit_id")
        .annotate(Count("pk"), Sum("empty"))
        .order_by()
    )
    rows = {pk: (count, total) for pk, count, total in lost}
    found = {}
    for unit in units:
        count, total = rows.get(unit.pk, (0, timedelta()))
        begin = max(since.get(unit.pk) or now, start)
        exposure = seats.get(unit.pk, 0) * (now - begin).total_seconds()
        found[unit.pk] = Observed(
            count, max(exposure, 0.0), count, max((total or timedelta()).total_seconds(), 0.0)
        )
    return found


def elastic(plans: Iterable[StaffingPlan]) -> StaffingPlan | None:
    """Return the plan whose seats may come and go: of operators; None where there is none."""
    return next((plan for plan in plans if plan.role.tier == Role.Tier.L1), None)
