"""A seat to be replaced, and where such cases come from besides presence.

An app above may register a source of cases: agents whose quality or service level stays under its floor. The
controller takes them only with the evidence of a retraining that failed, only in quiet times, and up to a share of
the unit a day.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone

from holding import clock
from holding.models import Unit
from subsidiaries.replacement.models import LIVE_STATES, Replacement, SeatState, StaffingRule


@dataclass(frozen=True, slots=True)
class Case:
    """A seat to be replaced: why, and since when it has been amiss."""

    seat_id: int
    generation: int
    reason: Replacement.Reason
    detected_at: datetime
    detail: str = ""


@dataclass(frozen=True, slots=True)
class QualityCase:
    """An agent under the floor of its quality or service level, and the retraining that did not help.

    `retraining` names it (a work item, an exam); without it the case is refused.
    """

    seat_id: int
    generation: int
    since: datetime
    detail: str
    retraining: str
    retrained_at: datetime


Source = Callable[[Unit, datetime], Sequence[QualityCase]]
_sources: list[Source] = []


def register_cases(source: Source) -> Source:
    """Let `source` tell, in each cycle of a unit, of agents to be replaced for their quality.

    It is called in the cycle's transaction and must be cheap. Returns it, so that it may be a decorator.
    """
    _sources.append(source)
    return source


def withdraw_cases(source: Source) -> None:
    """Ask `source` no longer. Raises ValueError if it was not registered."""
    _sources.remove(source)


def quality_cases(unit: Unit, rule: StaffingRule, now: datetime) -> list[Case]:
    """Return what may be replaced for its quality now: proven by a failed retraining, live, within the day's share.

    A case about an agent that has been replaced since, or that was retrained before it fell under the floor, is
    left out.
    """
    told = [case for source in _sources for case in source(unit, now)]
    evident = {case.seat_id: case for case in told if case.retraining and case.since <= case.retrained_at <= now}
    if not evident:
        return []
    left = int(rule.quality_share * unit.floor) - _replaced_for_quality(unit)
    states = SeatState.objects.filter(pk__in=evident, unit=unit, state__in=LIVE_STATES, seat__external=False)
    return [
        Case(
            seat_id=state.seat_id,
            generation=state.generation,
            reason=Replacement.Reason.QUALITY,
            detected_at=evident[state.seat_id].since,
            detail=f"{evident[state.seat_id].detail}; retraining: {evident[state.seat_id].retraining}"[:200],
        )
        for state in states.order_by("seat_id")
        if state.generation == evident[state.seat_id].generation
    ][: max(0, left)]


def _replaced_for_quality(unit: Unit) -> int:
    reason = Replacement.Reason.QUALITY
    return Replacement.objects.filter(unit=unit, decided_at__gte=day_began(), reason=reason).count()


def day_began() -> datetime:
    """Return the real time at which the business day began."""
    elapsed: timedelta = clock.now() - clock.today()
    return timezone.now() - elapsed / clock.speed()
