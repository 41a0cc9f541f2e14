"""How a rollout goes on: canary, observation, waves; and back, when the service level worsens.

Each ARP cycle of a unit takes one step for it (`advance`). A step looks at what is: a doubled one, one beside
another or one after a kill does nothing twice, since a wave begins only when all agents of the last one are live,
and a seat that has moved on is left alone. Seats are changed by the next generation alone. A wave is only as large
as the agents that are live above the floor of the unit and the quota of the role, counted under the locks by which
presence is written; where there is none above, temporary seats are opened first.

Order of locks: unit (advisory, held by the cycle), rollout, seats, divisions, what presence says of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import connection
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.utils import timezone

from audit import services as audit
from bus.rows import update_rows
from holding import blueprints
from holding.models import Agent, Blueprint, BlueprintVersion, Division, Role, Seat, Suspension, Unit
from subsidiaries.replacement import observing, services, surge
from subsidiaries.replacement.cases import Case
from subsidiaries.replacement.incidents import ACTOR
from subsidiaries.replacement.models import LIVE_STATES, STALE_AFTER, Census, Replacement, SeatState
from subsidiaries.replacement.rollout_models import Rollout, RolloutSeat, RolloutUnit, SurgeSeat

State = Rollout.State
UNDER_WAY: Final = """
    select exists (select from replacement_rolloutunit where unit_id = %(unit)s and ended_at is null)
        or exists (select from replacement_surgeseat where unit_id = %(unit)s and closed_at is null)
