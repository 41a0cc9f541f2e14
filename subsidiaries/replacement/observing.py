"""From presence to observed state: what hosts report of their agents, as rows and counters.

Presence is the only source of liveness. A report counts if the lease bucket vouches for its epoch and host
(`bus.leases`); any other is a zombie's and changes nothing. Of the same epoch, the latest by its own time wins.
An agent that a full report does not list at all is missed; one that is listed under an older generation is about
to be replaced by its host.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import connection, transaction
from django.db.models import Count, Q
from django.utils import timezone
from msgspec import UNSET

from audit.arrays import array
from bus.fencing import Fenced
from bus.fencing import report as report_fenced
from bus.leases import BOOK, Claim
from bus.rows import update_rows
from claytom_agent.messages import AgentState, Presence
from holding.models import Division, Seat, Unit
from subsidiaries.replacement import holders
from subsidiaries.replacement.models import LIVE_STATES, Census, DivisionState, Monitor, SeatState

BLIND_AFTER = timedelta(seconds=15)  # a gap in all presence this long is the monitor's, not the agents'
CODE_SEPARATOR = "-g"
DIVISION_FIELDS = (
    "host", "epoch", "seen_at", "full_at", "reported_at", "observed_generation", "taken_up_at", "report_asked_at",
    "running", "paused", "refused_generation", "refusal",
)  # fmt: skip
COUNT_SEATS = """
    insert into replacement_census (division_id, unit_id, role, seats, live)
    select division_id, unit_id, role, count(*), 0 from replacement_seatstate {where} group by 1, 2, 3
    on conflict (division_id, role) do update set seats = excluded.seats,
        live = least(replacement_census.live, excluded.seats)
    where replacement_census.seats <> excluded.seats
"""
# The plain holding: no reserve; operators may grow by a tenth, for a reserve and for planned retirements.
FIRST_PLANS = """
    insert into replacement_staffingplan (unit_id, role_id, floor, reserve, maximum, changed_at, changed_by, reason)
    select u.id, r.id, r.count, 0, case when r.tier = 'L1' then ceil(r.count * 1.1) else r.count end, now(),
           %(actor)s, ''
      from holding_unit u cross join holding_role r
     where u.kind = 'subsidiary' and r.count > 0 on conflict do nothing
"""
# The condition on the state is that of the index over what is amiss.
AHEAD = """
    select exists (select from replacement_seatstate
                    where division_id = any(%s) and not (state in ('idle', 'busy', 'paused')) and since > %s)
"""
_observers: list[Callable[[datetime], object]] = []


class Place(NamedTuple):
    """A seat, as presence names it."""

    seat_id: int
    role: str


@dataclass(slots=True)
class Roster:
    """The seats of each division by code: presence names agents, the database wants seat ids.

    Seats are permanent, so what it knows stays true. A division that is not known yet is looked up, and again when
    a report of a later manifest names a seat that is not known: seats are added too.
    """

    divisions: dict[str, int] = field(default_factory=dict)
    seats: dict[str, dict[str, Place]] = field(default_factory=dict)
    read_for: dict[str, int] = field(default_factory=dict)
    """The manifest generation that was reported when a division was looked up last."""

    def find(self, key: str) -> int | None:
        """Return the id of the division `key`, or None if the holding has no such division."""
        if key not in self.divisions:
            division = Division.objects.filter(key=key).values_list("id", flat=True).first()
            if division is None:
                return None
            if not SeatState.objects.filter(division_id=division).exists():
                ensure_states()
            self.divisions[key] = division
            self._read(key)
        return self.divisions[key]

    def _read(self, key: str) -> None:
        rows = Seat.objects.filter(division_id=self.divisions[key])
        self.seats[key] = {
            code: Place(pk, role or body or "")
            for pk, code, role, body in rows.values_list("id", "code", "role__slug", "body__slug")
        }

    def seats_for(self, report: Presence) -> dict[str, Place]:
        """Return the seats of the report's division, which `find` has found; read again if it names new ones."""
        key, generation = report.division, report.observed_generation
        if generation > self.read_for.get(key, -1):
            known = self.seats[key]
            if any(mark.rpartition(CODE_SEPARATOR)[0] not in known for mark, *_ in report.agents):
                self._read(key)
                self.read_for[key] = generation
        return self.seats[key]


