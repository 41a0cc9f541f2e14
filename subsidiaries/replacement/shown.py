"""The state of an agent as people and programs may see it: what is not known is never shown as live.

A page of agents is read by one query over agents, seats and states; the few divisions that it touches by a
second one. Joining everything would take the database longer to plan than to do.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.db.models import F, Q, QuerySet

from holding.models import Agent, Division
from subsidiaries.replacement.models import STALE_AFTER, SeatState

Row = dict[str, Any]
REPLACED = "replaced"
UNKNOWN = SeatState.State.UNKNOWN.value
SHOWN_STATES = [*SeatState.State.choices, (REPLACED, REPLACED)]
COLUMNS = (
    "id", "subject", "agent_id", "seat_id", "seat__code", "seat__division_id", "generation", "created_at",
    "retired_at", "stage", "seat__seatstate__generation", "seat__seatstate__state", "seat__seatstate__since",
    "seat__seatstate__done",
)  # fmt: skip
# What was reported is about this agent, and not about the one before or after it.
_SAME = Q(seat__seatstate__generation=F("generation"))


def add_shown_state(rows: Sequence[Row], *, now: datetime) -> Sequence[Row]:
    """Add to rows of `COLUMNS` the `division` (key) and the `state` as known at `now` (real time)."""
    found = Division.objects.filter(pk__in={row["seat__division_id"] for row in rows}).order_by()
    divisions = {
        pk: (key, seen_at is not None and seen_at >= now - STALE_AFTER)
        for pk, key, seen_at in found.values_list("id", "key", "state__seen_at")
    }
    for row in rows:
        row["division"], heard = divisions[row["seat__division_id"]]
        row["told"] = row["seat__seatstate__generation"] == row["generation"]
        if row["retired_at"] is not None:
            row["state"] = REPLACED
        else:
            row["state"] = row["seat__seatstate__state"] if heard and row["told"] else UNKNOWN
    return rows


def in_shown_state(agents: QuerySet[Agent], state: str, *, now: datetime) -> QuerySet[Agent]:
    """Keep the agents that `add_shown_state` shows in `state`, by conditions that indexes serve."""
    if state == REPLACED:
        return agents.filter(retired_at__isnull=False)
    office = agents.filter(retired_at=None)
    silent = Q(seat__division_id__in=list(_silent_divisions(now)))
    if state == UNKNOWN:
        unreported = Q(seat__seatstate=None) | Q(seat__seatstate__state=UNKNOWN) | ~_SAME
        return office.filter(silent | unreported)
    return office.filter(~silent, _SAME, seat__seatstate__state=state)


def _silent_divisions(now: datetime) -> Iterable[int]:
    return Division.objects.exclude(state__seen_at__gte=now - STALE_AFTER).values_list("id", flat=True).order_by()