"""
SHORTEST_LOOK: Final = 60  # seconds for which the agents of a wave are looked at, at least


# --- what is above the floor -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Headroom:
    """Live agents of a unit and of a role in it, as presence told last, and how many there must be."""

    live: int
    floor: int
    of_role: int
    quota: int

    @property
    def above(self) -> int:
        """How many agents of the role may be changed at once."""
        return max(min(self.live - self.floor, self.of_role - self.quota), 0)


def headroom(unit: Unit, blueprint: Blueprint, *, now: datetime) -> Headroom:
    """Return what is live in a unit now. A division that has fallen silent counts as no live agents."""
    holder = blueprint.role or blueprint.body
    slug = holder.slug if holder is not None else ""
    _seats, live = Census.objects.by_unit(now).get(unit.pk, (0, 0))
    _seats, of_role = Census.objects.by_role(unit.pk, now).get(slug, (0, 0))
    if isinstance(holder, Role):
        quota = holder.count
    else:
        quota = Seat.objects.filter(body=blueprint.body_id, surge=None).count()
    return Headroom(live, unit.floor, of_role, quota)


# --- one step ----------------------------------------------------------------------------------------------


def advance(unit: Unit) -> None:
    """Take the next step of each rollout that is open in the unit; close the temporary seats that none needs."""
    with connection.cursor() as cursor:
        cursor.execute(UNDER_WAY, {"unit": unit.pk})
        if not cursor.fetchone()[0]:
            return
    now = timezone.now()
    for part in RolloutUnit.objects.filter(unit=unit, ended_at=None).order_by("pk"):
        rollout = Rollout.objects.select_for_update(of=("self",)).get(pk=part.rollout_id)
        _Step(rollout, part, unit, now).take()
    _close_surge(unit, now)


class _Step:
    """One step of a rollout in a unit, under the locks of both."""

    def __init__(self, rollout: Rollout, part: RolloutUnit, unit: Unit, now: datetime) -> None:
        self.rollout, self.part, self.unit, self.now = rollout, part, unit, now
        self.version = BlueprintVersion.objects.select_related("blueprint__role", "blueprint__body").get(
            pk=rollout.version_id
        )
        self.blueprint = self.version.blueprint

    def take(self) -> None:
        """Note what became of the agents that were begun; judge; begin the next ones."""
        note_progress(self.rollout, self.unit, now=self.now)
        if self.rollout.state in Rollout.FORWARD and (why := judge(self.rollout, self.version, now=self.now)):
            enter(self.rollout, State.RETURNING, now=self.now, actor=ACTOR, note=why)
        self._go_on()
        match self.rollout.state:
            case State.CANARY | State.ROLLING:
                self._forward()
            case State.RETURNING:
                self._back()

    def _go_on(self) -> None:
        """Enter the next state when it is due."""
        rollout = self.rollout
        if rollout.state == State.CANARY and _canary_settled(rollout):
            enter(rollout, State.OBSERVING, now=self.now, actor=ACTOR)
        if rollout.state == State.OBSERVING:
            until = rollout.observed_until
            if until is not None and until <= self.now:
                enter(rollout, State.ROLLING, now=self.now, actor=ACTOR)

    def _forward(self) -> None:
        canary = self.rollout.state == State.CANARY
        if _open_rows(self.rollout, self.unit).filter(state=RolloutSeat.State.BEGUN).exists():
            return  # the wave before is not live yet
        wanted = min(self.rollout.wave, self._canaries_left()) if canary else self.rollout.wave
        seats = candidates(self.version, self.unit, now=self.now)[:wanted] if wanted else []
        if seats:
            self._begin(seats, canary=canary)
        elif not canary and not remaining(self.version, self.unit).exists():
            self._end_part()

    def _canaries_left(self) -> int:
        begun = RolloutSeat.objects.filter(rollout=self.rollout, unit=self.unit, canary=True).count()
        return max(self.part.canaries - begun, 0)

    def _begin(self, seats: Sequence[tuple[int, int, int]], *, canary: bool) -> None:
        """Give as many of the seats (id, generation, version) an agent of the new version as are live above."""
        chosen = list(seats[: self._room(len(seats), [seat for seat, *_ in seats])])
        if not chosen:
            return
        made = self._replace([(seat, generation) for seat, generation, _ in chosen], {})
        RolloutSeat.objects.bulk_create(
            RolloutSeat(
                rollout=self.rollout,
                unit=self.unit,
                seat_id=seat,
                former_id=former,
                canary=canary,
                generation=generation + 1,
                begun_at=self.now,
            )
            for seat, generation, former in chosen
            if seat in made
        )

    def _room(self, wanted: int, seat_ids: Sequence[int]) -> int:
        """Return how many live agents may be changed now; open temporary seats for the next step if too few."""
        _lock(self.unit, seat_ids)
        above = headroom(self.unit, self.blueprint, now=self.now).above
        if above < wanted:
            self._open_surge(wanted)
        return min(above, wanted)

    def _open_surge(self, wanted: int) -> None:
        ours = SurgeSeat.objects.filter(unit=self.unit, rollout=self.rollout, closed_at=None).count()
        more = min(self.rollout.surge, wanted) - ours
        if more > 0:
            good = blueprints.in_force(blueprint=self.blueprint, unit=self.unit, other_than=self.version)
            surge.open_surge(unit=self.unit, rollout=self.rollout, count=more, version=good)

    def _replace(self, seats: Sequence[tuple[int, int]], versions: dict[int, BlueprintVersion]) -> set[int]:
        """Replace agents of seats (id, generation) by the new version, or by that in `versions`; return which."""
        if not seats:
            return set()
        made_by = {seat: versions.get(seat, self.version) for seat, _ in seats}
        cases = [Case(seat, generation, Replacement.Reason.ROLLOUT, self.now) for seat, generation in seats]
        services.replace(unit=self.unit, cases=cases, actor=ACTOR, versions=made_by)
        wanted = dict(seats)
        moved = Seat.objects.filter(pk__in=wanted).values_list("pk", "generation")
        return {pk for pk, generation in moved if generation == wanted[pk] + 1}

    def _back(self) -> None:
        """Give the changed seats their former version again: those that are down at once, others by waves."""
        rows = list(_touched(self.rollout, self.unit))
        holders = {
            seat: (generation, version)
            for seat, generation, version in Agent.objects.in_office()
            .filter(seat__in=[row.seat_id for row in rows])
            .values_list("seat_id", "generation", "blueprint_id")
        }
        theirs = [row for row in rows if holders.get(row.seat_id, (0, 0))[1] == self.version.pk]
        for row in rows:
            if row not in theirs:  # ARP was there before, or the seat is vacant on purpose
                row.state = RolloutSeat.State.BACK if row.seat_id in holders else RolloutSeat.State.RESTORED
                row.generation = holders.get(row.seat_id, (row.generation, 0))[0]
        waiting = _open_rows(self.rollout, self.unit).filter(state=RolloutSeat.State.BACK).exists()
        down = _not_live([row.seat_id for row in theirs], now=self.now)
        first = [row for row in theirs if row.seat_id in down]
        others = [] if waiting else [row for row in theirs if row.seat_id not in down][: self.rollout.wave]
        if others:
            others = others[: self._room(len(others), [row.seat_id for row in others])]
        turned = [*first, *others]
        former = {row.seat_id: blueprints.good_instead_of(row.former) for row in turned}
        made = self._replace([(row.seat_id, holders[row.seat_id][0]) for row in turned], former)
        for row in turned:
            if row.seat_id in made:
                row.state, row.generation = RolloutSeat.State.BACK, holders[row.seat_id][0] + 1
        update_rows(rows, ["state", "generation"])
        unfinished = RolloutSeat.objects.filter(rollout=self.rollout, unit=self.unit)
        if not unfinished.exclude(state=RolloutSeat.State.RESTORED).exists():
            self._end_part()

    def _end_part(self) -> None:
        """End the rollout in this unit; and as a whole, when this was the last one."""
        self.part.ended_at = self.now
        self.part.save(update_fields=["ended_at"])
        if not self.rollout.units.filter(ended_at=None).exists():
            back = self.rollout.state == State.RETURNING
            enter(self.rollout, State.RETURNED if back else State.DONE, now=self.now, actor=ACTOR, end=False)


# --- what is seen ------------------------------------------------------------------------------------------


def remaining(version: BlueprintVersion, unit: Unit) -> QuerySet[Agent]:
    """Return the agents of a unit that a rollout of the version still has to change."""
    blueprint = version.blueprint
    agents = Agent.objects.in_office().filter(unit=unit, seat__external=False, seat__surge=None)
    agents = agents.filter(seat__role=blueprint.role_id, seat__body=blueprint.body_id)
    return agents.exclude(blueprint=version)


def candidates(version: BlueprintVersion, unit: Unit, *, now: datetime) -> list[tuple[int, int, int]]:
    """Return (seat, generation, version) of the agents that can be changed now: live ones that no order ends.

    Across the divisions in turn, so that no division is changed at once; in the same order whenever it is asked.
    """
    ends = Suspension.objects.filter(division=OuterRef("seat__division"), desired=Suspension.Desired.RETIRED)
    agents = remaining(version, unit).filter(
        seat__seatstate__state__in=LIVE_STATES,
        seat__seatstate__generation=F("generation"),
        seat__division__state__seen_at__gte=now - STALE_AFTER,
    )
    agents = agents.filter(~Exists(ends.filter(Q(seat=None) | Q(seat=OuterRef("seat")))))
    rows = agents.values_list("seat__division_id", "seat_id", "generation", "blueprint_id")
    by_division: dict[int, list[tuple[int, int, int]]] = {}
    for division, seat, generation, former in rows.order_by("seat__division_id", "seat__ordinal"):
        by_division.setdefault(division, []).append((seat, generation, former))
    queues, found = [by_division[key] for key in sorted(by_division)], []
    for place in range(max(map(len, queues), default=0)):
        found += [queue[place] for queue in queues if place < len(queue)]
    return found


def _touched(rollout: Rollout, unit: Unit) -> QuerySet[RolloutSeat]:
    rows = RolloutSeat.objects.select_related("former__blueprint").filter(rollout=rollout, unit=unit)
    return rows.filter(state__in=(RolloutSeat.State.BEGUN, RolloutSeat.State.LIVE)).order_by("seat_id")


def _open_rows(rollout: Rollout, unit: Unit) -> QuerySet[RolloutSeat]:
    waiting = (RolloutSeat.State.BEGUN, RolloutSeat.State.BACK)
    return RolloutSeat.objects.filter(rollout=rollout, unit=unit, state__in=waiting)


def _not_live(seat_ids: Sequence[int], *, now: datetime) -> set[int]:
    live = SeatState.objects.filter(
        pk__in=seat_ids, state__in=LIVE_STATES, division__state__seen_at__gte=now - STALE_AFTER
    )
    return set(seat_ids) - set(live.values_list("seat_id", flat=True))


def note_progress(rollout: Rollout, unit: Unit, *, now: datetime) -> None:
    """Note which of the agents that were begun are live, and which failed: replaced since, down, or never live.

    A division that is silent says nothing about its agents: neither is noted of them.
    """
    changed = []
    rows = _open_rows(rollout, unit) | _young_rows(rollout, now).filter(unit=unit)
    states = SeatState.objects.filter(pk__in=rows.values("seat"), division__state__seen_at__gte=now - STALE_AFTER)
    seen = {state.seat_id: state for state in states}
    lost = _lost(rollout, unit)
    for row in rows.order_by("pk"):
        state = seen.get(row.seat_id)
        if state is not None and _take(row, state, lost.get(row.seat_id, 0), rollout, now):
            changed.append(row)
    update_rows(changed, ["state", "live_at", "failed_at", "failure"])


def _take(row: RolloutSeat, state: SeatState, lost: int, rollout: Rollout, now: datetime) -> bool:
    """Change a row by what is seen of its seat; return whether it changed."""
    before = (row.state, row.failed_at)
    live = state.state in LIVE_STATES and state.generation >= row.generation
    left = state.state == SeatState.State.RETIRED  # vacant by an order of people since
    if row.state in (RolloutSeat.State.BACK, RolloutSeat.State.RESTORED):
        if live or left:
            row.state = RolloutSeat.State.RESTORED
        return before != (row.state, row.failed_at)
    if row.state == RolloutSeat.State.BEGUN and (live or left):
        row.state, row.live_at = RolloutSeat.State.LIVE, now
    if row.failed_at is None:
        late = row.begun_at + timedelta(seconds=rollout.patience_s) <= now
        if lost > row.generation:
            row.failed_at, row.failure = now, "replaced since"
        elif state.state == SeatState.State.FAILED and state.generation == row.generation:
            row.failed_at, row.failure = now, "reported failed"
        elif row.state == RolloutSeat.State.BEGUN and late:
            row.failed_at, row.failure = now, f"not live after {rollout.patience_s} s"
    return before != (row.state, row.failed_at)


def _lost(rollout: Rollout, unit: Unit) -> dict[int, int]:
    """Return the newest generation by which each changed seat was replaced because its agent was lost."""
    reasons = (Replacement.Reason.FAILED, Replacement.Reason.MISSING)
    lost = Replacement.objects.filter(unit=unit, reason__in=reasons, decided_at__gte=rollout.created_at)
    lost = lost.filter(seat__in=RolloutSeat.objects.filter(rollout=rollout, unit=unit).values("seat"))
    return dict(lost.order_by("generation").values_list("seat_id", "generation"))


def _young_rows(rollout: Rollout, now: datetime) -> QuerySet[RolloutSeat]:
    """Return the rows by which a rollout is judged: the canary while it is observed, then the latest waves."""
    rows = RolloutSeat.objects.filter(rollout=rollout)
    if rollout.state in (State.CANARY, State.OBSERVING):
        return rows.filter(canary=True)
    since = now - timedelta(seconds=max(rollout.observe_s, rollout.patience_s, SHORTEST_LOOK))
    return rows.filter(begun_at__gte=since)


def judge(rollout: Rollout, version: BlueprintVersion, *, now: datetime) -> str:
    """Return why the rollout must go back, or "" while it need not."""
    if version.state != BlueprintVersion.State.APPROVED:
        return "the version was revoked"
    if version.halted_at is not None:
        return f"the version is halted: {version.halted_why}"
    rows = _young_rows(rollout, now)
    begun = rows.count()
    if rollout.state in (State.CANARY, State.OBSERVING):  # of the whole canary: one of its first is not all of it
        begun = max(begun, sum(rollout.units.values_list("canaries", flat=True)))
    failed = rows.exclude(failed_at=None).count()
    if failed and 100 * failed > rollout.halt_above * begun:
        return f"{failed} of {begun} agents failed, more than {rollout.halt_above} %"
    return ""


def _canary_settled(rollout: Rollout) -> bool:
    """Whether all canaries were begun and each is live or has failed."""
    wanted = sum(rollout.units.values_list("canaries", flat=True))
    rows = RolloutSeat.objects.filter(rollout=rollout, canary=True)
    settled = rows.filter(~Q(failed_at=None) | Q(state=RolloutSeat.State.LIVE)).count()
    return settled >= wanted


def enter(
    rollout: Rollout, state: Rollout.State, *, now: datetime, actor: str, note: str = "", end: bool = True
) -> None:
    """Bring a rollout into a state, with its ledger entry; what ends it ends it in every unit."""
    before = rollout.state
    rollout.paused_from = before if state == State.PAUSED else ""
    rollout.state, rollout.changed_at, rollout.note = state, now, note[:500]
    rollout.save(update_fields=["state", "paused_from", "changed_at", "note"])
    if end and state not in Rollout.GOING:
        rollout.units.filter(ended_at=None).update(ended_at=now)
    seats = RolloutSeat.objects.filter(rollout=rollout)
    audit.record(
        actor=actor,
        action=f"rollout.{state.value}",
        object=f"rollout/{rollout.pk}",
        before={"state": str(before)},
        after={"state": state.value},
        details={
            "note": note[:500],
            "changed": seats.count(),
            "failed": seats.exclude(failed_at=None).count(),
        },
        correlation_id=f"rollout-{rollout.pk}",
    )


def _lock(unit: Unit, seat_ids: Sequence[int]) -> None:
    """Let neither these seats move on, nor presence be written for the unit, until the end of the transaction."""
    list(Seat.objects.select_for_update().filter(pk__in=seat_ids).order_by("pk").values_list("pk"))
    divisions = Division.objects.select_for_update().filter(unit=unit).order_by("pk")
    observing.lock_divisions(division_ids=list(divisions.values_list("pk", flat=True)))


# --- temporary seats ---------------------------------------------------------------------------------------


def _close_surge(unit: Unit, now: datetime) -> None:
    """Close the temporary seats of rollouts that are over in the unit, as far as the floor allows."""
    going = RolloutUnit.objects.filter(unit=unit, ended_at=None).values("rollout")
    rows = SurgeSeat.objects.filter(unit=unit, closed_at=None).exclude(rollout__in=going)
    by_blueprint: dict[int, list[int]] = {}
    for seat, made_by in rows.order_by("-seat").values_list("seat_id", "rollout__blueprint_id"):
        by_blueprint.setdefault(made_by, []).append(seat)
    for pk, seats in sorted(by_blueprint.items()):
        blueprint = Blueprint.objects.select_related("role", "body").get(pk=pk)
        _lock(unit, seats)
        down = _not_live(seats, now=now)
        live = [seat for seat in seats if seat not in down]
        above = headroom(unit, blueprint, now=now).above
        surge.close_surge(unit=unit, seat_ids=[*down, *live[:above]], reason="the rollout is over")
