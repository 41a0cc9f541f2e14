"""What a cycle finds amiss in a unit: cases to decide, agents to look at again, silence and how much of it.

Nothing here writes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from django.db import connection
from django.db.models import Sum

from holding.lifecycle import Stage
from holding.models import BlueprintVersion, Unit
from subsidiaries.replacement.cases import Case
from subsidiaries.replacement.models import (
    LIVE_STATES,
    STALE_AFTER,
    Census,
    DivisionState,
    Replacement,
    SeatState,
    StaffingRule,
)
from subsidiaries.replacement.stages import MISSED_TWICE

WITHDRAWN: Final = """
    select a.seat_id, s.division_id, a.generation, a.stage = %(isolated)s, v.state = %(revoked)s, v.ended_at
      from holding_agent a
      join holding_blueprintversion v on v.id = a.blueprint_id
      join holding_seat s on s.id = a.seat_id
     where a.unit_id = %(unit)s and a.retired_at is null and not s.external
       and (a.stage = %(isolated)s or v.state = %(revoked)s)
     order by a.seat_id
"""


@dataclass(slots=True)
class Findings:
    """What is amiss in the divisions that are heard of: cases to decide, and what has to be looked at again."""

    cases: list[Case] = field(default_factory=list)
    missing: int = 0  # agents that a full report left out, once or more
    look_again: set[int] = field(default_factory=set)  # divisions to be asked for a full report
    stalled: set[str] = field(default_factory=set)  # divisions whose host does not take up the newest manifest
    late: int = 0  # agents expected live that these divisions do not have


def look(unit: Unit, heard: Sequence[DivisionState], rule: StaffingRule, now: datetime) -> Findings:
    """Look at what is amiss in a unit: whose version is revoked, and in divisions that a live host reports on.

    To be replaced is what is reported failed, what two full reports left out, and what was expected live but is
    not in a full report made after the expectation ran out, by a host that has the newest manifest. Meanwhile
    nothing is decided about it. Who was isolated is, and whose version was revoked. A seat is named once.
    """
    divisions = {state.division_id: state for state in heard}
    amiss = (
        SeatState.objects.filter(division_id__in=list(divisions))
        .exclude(state__in=[*LIVE_STATES, SeatState.State.RETIRED])
        .exclude(seat__external=True)
        .values_list("seat_id", "division_id", "generation", "state", "missed", "since")
        .order_by("seat_id")
    )
    found, patience = Findings(), timedelta(seconds=rule.expectation_s)
    for seat, division, generation, state, missed, since in amiss:
        case = partial(Case, seat, generation, detected_at=since or now)
        found.missing += missed > 0
        if missed == 1:
            found.look_again.add(division)  # one look is not enough
        if state == SeatState.State.FAILED:
            found.cases.append(case(reason=Replacement.Reason.FAILED))
        elif missed >= MISSED_TWICE:
            found.cases.append(case(reason=Replacement.Reason.MISSING))
        elif state == SeatState.State.STARTING and since is not None and since + patience < now:
            _judge_late(found, divisions[division], since + patience, case(reason=Replacement.Reason.NOT_LIVE))
    named = {one.seat_id for one in found.cases}
    found.cases += [one for one in _withdrawn(unit, divisions, now) if one.seat_id not in named]
    return found


def _withdrawn(unit: Unit, heard: Mapping[int, DivisionState], now: datetime) -> list[Case]:
    """Return the hosted seats whose agents may not go on: isolated, and paused until their successors come (in
    divisions that are heard of), or made by a version that is revoked by now."""
    with connection.cursor() as cursor:
        values: dict[str, Any] = {
            "isolated": Stage.QUARANTINED,
            "revoked": BlueprintVersion.State.REVOKED,
            "unit": unit.pk,
        }
        cursor.execute(WITHDRAWN, values)
        rows = cursor.fetchall()
    cases = []
    for seat, division, generation, isolated, revoked, revoked_at in rows:
        if isolated and division in heard:
            cases.append(Case(seat, generation, Replacement.Reason.QUARANTINE, now))
        elif revoked:
            cases.append(Case(seat, generation, Replacement.Reason.REVOKED, revoked_at or now))
    return cases


def _judge_late(found: Findings, division: DivisionState, expired_at: datetime, case: Case) -> None:
    """Look again at an agent that was expected live by `expired_at`; decide only on what was reported since."""
    if division.full_at is None or division.full_at < expired_at:
        found.look_again.add(division.pk)
    elif division.observed_generation < division.division.manifest_generation:
        found.stalled.add(division.division.key)
        found.late += 1
    else:
        found.cases.append(case)


def silence(
    unit: Unit, divisions: Sequence[DivisionState], missing: int, rule: StaffingRule, now: datetime
) -> tuple[float, list[DivisionState], int]:
    """Return the share of the unit's seats that are silent, the divisions that no host takes, and how many seats
    are in divisions that are silent for no longer than a relocation takes.

    Silent are the agents of the former, and those that full reports leave out.
    """
    limit = now - timedelta(seconds=rule.relocation_s)
    lost = [state for state in divisions if state.seen_at is None or state.seen_at < limit]
    quiet = [state for state in divisions if state.seen_at and limit <= state.seen_at <= now - STALE_AFTER]
    if not (lost or quiet or missing):
        return 0.0, [], 0
    seats = dict(Census.objects.filter(unit=unit).values_list("division_id").annotate(Sum("seats")).order_by())
    silent: int = sum(seats.get(state.pk, 0) for state in lost) + missing
    moving: int = sum(seats.get(state.pk, 0) for state in quiet)
    return min(1.0, silent / max(1, sum(seats.values()))), lost, moving
