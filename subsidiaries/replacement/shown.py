"""The state of an agent as people and programs may see it: what is not known is never shown as live."""

from datetime import datetime

from django.db.models import Case, CharField, F, Q, QuerySet, Value, When

from holding.models import Agent
from subsidiaries.replacement.models import STALE_AFTER, SeatState

REPLACED = "replaced"
UNKNOWN = SeatState.State.UNKNOWN.value
SHOWN_STATES = [*SeatState.State.choices, (REPLACED, REPLACED)]
# The report is about this agent (not its predecessor), and its division was heard of lately.
_SAME = Q(seat__seatstate__generation=F("generation"))


def with_shown_state(agents: QuerySet[Agent], *, now: datetime) -> QuerySet[Agent]:
    """Annotate agents with `shown_state`, `shown_since` and `shown_done`, as known at `now` (real time)."""
    return agents.annotate(
        shown_state=Case(
            When(retired_at__isnull=False, then=Value(REPLACED)),
            When(_SAME & _heard(now), then=F("seat__seatstate__state")),
            default=Value(UNKNOWN),
            output_field=CharField(),
        ),
        shown_since=Case(When(_SAME, then=F("seat__seatstate__since")), default=None),
        shown_done=Case(When(_SAME, then=F("seat__seatstate__done")), default=None),
    )


def in_shown_state(agents: QuerySet[Agent], state: str, *, now: datetime) -> QuerySet[Agent]:
    """Keep the agents that `with_shown_state` shows in `state`, by conditions that indexes serve."""
    if state == REPLACED:
        return agents.filter(retired_at__isnull=False)
    office = agents.filter(retired_at=None)
    if state == UNKNOWN:
        known = _SAME & _heard(now) & ~Q(seat__seatstate__state=UNKNOWN)
        return office.filter(~known | Q(seat__seatstate=None) | Q(seat__division__state__seen_at=None))
    return office.filter(_SAME & _heard(now), seat__seatstate__state=state)


def _heard(now: datetime) -> Q:
    return Q(seat__division__state__seen_at__gte=now - STALE_AFTER)