@dataclass(slots=True)
class Observed:
    """What a batch of presence changed: reports taken, stale ones, of unknown divisions, seats changed."""

    taken: int = 0
    stale: int = 0
    unknown: int = 0
    changed: int = 0


@dataclass(slots=True)
class Missed:
    """Seats that full reports leave out. Of a host that is behind its manifest it is unsure: it cannot have yet the
    agents that were appointed since."""

    seats: list[int] = field(default_factory=list)
    unsure: list[int] = field(default_factory=list)

    def add(self, absent: Iterable[int], *, behind: bool) -> None:
        """Add what one report leaves out."""
        (self.unsure if behind else self.seats).extend(absent)


def ensure_states() -> int:
    """Create the state rows of seats, divisions and census cells that have none; return how many seats.

    After a load. Idempotent.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            """
            insert into replacement_divisionstate
                (division_id, host, epoch, observed_generation, running, paused, refusal)
            select id, '', 0, 0, 0, 0, '' from holding_division on conflict do nothing
            """
        )
        cursor.execute(
            """
            insert into replacement_seatstate
                (seat_id, unit_id, division_id, role, generation, state, done, missed)
            select seat.id, seat.unit_id, seat.division_id, coalesce(role.slug, body.slug), seat.generation,
                   'unknown', 0, 0
            from holding_seat seat
            left join holding_role role on role.id = seat.role_id
            left join holding_body body on body.id = seat.body_id
            where seat.closed_at is null
              and not exists (select from replacement_surgeseat surge
                               where surge.seat_id = seat.id and surge.closed_at is not null)
            order by seat.id on conflict do nothing
            """
        )
        created: int = cursor.rowcount
        cursor.execute(COUNT_SEATS.format(where=""))
        cursor.execute(
            "insert into replacement_unitfloor (unit_id, seconds_below) select id, 0 from holding_unit"
            " on conflict do nothing"
        )
        cursor.execute(
            """
            insert into replacement_staffingrule (id, missing_per_cycle, missing_per_cycle_slow, slow_above,
                                                  stop_above, relocation_s, daily_cap)
            values (1, 75, 15, 0.20, 0.55, 30, 2.0) on conflict do nothing
            """
        )
        cursor.execute(
            "insert into replacement_crashrule (id, window_s, least, share) values (1, 300, 5, 0.20)"
            " on conflict do nothing"
        )
        cursor.execute(FIRST_PLANS, {"actor": "portal/arp"})
    return created


@transaction.atomic
def observe(*, reports: Iterable[Presence], roster: Roster) -> Observed:
    """Apply presence reports, in the order received; all or nothing."""
    outcome = Observed()
    now = timezone.now()
    newest = _vouched(_newest_first(reports, roster, outcome), outcome)
    if not newest:
        return outcome
    _note_monitor(now)
    states = {
        state.division_id: state
        for state in DivisionState.objects.select_for_update(of=("self",))
        .filter(division_id__in=[roster.divisions[key] for key in newest])
        .select_related("division")
        .order_by("division_id")
    }
    listed: list[tuple[int, int, str, int]] = []
    missed = Missed()
    told: dict[str, holders.Told] = {}
    for key, group in newest.items():
        state = states[roster.divisions[key]]
        for report in group:
            if _is_stale(report, state):
                outcome.stale += 1
                continue
            outcome.taken += 1
            known, first = report.epoch == state.epoch, len(listed)
            repeated = known and report.ts == state.reported_at
            _note_division(state, report, now)
            absent = _collect(report, roster.seats_for(report), listed)
            if not repeated:  # the same report twice is one look
                missed.add(absent, behind=state.observed_generation < state.division.manifest_generation)
            live = [(seat, generation) for seat, generation, said, _ in listed[first:] if said in LIVE_STATES]
            told[key] = holders.Told(report.host, report.epoch, report.full, known, live)
    update_rows(states.values(), DIVISION_FIELDS)
    touched = _apply(listed, missed, now)
    touched.update(holders.check(told.values(), now))
    outcome.changed = len(touched)
    if touched:
        recount(division_ids=touched.values())
        note_restored(seat_ids=touched, at=now)
    for note in _observers:
        note(now)
    return outcome


def after_reports(note: Callable[[datetime], object]) -> None:
    """Let `note` be called, with the time, after reports were applied and in their transaction: what is decided
    above ARP and depends on what hosts do is noted when they have done it. It must be cheap when nothing waits.
    """
    _observers.append(note)


def _newest_first(reports: Iterable[Presence], roster: Roster, outcome: Observed) -> dict[str, list[Presence]]:
    groups: dict[str, list[Presence]] = defaultdict(list)
    for report in reports:
        if roster.find(report.division) is None:
            outcome.unknown += 1
        else:
            groups[report.division].append(report)
    return groups


def _vouched(groups: dict[str, list[Presence]], outcome: Observed) -> dict[str, list[Presence]]:
    """Leave out, and report, what comes from hosts that do not hold the division."""
    verdicts = BOOK.judge({_claim(report) for group in groups.values() for report in group})
    fenced = [
        Fenced(*_said(report), verdicts[_claim(report)], "host.presence", 1, report.ts)
        for group in groups.values()
        for report in group
        if not verdicts[_claim(report)].holds
    ]
    outcome.stale += len(fenced)
    report_fenced(fenced)
    held = {key: [r for r in group if verdicts[_claim(r)].holds] for key, group in groups.items()}
    return {key: group for key, group in held.items() if group}


def _said(report: Presence) -> tuple[str, int, str]:
    return report.division, report.epoch, report.host


def _claim(report: Presence) -> Claim:
    return Claim(*_said(report))


def _is_stale(report: Presence, state: DivisionState) -> bool:
    if report.epoch != state.epoch:
        return report.epoch < state.epoch
    return state.reported_at is not None and report.ts < state.reported_at


def _note_division(state: DivisionState, report: Presence, now: datetime) -> None:
    if report.epoch != state.epoch or report.observed_generation > state.observed_generation:
        state.taken_up_at = now
        state.full_at = None  # what was reported in full before says nothing about the agents appointed since
    state.host = report.host
    state.epoch = report.epoch
    state.seen_at = now
    state.reported_at = report.ts
    state.observed_generation = report.observed_generation
    state.paused = report.counts.get("paused", 0)
    state.running = max(report.total - state.paused - report.counts.get("failed", 0), 0)
    refused = None if report.refused is UNSET else report.refused
    state.refused_generation = refused.generation if refused else None
    state.refusal = refused.reason.replace("\0", "") if refused else ""
    if report.full:
        state.full_at = now
        state.report_asked_at = None


def _collect(report: Presence, seats: dict[str, Place], listed: list[tuple[int, int, str, int]]) -> list[int]:
    """Add to `listed` whom the report names; return the seats that it leaves out, if it is about everybody."""
    named = set()
    for mark, state, done, _age in report.agents:
        code, _, generation = mark.rpartition(CODE_SEPARATOR)
        place = seats.get(code)
        if place is None or not generation.isdigit():
            continue
        named.add(code)
        listed.append((place.seat_id, int(generation), state, done))
    if not report.full or len(named) >= len(seats):
        return []
    return [place.seat_id for code, place in seats.items() if code not in named]


def _apply(listed: Sequence[tuple[int, int, str, int]], missed: Missed, now: datetime) -> dict[int, int]:
    """Write what changed; return the division of each seat whose row changed."""
    last = {row[:2]: row for row in listed}  # the last word about each agent counts
    rows = sorted(last.values())
    touched: dict[int, int] = {}
    with connection.cursor() as cursor:
        if rows:
            cursor.execute(
                """
                update replacement_seatstate s
                set state = i.state, done = i.done, missed = 0,
                    since = case when s.state <> i.state then %s else s.since end
                from unnest(%s::bigint[], %s::int[], %s::text[], %s::bigint[])
                     as i (seat_id, generation, state, done)
                where s.seat_id = i.seat_id and s.generation = i.generation
                  and (s.state <> i.state or s.missed <> 0)
                returning s.seat_id, s.division_id
                """,
                [now, *map(array, zip(*rows, strict=True))],
            )
            touched.update(cursor.fetchall())
        if missed.seats or missed.unsure:
            cursor.execute(
                """
                update replacement_seatstate
                set missed = least(missed + 1, 100), state = 'unknown',
                    since = case when state <> 'unknown' then %s else since end
                where (seat_id = any(%s::bigint[]) or (seat_id = any(%s::bigint[]) and state <> 'starting'))
                  and state <> 'retired'
                  and not exists (select from holding_seat seat where seat.id = seat_id and seat.external)
                returning seat_id, division_id
                """,
                [now, array(sorted(missed.seats)), array(sorted(missed.unsure))],
            )
            touched.update(cursor.fetchall())
    return touched


def _note_monitor(now: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            insert into replacement_monitor as m (id, since, last_at) values (1, %(now)s, %(now)s)
            on conflict (id) do update set last_at = %(now)s,
                since = case when m.last_at < %(now)s - make_interval(secs => %(gap)s) or m.since > %(now)s
                             then %(now)s else m.since end
            where m.last_at < %(now)s - interval '1 second' or m.last_at > %(now)s + interval '1 second'
            """,
            {"now": now, "gap": BLIND_AFTER.total_seconds()},
        )


