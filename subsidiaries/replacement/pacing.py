"""How fast the controller replaces: back-off per seat and version, and batches that grow with success.

A seat is replaced at once the first time; each time in a row that its agent does not last, the next replacement
waits twice as long, up to a ceiling. Service of `stable_s` ends the row.

Slow start (as a ReplicaSet's batches of 1, 2, 4, 8 ...): of one unit and cause, one replacement more may be on its
way for each that has become live since the last one that failed. It holds where the cause may be ours or the cure
may be bad: for agents that are missing or did not become live, for quality, and for every cause once the blueprint
version is not proven. What live hosts report failed, of a proven version, is replaced at full speed.

A version whose agents fail on several seats, as often as they last, is in trouble: it is no longer proven, and
backs off as a seat does. Whether it is halted (`looping`), or rolled back (`rollouts`), is decided elsewhere: this
is for a version that has no other to fall back to. `version_in_trouble` tells.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connection
from django.db.models import Count, F, Q
from django.utils import timezone

from holding import blueprints
from holding.models import Agent, BlueprintVersion, Unit
from subsidiaries.replacement.cases import Case
from subsidiaries.replacement.models import LIVE_STATES, Replacement, SeatBackoff, StaffingRule, VersionStanding

MEMORY: Final = timedelta(minutes=10)
"""For so long successes and failures count; after that a batch begins with one again."""
TROUBLED_SEATS: Final = 3
"""On so many seats a version must have failed to be in trouble: fewer are the seats' matter."""
PROVEN_LIVE: Final = 8
"""So many live agents of a unit prove a version (or all that there are, if fewer)."""
MOST_DOUBLINGS: Final = 20
UNSEEN: Final = (Replacement.Reason.MISSING, Replacement.Reason.NOT_LIVE)
"""What no host reports."""
METERED: Final = (*UNSEEN, Replacement.Reason.REVOKED)
"""So many in a cycle, and with silence fewer: what no host reports, and who still does its work."""
SLOW: Final = (*UNSEEN, Replacement.Reason.QUALITY)


@dataclass(frozen=True, slots=True)
class Paced:
    """Which cases may be decided now; why the others wait, in numbers."""

    due: list[Case]
    backing_off: int = 0  # the seat, or the version, waits
    slow: int = 0  # the batch is full until more of it are live


def backoff(strikes: int, rule: StaffingRule) -> timedelta:
    """Return for how long a seat, or a version, waits after so many failures in a row (1: the first)."""
    seconds = rule.backoff_base_s * 2.0 ** min(max(strikes, 1) - 1, MOST_DOUBLINGS)
    return timedelta(seconds=min(seconds, rule.backoff_ceiling_s))


def waits(not_before: datetime | None, now: datetime, rule: StaffingRule) -> bool:
    """Return whether a back-off still holds. One that reaches beyond the ceiling is a clock's that was set back."""
    return not_before is not None and now < not_before <= now + timedelta(seconds=rule.backoff_ceiling_s)


def pace(unit: Unit, cases: Sequence[Case], rule: StaffingRule, now: datetime, *, metered: int) -> Paced:
    """Return which of the cases may be decided now, at most `metered` of those that are `METERED`.

    What hosts report comes first. Runs under the unit's lock.
    """
    if not cases:
        return Paced([])
    seats = SeatBackoff.objects.filter(unit=unit, seat__in=[case.seat_id for case in cases], not_before__gt=now)
    resting = {row.seat_id for row in seats if waits(row.not_before, now, rule)}
    versions = _of_successors(cases)
    awake, due, slow = [], [], 0
    for case in cases:
        version = versions.get(case.seat_id)
        if case.seat_id not in resting and not (version and waits(version.not_before, now, rule)):
            awake.append(case)
    room = _Room(unit, [case.seat_id for case in cases], now)
    for case in sorted(awake, key=lambda one: one.reason in METERED):
        batch = _batch(case, versions.get(case.seat_id))
        if case.reason in METERED and metered <= 0:
            continue
        if not batch or room.take(batch):
            due.append(case)
            metered -= case.reason in METERED
        else:
            slow += 1
    return Paced(due, backing_off=len(cases) - len(awake), slow=slow)


