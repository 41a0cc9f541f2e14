"""Two live agents of one seat: looked for in what hosts report, since the index in the database cannot see them.

Only reports of hosts with a valid lease come here. Of a division only its latest report of a batch is looked at:
what an earlier one said, the later one may have put right.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import connection

from audit import services as audit
from audit.arrays import array
from subsidiaries.replacement.models import LIVE_STATES, SeatState

ACTOR = "portal/arp"
# The state is looked at afterwards: statistics from before the agents were live say that nobody is, and a join that
# begins with nobody took half a minute.
FIND = """
    select i.place, s.seat_id, s.unit_id, s.generation, i.generation, seat.external, unit.slug, seat.code, s.state
      from unnest(%s::bigint[], %s::int[]) with ordinality as i(seat_id, generation, place)
      join replacement_seatstate s on s.seat_id = i.seat_id
      join holding_seat seat on seat.id = s.seat_id
      join holding_unit unit on unit.id = s.unit_id
     where i.generation < s.generation
     order by s.seat_id
"""
NOTE = """
    insert into replacement_doubleholder as d
           (unit_id, seat_id, generation, other, host, epoch, first_at, last_at, reports)
    values (%s, %s, %s, %s, %s, %s, %s, %s, 1)
    on conflict (seat_id, generation, other) do update set
           last_at = excluded.last_at, host = excluded.host, epoch = excluded.epoch, reports = d.reports + 1
    returning (xmax = 0)
"""


@dataclass(frozen=True, slots=True)
class Told:
    """The live agents in the latest report about a division, as (seat, generation).

    `whole`: the report lists everybody. `known`: the division was under this epoch before.
    """

    host: str
    epoch: int
    whole: bool
    known: bool
    live: Sequence[tuple[int, int]]

    def has_later(self, seat: int, generation: int) -> bool:
        """Whether a later agent of the seat is live beside that one: what a delta does not repeat still holds."""
        return not self.whole or any(of == seat and later > generation for of, later in self.live)


def check(told: Iterable[Told], now: datetime) -> dict[int, int]:
    """Look for seats that have two live agents, and note them; in the transaction that applied the reports.

    Returns the division of each seat that has none: a whole report lists only an agent before the one that was
    live. Its host is to replace it yet, so that the new one counts as starting.
    """
    rows = [(seat, generation, report) for report in told for seat, generation in report.live]
    if not rows:
        return {}
    seats, generations, reports = zip(*rows, strict=True)
    with connection.cursor() as cursor:
        cursor.execute(FIND, [array(seats), array(generations)])
        found = [row for *row, state in cursor.fetchall() if state in LIVE_STATES]
    behind = []
    for place, seat, unit, generation, other, external, slug, code in found:
        report = reports[place - 1]
        if not (external or report.has_later(seat, other)):
            behind.append(seat)
        elif report.known or external:
            _note(seat, unit, generation, other, report.host, report.epoch, now, f"seat/{slug}/{code}")
    return _start_again(behind, now)


def _note(
    seat: int, unit: int, generation: int, other: int, host: str, epoch: int, now: datetime, name: str
) -> None:
    with connection.cursor() as cursor:
        cursor.execute(NOTE, [unit, seat, generation, other, host[:100], epoch, now, now])
        if not cursor.fetchone()[0]:
            return
    audit.record(
        actor=ACTOR,
        action="seat.double",
        object=name,
        after={"generation": generation, "other": other},
        details={"generation": generation, "other": other, "host": host, "epoch": epoch},
    )


def _start_again(seats: Sequence[int], now: datetime) -> dict[int, int]:
    if not seats:
        return {}
    states = SeatState.objects.filter(pk__in=seats, state__in=LIVE_STATES)
    divisions = dict(states.values_list("seat_id", "division_id"))
    states.update(state=SeatState.State.STARTING, since=now)
    return divisions