def watching_since() -> datetime | None:
    """Return since when presence has come in without a break; None if it does not come in now."""
    monitor = Monitor.objects.first()
    if monitor is None or monitor.last_at < timezone.now() - BLIND_AFTER:
        return None
    return monitor.since


def recount(*, division_ids: Iterable[int]) -> None:
    """Bring the live counters of the divisions to what their rows say, in the caller's transaction."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            with amiss as (
                select division_id, role, count(*) as n from replacement_seatstate
                where division_id = any(%(divisions)s) and state not in ('idle', 'busy', 'paused')
                group by division_id, role
            )
            update replacement_census c set live = c.seats - coalesce(amiss.n, 0)
            from replacement_census cell
            left join amiss on amiss.division_id = cell.division_id and amiss.role = cell.role
            where c.id = cell.id and cell.division_id = any(%(divisions)s)
              and c.live <> c.seats - coalesce(amiss.n, 0)
            """,
            {"divisions": sorted(set(division_ids))},
        )


def set_right(*, unit: Unit, now: datetime) -> list[DivisionState]:
    """Return the states of the unit's divisions, without times that lie ahead of `now`: the clock was set back.

    Whoever was heard of in an hour's time would be taken for alive for an hour, and a new agent waited for as long.
    """
    ahead = now + timedelta(seconds=1)
    states = DivisionState.objects.filter(division__unit=unit).select_related("division")
    divisions = list(states)
    ids = [state.pk for state in divisions]
    times = (time for state in divisions for time in (state.seen_at, state.full_at, state.report_asked_at) if time)
    if max(times, default=now) <= ahead and not _seats_ahead(ids, ahead):
        return divisions
    lock_divisions(division_ids=ids)
    states = DivisionState.objects.filter(pk__in=ids).select_related("division")
    states.filter(seen_at__gt=ahead).update(seen_at=now)
    states.filter(full_at__gt=ahead).update(full_at=None)  # when it was looked is not known any more
    states.filter(report_asked_at__gt=ahead).update(report_asked_at=None)
    seats = SeatState.objects.filter(division_id__in=ids, since__gt=ahead).exclude(state__in=LIVE_STATES)
    seats.update(since=now)
    return list(states)


