"""How far rollouts are, by unit: for pages and programs."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Q

from holding.models import Unit
from subsidiaries.replacement.rollout_models import RolloutSeat, RolloutUnit, SurgeSeat


@dataclass(slots=True)
class Progress:
    """A rollout in one unit: how many agents it is about, and how many have come how far."""

    place: Unit
    agents: int
    canaries: int
    ended_at: datetime | None
    begun: int = 0
    live: int = 0
    failed: int = 0
    restored: int = 0
    surge: int = 0

    @property
    def unit(self) -> str:
        """The unit's slug."""
        return self.place.slug


def progress_of(rollout_ids: Collection[int]) -> dict[int, list[Progress]]:
    """Return the progress of rollouts by unit in view, in the holding's order (three queries)."""
    found: dict[int, list[Progress]] = {pk: [] for pk in rollout_ids}
    by_unit: dict[tuple[int, int], Progress] = {}
    parts = RolloutUnit.objects.filter(rollout__in=rollout_ids).select_related("unit").order_by("unit__position")
    for part in parts:
        one = Progress(part.unit, part.agents, part.canaries, part.ended_at)
        by_unit[part.rollout_id, part.unit_id] = one
        found[part.rollout_id].append(one)
    state = RolloutSeat.State
    rows = (
        RolloutSeat.objects.filter(rollout__in=rollout_ids)
        .order_by()
        .values_list("rollout_id", "unit_id")
        .annotate(
            begun=Count("pk", filter=Q(state=state.BEGUN)),
            live=Count("pk", filter=Q(state=state.LIVE)),
            failed=Count("pk", filter=Q(failed_at__isnull=False)),
            restored=Count("pk", filter=Q(state__in=(state.BACK, state.RESTORED))),
        )
    )
    for rollout, unit, *counts in rows:
        if (rolled := by_unit.get((rollout, unit))) is not None:
            rolled.begun, rolled.live, rolled.failed, rolled.restored = counts
    open_seats = SurgeSeat.objects.filter(rollout__in=rollout_ids, closed_at=None).order_by()
    for rollout, unit, surge in open_seats.values_list("rollout_id", "unit_id").annotate(n=Count("pk")):
        if (opened := by_unit.get((rollout, unit))) is not None:
            opened.surge = surge
    return found