def _batch(case: Case, version: "_Version | None") -> str:
    """Return with which others the case shares its slow start: of its cause, or of its version; "" for none."""
    if case.reason in SLOW:
        return case.reason.value
    return "" if version is None or version.proven else f"v{version.id}"


# --- batches -----------------------------------------------------------------------------------------------

FLIGHTS = """
    with recent as (
        select r.reason, 'v' || a.blueprint_id as version, r.live_at, r.failed_at,
               a.retired_at is null and r.live_at is null and not r.seat_id = any(%s) as on_its_way
          from replacement_replacement r join holding_agent a on a.id = r.new_agent_id
         where r.unit_id = %s and r.decided_at > %s and r.decided_at <= %s
    ), keyed as (
        select reason as key, live_at, failed_at, on_its_way from recent
        union all select version, live_at, failed_at, on_its_way from recent
    ), failures as (select key, max(failed_at) as at from keyed group by key)
    select key,
           count(*) filter (where live_at > coalesce(at, '-infinity') and failed_at is null),
           count(*) filter (where on_its_way)
      from keyed join failures using (key) group by key
"""


class _Room:
    """How many more replacements of a cause, or of a version, may be on their way; read when first asked for.

    Those of the `lost` seats are on their way no more: they are what is to be replaced.
    """

    def __init__(self, unit: Unit, lost: Sequence[int], now: datetime) -> None:
        self._unit, self._lost, self._now = unit, lost, now
        self._left: dict[str, int] | None = None

    def take(self, key: str) -> bool:
        """Take a place, if there is one."""
        if self._left is None:
            with connection.cursor() as cursor:
                cursor.execute(FLIGHTS, [list(self._lost), self._unit.pk, self._now - MEMORY, self._now])
                found = {key: 1 + live - pending for key, live, pending in cursor.fetchall()}
            self._left = defaultdict(lambda: 1, found)
        self._left[key] -= 1
        return self._left[key] >= 0


# --- versions ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Version:
    id: int
    proven: bool
    not_before: datetime | None


def _of_successors(cases: Sequence[Case]) -> dict[int, _Version]:
    """Return by seat which version its next agent is made of, and how that version stands.

    A blueprint's first version is proven by having staffed the holding; a later one must prove itself.
    """
    made = Agent.objects.filter(seat__in=[case.seat_id for case in cases], generation=F("seat__generation"))
    last = dict(made.values_list("seat_id", "blueprint_id"))
    before = BlueprintVersion.objects.select_related("blueprint").in_bulk(set(last.values()))
    following = {pk: blueprints.good_instead_of(version) for pk, version in before.items()}
    standings = VersionStanding.objects.in_bulk([version.pk for version in following.values()])
    found = {pk: _version(version, standings.get(version.pk)) for pk, version in following.items()}
    return {seat: found[pk] for seat, pk in last.items()}


def _version(version: BlueprintVersion, standing: VersionStanding | None) -> _Version:
    if standing is None:
        return _Version(version.pk, version.version == 1, None)
    return _Version(version.pk, standing.proven_at is not None, standing.not_before)


def version_in_trouble(version_id: int, *, now: datetime | None = None) -> bool:
    """Return whether new agents of the version do not last: on three seats or more, and as often as they do.

    Decided from the replacements of the last ten minutes alone; it is over when they are.
    """
    now = now or timezone.now()
    recent = Replacement.objects.filter(new_agent__blueprint=version_id)
    failed = recent.filter(failed_at__gt=now - MEMORY).aggregate(
        all=Count("pk"), seats=Count("seat", distinct=True)
    )
    if failed["seats"] < TROUBLED_SEATS:
        return False
    started: int = recent.filter(decided_at__range=(now - MEMORY, now)).count()
    return bool(failed["all"] * 2 >= started)


def note_proven(unit: Unit, now: datetime) -> int:
    """Note which versions enough live agents of the unit prove, unless they are in trouble.

    Return how many approved versions of the holding were not proven: only of those some may be in trouble. (The
    agents of a revoked one are being replaced, whatever becomes of them.)
    """
    unproven = BlueprintVersion.objects.approved().filter(
        Q(standing=None, version__gt=1) | Q(standing__isnull=False, standing__proven_at=None)
    )
    waiting = list(unproven.values_list("pk", "blueprint__slug"))
    for version, slug in waiting:
        if _is_proven(unit, slug, version) and not version_in_trouble(version, now=now):
            VersionStanding.objects.update_or_create(
                version_id=version, defaults={"proven_at": now, "strikes": 0, "not_before": None}
            )
    return len(waiting)