def _seats_ahead(division_ids: list[int], ahead: datetime) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(AHEAD, [division_ids, ahead])
        return bool(cursor.fetchone()[0])


def lock_divisions(*, division_ids: Iterable[int]) -> None:
    """Lock the divisions' states, in order: whoever changes states of seats does this first, so none deadlocks."""
    states = DivisionState.objects.select_for_update().filter(division_id__in=sorted(division_ids))
    list(states.order_by("division_id").values_list("division_id"))


def note_restored(*, seat_ids: Iterable[int], at: datetime) -> int:
    """Note when the new agents of replaced seats were first seen live; return how many."""
    ids = sorted(seat_ids)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            update replacement_replacement r
            set live_at = %s, live_host = d.host, live_epoch = d.epoch,
                told_at = case when d.taken_up_at >= r.decided_at then d.taken_up_at end
            from replacement_seatstate s join replacement_divisionstate d on d.division_id = s.division_id
            where r.live_at is null and r.seat_id = any(%s) and s.seat_id = any(%s) and s.seat_id = r.seat_id
              and s.generation = r.generation and s.state = any(%s)
            """,
            [at, ids, ids, list(LIVE_STATES)],
        )
        restored: int = cursor.rowcount
    return restored


def note_vacated(*, seat_ids: Iterable[int]) -> None:
    """Note that seats are left vacant on purpose; of no generation, since what is still said comes too late."""
    ids = sorted(seat_ids)
    divisions = set(SeatState.objects.filter(pk__in=ids).values_list("division_id", flat=True))
    lock_divisions(division_ids=divisions)
    SeatState.objects.filter(pk__in=ids).update(
        state=SeatState.State.RETIRED, generation=0, since=timezone.now(), missed=0
    )
    recount(division_ids=divisions)


def note_opened(*, seats: Mapping[int, int]) -> None:
    """Begin to observe seats that were opened, whose agents are to be heard of; `seats` are their generations."""
    rows = list(Seat.objects.filter(pk__in=seats).select_related("role").order_by("pk"))
    divisions = sorted({row.division_id for row in rows})
    lock_divisions(division_ids=divisions)
    now = timezone.now()
    SeatState.objects.bulk_create(
        [
            SeatState(
                seat=row,
                unit_id=row.unit_id,
                division_id=row.division_id,
                role=row.role.slug if row.role else "",
                generation=seats[row.pk],
                state=SeatState.State.STARTING,
                since=now,
            )
            for row in rows
        ],
        batch_size=2000,
        ignore_conflicts=True,
    )
    _count_seats(divisions)


def note_closed(*, seat_ids: Iterable[int]) -> None:
    """Observe seats no longer that were closed: they count neither as seats nor as losses."""
    ids = sorted(seat_ids)
    divisions = sorted(set(SeatState.objects.filter(pk__in=ids).values_list("division_id", flat=True)))
    lock_divisions(division_ids=divisions)
    SeatState.objects.filter(pk__in=ids).delete()
    _count_seats(divisions)


def _count_seats(divisions: Sequence[int]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(COUNT_SEATS.format(where="where division_id = any(%s)"), [list(divisions)])
    recount(division_ids=divisions)


def note_staffed(*, seats: Mapping[int, int]) -> None:
    """Note that vacant seats have an agent again, who is to be heard of; `seats` are their generations."""
    states = list(SeatState.objects.filter(pk__in=seats).order_by("pk"))
    lock_divisions(division_ids={state.division_id for state in states})
    now = timezone.now()
    for state in states:
        state.generation, state.state = seats[state.pk], SeatState.State.STARTING
        state.since, state.missed, state.done = now, 0, 0
    update_rows(states, ["generation", "state", "since", "missed", "done"])


def note_singles(*, told: Mapping[int, tuple[int, str, int]], now: datetime) -> None:
    """Apply what agents with a connection of their own say: generation, state and items done, by seat."""
    divisions = SeatState.objects.filter(pk__in=told).values_list("division_id", flat=True)
    lock_divisions(division_ids=set(divisions))
    touched = _apply([(seat, *row) for seat, row in told.items()], Missed(), now)
    if touched:
        recount(division_ids=touched.values())


def note_silent(*, seat_ids: Iterable[int], now: datetime) -> None:
    """Note that external seats were not heard of: unknown is never live."""
    changed = SeatState.objects.filter(pk__in=sorted(seat_ids)).exclude(state=SeatState.State.UNKNOWN)
    divisions = sorted(set(changed.values_list("division_id", flat=True)))
    if divisions:
        lock_divisions(division_ids=divisions)
        changed.update(state=SeatState.State.UNKNOWN, since=now)
        recount(division_ids=divisions)


def vacant_seats(*, division_ids: Iterable[int]) -> int:
    """Return how many seats of the divisions are vacant on purpose: no loss, and nothing to replace."""
    return SeatState.objects.filter(division_id__in=list(division_ids), state=SeatState.State.RETIRED).count()


def census_drift() -> list[tuple[str, str, int, int]]:
    """Return each census cell that disagrees with its rows: (division, role, counted, stored). Expected: []."""
    rows = (
        SeatState.objects.values_list("division__key", "role")
        .annotate(live=Count("seat_id", filter=Q(state__in=LIVE_STATES)))
        .order_by()
    )
    counted = {(division, role): live for division, role, live in rows}
    stored = Census.objects.values_list("division__key", "role", "live")
    return [
        (division, role, counted.get((division, role), 0), live)
        for division, role, live in stored
        if counted.get((division, role), 0) != live
    ]


@dataclass(frozen=True, slots=True)
class StateReport:
    """An `agent.state` event with what its headers say."""

    body: AgentState
    epoch: int
    generation: int  # of a corporate seat


STATE_SQL = """
with given as (
    select d.id, (select max(l.epoch) from bus_lease l where l.division = d.key) as epoch
      from holding_division d join holding_unit u on u.id = d.unit_id where u.slug = any(%s)
)
update replacement_seatstate s set state = i.state, since = %s, missed = 0
from unnest(%s::text[], %s::text[], %s::text[], %s::int[], %s::text[], %s::bigint[])
         as i (unit, grp, code, generation, state, epoch)
