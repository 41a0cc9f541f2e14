"""Writes of stages: an agent or a seat goes on to another one, and it is kept that it did, by whom and why.

Everything here runs in the caller's transaction. Whoever moves agents of a unit holds the unit's lock of ARP, or
the rows of their seats. What somebody decided has a ledger entry for each agent; what was merely seen has one for
all of the unit that were seen at once, with the digest of the rows.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NamedTuple

from django.db import connection

from audit import services as audit
from holding.lifecycle import ENDED, SeatStage, Stage, check, check_seat
from holding.models import Seat, StageChange, Unit

LOCK = """
    select a.id, a.unit_id, a.seat_id, a.subject, a.stage from holding_agent a where a.id = any(%s)
     order by a.id for no key update
"""
# One statement: no stage changes without the row that tells of it.
MOVE = """
with move as (
    select * from unnest(%(agents)s::bigint[], %(old)s::text[], %(new)s::text[], %(reasons)s::text[])
             with ordinality as m (agent_id, old, new, reason, place)
), moved as (
    update holding_agent a
       set stage = m.new,
           retired_at = case when m.new = any(%(ended)s) then %(at)s::timestamptz else a.retired_at end
      from move m where a.id = m.agent_id
    returning a.id, a.unit_id, a.seat_id
)
insert into holding_stagechange (unit_id, seat_id, agent_id, old, new, at, actor, reason, correlation_id)
select moved.unit_id, moved.seat_id, moved.id, m.old, m.new, %(at)s, %(actor)s, m.reason, %(correlation)s
  from moved join move m on m.agent_id = moved.id order by m.place
"""


class Move(NamedTuple):
    """An agent that is to go on to a stage, and why."""

    agent_id: int
    to: Stage
    reason: str


@dataclass(frozen=True, slots=True)
class Moved:
    """An agent that went on to another stage."""

    agent_id: int
    unit_id: int
    seat_id: int
    subject: str
    old: str
    new: str
    reason: str


def move(*, moves: Iterable[Move], actor: str, at: datetime, correlation_id: str = "") -> list[Moved]:
    """Let agents go on to other stages; return those that were not there already, by id.

    An agent that ends leaves office at `at`; its incumbency is the caller's. Raises IllegalTransitionError, and
    then nothing is moved.
    """
    wanted = {one.agent_id: one for one in moves}
    if not wanted:
        return []
    with connection.cursor() as cursor:
        cursor.execute(LOCK, [sorted(wanted)])
        rows = cursor.fetchall()
        done = [
            Moved(pk, unit, seat, subject, old, wanted[pk].to.value, wanted[pk].reason[:200])
            for pk, unit, seat, subject, old in rows
            if old != wanted[pk].to.value
        ]
        for one in done:
            check(one.subject, one.old, one.new)
        if done:
            values: dict[str, Any] = {
                "agents": [one.agent_id for one in done],
                "old": [one.old for one in done],
                "new": [one.new for one in done],
                "reasons": [one.reason for one in done],
                "ended": sorted(ENDED),
                "at": at,
                "actor": actor[:200],
                "correlation": correlation_id,
            }
            cursor.execute(MOVE, values)
    return done


def decide(*, moves: Iterable[Move], actor: str, at: datetime, correlation_id: str = "") -> list[Moved]:
    """Let agents go on to other stages as somebody decided: with a ledger entry for each. Raises as `move` does."""
    done = move(moves=moves, actor=actor, at=at, correlation_id=correlation_id)
    names = _names({one.seat_id for one in done})
    audit.record_many(
        acts=[
            audit.Act(
                actor=actor,
                action="agent.stage",
                object=f"seat/{names[one.seat_id]}",
                before={"agent": one.subject, "stage": one.old},
                after={"agent": one.subject, "stage": one.new},
                details={"agent": one.subject, "from": one.old, "to": one.new, "reason": one.reason},
            )
            for one in done
        ],
        correlation_id=correlation_id,
    )
    return done


def observe(*, unit: Unit, moves: Iterable[Move], actor: str, at: datetime) -> list[Moved]:
    """Let agents of a unit go on to other stages as was seen: with one ledger entry for all. Raises as `move` does.

    The entry says how many went from where to where, and the digest of the rows, which bear its correlation.
    """
    correlation_id = f"stages-{unit.slug}-{at.astimezone(UTC):%Y%m%dT%H%M%S.%f}"
    done = move(moves=moves, actor=actor, at=at, correlation_id=correlation_id)
    if done:
        counts = Counter(f"{one.old} > {one.new}" for one in done)
        audit.record(
            actor=actor,
            action="agent.stages",
            object=f"unit/{unit.slug}",
            after={"rows": digest([(one.agent_id, one.old, one.new, one.reason) for one in done])},
            details={
                "agents": len(done),
                "moves": dict(sorted(counts.items())),
                "rows": digest([(one.agent_id, one.old, one.new, one.reason) for one in done]),
            },
            correlation_id=correlation_id,
        )
    return done


def digest(rows: Iterable[tuple[int, str, str, str]]) -> str:
    """Return the SHA-256 (hex) of (agent, old, new, reason) in the order of agents: one line each, tabs between."""
    lines = ("\t".join(map(str, row)) for row in sorted(rows))
    return sha256("\n".join(lines).encode()).hexdigest()


def move_seats(
    *, seat_ids: Collection[int], to: SeatStage, actor: str, reason: str, at: datetime, correlation_id: str = ""
) -> Sequence[int]:
    """Let seats go on to another stage; return those that were not there already.

    The ledger entry is that of the act which vacates, staffs or closes them. Raises IllegalTransitionError.
    """
    locked = Seat.objects.select_for_update(of=("self",)).select_related("unit").filter(pk__in=seat_ids)
    seats = [seat for seat in locked.order_by("pk") if seat.stage != to]
    for seat in seats:
        check_seat(str(seat), seat.stage, to)
    ids = [seat.pk for seat in seats]
    Seat.objects.filter(pk__in=ids).update(stage=to)
    StageChange.objects.bulk_create(
        [
            StageChange(
                unit_id=seat.unit_id, seat=seat, old=seat.stage, new=to.value, at=at, actor=actor[:200],
                reason=reason[:200], correlation_id=correlation_id,
            )
            for seat in seats
        ],
        batch_size=2000,
    )  # fmt: skip
    return ids


def _names(seat_ids: Collection[int]) -> dict[int, str]:
    return {seat.pk: str(seat) for seat in Seat.objects.filter(pk__in=seat_ids).select_related("unit")}