def _is_proven(unit: Unit, role: str, version: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            select count(*), count(*) filter (where a.blueprint_id = %s and s.state = any(%s))
              from replacement_seatstate s
              join holding_agent a on a.seat_id = s.seat_id and a.generation = s.generation and a.retired_at is null
             where s.unit_id = %s and s.role = %s
            """,
            [version, list(LIVE_STATES), unit.pk, role],
        )
        seats, live = map(int, cursor.fetchone())
    return 0 < min(seats, PROVEN_LIVE) <= live


def troubled(unit: Unit, now: datetime) -> list[str]:
    """Return the versions in trouble whose agents the unit has, as people call them."""
    standings = VersionStanding.objects.filter(troubled_at__range=(now - MEMORY, now), proven_at=None)
    of_unit = standings.filter(version__agent__unit=unit, version__agent__retired_at=None).distinct()
    return [str(standing.version) for standing in of_unit.select_related("version__blueprint").order_by("pk")]


# --- what a decision leaves --------------------------------------------------------------------------------

FAILED = """
    update replacement_replacement r set failed_at = %(now)s
      from unnest(%(seats)s::bigint[], %(generations)s::int[]) as i(seat_id, generation)
     where r.seat_id = i.seat_id and r.generation = i.generation
       and (r.live_at is null or r.live_at > %(stable)s)
    returning r.new_agent_id
"""
STRIKES = """
    with before as (
        select i.seat_id, r.live_at is not null and r.live_at <= %(stable)s as lasted
          from unnest(%(seats)s::bigint[], %(generations)s::int[]) as i(seat_id, generation)
          left join replacement_replacement r on r.seat_id = i.seat_id and r.generation = i.generation
    ), counted as (
        select before.seat_id,
               case when b.strikes is null or before.lasted then 1 else b.strikes + 1 end as strikes
          from before left join replacement_seatbackoff b on b.seat_id = before.seat_id
    )
    insert into replacement_seatbackoff (seat_id, unit_id, strikes, decided_at, not_before)
    select seat_id, %(unit)s, strikes, %(now)s,
           %(now)s + make_interval(secs => least(%(ceiling)s::float,
                                                 %(base)s::float * power(2.0, least(strikes - 1, %(most)s))))
      from counted order by seat_id
    on conflict (seat_id) do update set
        strikes = excluded.strikes, decided_at = excluded.decided_at, not_before = excluded.not_before
"""


def note_decided(unit: Unit, replaced: Mapping[int, int], rule: StaffingRule, now: datetime) -> None:
    """Note that seats got a new agent: `replaced` are the generations before, by seat.

    Counts the seats' back-offs on, marks the agents before that did not last, and holds their versions back if
    that makes them troubled. In the transaction of the decision, which holds the seats' rows.
    """
    values: dict[str, Any] = {
        "unit": unit.pk,
        "now": now,
        "seats": list(replaced),
        "generations": list(replaced.values()),
        "stable": now - timedelta(seconds=rule.stable_s),
        "base": rule.backoff_base_s,
        "ceiling": rule.backoff_ceiling_s,
        "most": MOST_DOUBLINGS,
    }
    with connection.cursor() as cursor:
        cursor.execute(STRIKES, values)
        cursor.execute(FAILED, values)
        agents = [agent for (agent,) in cursor.fetchall()]
    if agents:
        versions = BlueprintVersion.objects.filter(agent__in=agents).values_list("pk", flat=True)
        _hold_back(versions.order_by("pk").distinct(), rule, now)


def _hold_back(versions: Iterable[int], rule: StaffingRule, now: datetime) -> None:
    for version in versions:
        if not version_in_trouble(version, now=now):
            continue
        VersionStanding.objects.get_or_create(version_id=version)
        standing = VersionStanding.objects.select_for_update().get(pk=version)
        if not waits(standing.not_before, now, rule):
            standing.strikes += 1
            standing.not_before = now + backoff(standing.strikes, rule)
        standing.troubled_at, standing.proven_at = now, None
        standing.save()