join holding_unit unit on unit.slug = i.unit
join holding_seat seat on seat.unit_id = unit.id and seat.code = i.code
join replacement_divisionstate division on division.division_id = seat.division_id
join given on given.id = seat.division_id
where s.seat_id = seat.id and s.role = i.grp
  and s.generation = i.generation and i.epoch >= division.epoch and i.epoch <= given.epoch
returning s.seat_id, s.division_id, i.unit, s.state
"""


@transaction.atomic
def note_states(*, reports: Sequence[StateReport]) -> dict[str, list[int]]:
    """Apply `agent.state` events; return the seats reported failed, by unit.

    An event of a lower epoch than the division's, or of a higher one than any that was given, changes nothing.
    """
    last: dict[tuple[str, str, str], tuple[int, str, int]] = {}
    for report in reports:
        unit, group, name = report.body.agent.split(".")[2:5]
        code, _, generation = name.rpartition(CODE_SEPARATOR)
        if unit == "corporate":
            code, generation = name, str(report.generation)
        if generation.isdigit():
            last[unit, group, code] = (int(generation), report.body.to, report.epoch)
    rows = [(*key, *value) for key, value in sorted(last.items())]
    if not rows:
        return {}
    units = {unit for unit, *_ in rows}
    lock_divisions(division_ids=Division.objects.filter(unit__slug__in=units).values_list("id", flat=True))
    with connection.cursor() as cursor:
        cursor.execute(STATE_SQL, [sorted(units), timezone.now(), *map(array, zip(*rows, strict=True))])
        changed = cursor.fetchall()
    if changed:
        recount(division_ids={division for _, division, _, _ in changed})
        note_restored(seat_ids=[seat for seat, *_ in changed], at=timezone.now())
    failed: dict[str, list[int]] = defaultdict(list)
    for seat, _, unit, state in changed:
        if state == SeatState.State.FAILED:
            failed[unit].append(seat)
    return dict(failed)
