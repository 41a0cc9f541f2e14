"""Succession: a director's or coordinator's seat that falls vacant is filled by promotion, and so is the one below.

Each such seat has ranked successors, who are seats of the tier below: kept as rows, ranked by ARP or as a person
ordered. The first whose holder is fit takes the vacant seat; the seat that is given up is filled in the same way,
down to an operator, whose seat gets a new agent. A seat without a fit successor gets a new agent at once.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import services as audit
from holding import scope
from holding.lifecycle import Stage
from holding.models import Agent, Role, Seat, Suspension, Unit
from iam.access.models import User
from iam.access.rights import RefusedError, given_reason, rights_of
from subsidiaries.replacement.locking import lock_unit
from subsidiaries.replacement.models import LIVE_STATES, STALE_AFTER, SeatState, Successor

Tier = Role.Tier
PERMISSION: Final = "commands.issue"
"""By which the order of successors is changed: whoever may retire the holder may say who follows."""
BELOW: Final[Mapping[str, str]] = {Tier.L4: Tier.L3, Tier.L3: Tier.L2, Tier.L2: Tier.L1}
SUCCEEDED: Final = (Tier.L4, Tier.L3)
"""The tiers whose losses are covered by succession; a seat of L2 is filled so only when its holder was promoted."""
RANKED: Final = 10
"""How many successors of a seat are kept. For more to be asked, that many would have to be lost at once."""
RANKED_FOR: Final = timedelta(hours=1)
FIT: Final = (Stage.ACTIVE, Stage.PROBATION, Stage.PROVISIONING)  # the last: live, and not noted by a cycle yet
NO_SUCCESSOR: Final = "no fit successor: a new agent"


class Candidate(NamedTuple):
    """A seat of the tier below with its holder: since when, and where."""

    seat_id: int
    agent_id: int
    division_id: int
    ordinal: int
    since: datetime


class Filled(NamedTuple):
    """A seat that got a new holder, and whom it was promoted from (None: it is a new agent)."""

    seat_id: int
    old: Agent
    new: Agent
    promoted: Agent | None


Ranking = Callable[[Sequence[Candidate]], Sequence[Candidate]]


def by_seniority(candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    """Return the candidates as long as nothing is known of how they work: the longest in office first."""
    return sorted(candidates, key=lambda one: (one.since, one.ordinal))


_rankings: list[Ranking] = [by_seniority]
_notes: list[Callable[[Sequence[Filled]], object]] = []


def rank_by(ranking: Ranking) -> None:
    """Let an app above rank candidates from now on, best first: measured work is known there and not here.

    Those of the vacant seat's own division come first, whatever it says.
    """
    _rankings[:] = [ranking]


def after_filling(note: Callable[[Sequence[Filled]], object]) -> None:
    """Let `note` be called with the seats that got a new holder, in their transaction.

    For what is held by an agent beside its seat, such as an office of the council, which then passes on.
    """
    _notes.append(note)


def tell(filled: Sequence[Filled]) -> None:
    """Tell those above which seats got a new holder."""
    for note in _notes:
        note(filled)


# --- who succeeds whom -------------------------------------------------------------------------------------


def refresh(*, unit: Unit, now: datetime) -> int:
    """Bring the ranked successors of the unit's seats to what is known now; return for how many seats they changed.

    What a person ordered stays; a seat that is new to such an order comes last.
    """
    seats = list(Seat.objects.filter(unit=unit, role__tier__in=SUCCEEDED).select_related("role").order_by("pk"))
    if not seats:
        return 0
    known: dict[int, list[Successor]] = {}
    for row in Successor.objects.filter(unit=unit).order_by("seat_id", "rank"):
        known.setdefault(row.seat_id, []).append(row)
    below = {tier: _ranked(_candidates(unit, BELOW[tier])) for tier in SUCCEEDED}
    changed = 0
    for seat in seats:
        found = _near(below[_tier(seat)], seat.division_id)
        rows = known.get(seat.pk, [])
        ordered_by = rows[0].ordered_by if rows else ""
        ids = [one.seat_id for one in found]
        if ordered_by:
            kept = [row.successor_id for row in rows]
            ids = [*kept, *(pk for pk in ids if pk not in kept)]
        if ids[:RANKED] != [row.successor_id for row in rows]:
            _write(seat, ids[:RANKED], ordered_by=ordered_by, now=now)
            changed += 1
    Successor.objects.filter(unit=unit).update(ranked_at=now)
    return changed


def refresh_stale(*, unit: Unit, now: datetime) -> int:
    """Rank the successors of the unit's seats if that was never done, or over an hour ago; as `refresh`."""
    if Successor.objects.filter(unit=unit, ranked_at__gt=now - RANKED_FOR).exists():
        return 0
    return refresh(unit=unit, now=now)


def _write(seat: Seat, ids: Sequence[int], *, ordered_by: str, now: datetime) -> None:
    Successor.objects.filter(seat=seat).delete()
    Successor.objects.bulk_create(
        Successor(unit_id=seat.unit_id, seat=seat, successor_id=pk, rank=rank, ordered_by=ordered_by, ranked_at=now)
        for rank, pk in enumerate(ids, start=1)
    )


@transaction.atomic
def reorder(*, by: User, seat: Seat, successors: Sequence[int], reason: str) -> None:
    """Put the holders of these seats first among the successors of a seat, until it is ordered otherwise.

    Without any, ARP ranks them again. Raises NotHeldError without the permission for the unit; RefusedError without
    a reason, for a seat that has no successors, and for one that is none of them or named twice.
    """
    rights_of(by).require(PERMISSION, seat.unit)
    reason = given_reason(reason)
    if seat.role is None or seat.role.tier not in SUCCEEDED:
        raise RefusedError(_("Only directors and coordinators have successors: all other seats get new agents."))
    with scope.opened(scope.EVERYTHING):
        lock_unit(unit_id=seat.unit_id)
        now = timezone.now()
        refresh(unit=seat.unit, now=now)
        before = successors_of(seat)
        if len(set(successors)) != len(successors) or not set(successors) <= set(before):
            raise RefusedError(_("Name each successor once, and only seats that are ranked for this one."))
        _write(
            seat,
            [*successors, *(pk for pk in before if pk not in successors)],
            ordered_by=by.get_username() if successors else "",
            now=now,
        )
        if not successors:
            refresh(unit=seat.unit, now=now)
        _record_order(seat, before, by=by, reason=reason, by_arp=not successors)


def successors_of(seat: Seat) -> list[int]:
    """Return the seats whose holders succeed that of a seat, the first first."""
    return list(Successor.objects.filter(seat=seat).order_by("rank").values_list("successor_id", flat=True))


def _record_order(seat: Seat, before: Sequence[int], *, by: User, reason: str, by_arp: bool) -> None:
    after = successors_of(seat)
    codes = dict(Seat.objects.filter(pk__in={*before, *after}).values_list("pk", "code"))
    audit.record(
        actor=by.get_username(),
        action="succession.order",
        object=f"seat/{seat}",
        before={"successors": [codes[pk] for pk in before]},
        after={"successors": [codes[pk] for pk in after]},
        details={"reason": reason, "successors": [codes[pk] for pk in after], "by_arp": by_arp},
    )


def _tier(seat: Seat) -> Tier:
    assert seat.role is not None, "only seats of subsidiaries have successors"  # noqa: S101
    return Tier(seat.role.tier)


def _candidates(unit: Unit, tier: str) -> list[Candidate]:
    office = Agent.objects.in_office().filter(seat__unit=unit, seat__role__tier=tier)
    rows = office.values_list("seat_id", "pk", "seat__division_id", "seat__ordinal", "created_at")
    return [Candidate(*row) for row in rows]


def _ranked(candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    return _rankings[0](candidates)


def _near(candidates: Iterable[Candidate], division_id: int) -> list[Candidate]:
    return sorted(candidates, key=lambda one: one.division_id != division_id)  # stable: ranks stay


# --- filling a vacancy -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """A seat that gets a new holder: of its generation `generation` now; `promoted` comes from a lower seat."""

    seat_id: int
    generation: int
    promoted: Agent | None
    """None: a new agent."""
    leads_to: str
    """The code of the seat to which the holder goes; empty: it was lost."""
    detail: str = ""


def plan(*, unit: Unit, lost: Mapping[int, int], now: datetime) -> list[Step]:
    """Return how the seats of lost holders are filled, and those that this leaves; `lost` are generations by seat.

    Seats that have moved on since are left out, and so are those to which succession does not apply. No seat is in
    two steps: who is promoted once is no successor of another.
    """
    seats = Seat.objects.filter(pk__in=lost, role__tier__in=SUCCEEDED, external=False).select_related("role")
    vacant = [seat for seat in seats if seat.generation == lost[seat.pk]]
    held = set(Agent.objects.in_office().filter(seat__in=vacant).values_list("seat_id", flat=True))
    vacant = sorted((seat for seat in vacant if seat.pk in held), key=lambda seat: seat.ordinal)
    if not vacant:
        return []
    refresh(unit=unit, now=now)
    fit = _fit(unit, now)
    taken = set(lost)
    steps: list[Step] = []
    for seat in vacant:
        steps += _chain(seat, fit, taken)
    return steps


def _fit(unit: Unit, now: datetime) -> dict[int, Agent]:
    """Return the holders of the unit's seats who can be promoted, by seat: live, hosted, and not in trouble."""
    live = SeatState.objects.filter(
        unit=unit,
        state__in=LIVE_STATES,
        generation=F("seat__generation"),
        seat__external=False,
        division__state__seen_at__gte=now - STALE_AFTER,
    )
    ordered = Suspension.objects.filter(unit=unit, seat__isnull=False).values("seat_id")
    office = Agent.objects.in_office().filter(seat__in=live.values("seat_id"), stage__in=FIT)
    return {agent.seat_id: agent for agent in office.exclude(seat__in=ordered).select_related("seat__role")}


def _chain(seat: Seat, fit: Mapping[int, Agent], taken: set[int]) -> list[Step]:
    steps: list[Step] = []
    leads_to = ""
    while True:
        agent = _first(seat, fit, taken)
        detail = f"promoted to {leads_to}" if leads_to else ""
        if agent is None:
            if BELOW.get(_tier(seat)):
                detail = f"{detail}; {NO_SUCCESSOR}".removeprefix("; ")
            return [*steps, Step(seat.pk, seat.generation, None, leads_to, detail)]
        steps.append(Step(seat.pk, seat.generation, agent, leads_to, detail))
        taken.add(agent.seat_id)
        leads_to, seat = seat.code, agent.seat


def _first(seat: Seat, fit: Mapping[int, Agent], taken: set[int]) -> Agent | None:
    """Return the first fit successor of a seat who is not called elsewhere."""
    tier = _tier(seat)
    if tier in SUCCEEDED:
        ranked = Successor.objects.filter(seat=seat).order_by("rank").values_list("successor_id", flat=True)
        return next((fit[pk] for pk in ranked if pk in fit and pk not in taken), None)
    if tier not in BELOW:
        return None
    free = [
        Candidate(pk, agent.pk, agent.seat.division_id, agent.seat.ordinal, agent.created_at)
        for pk, agent in fit.items()
        if pk not in taken and agent.seat.role and agent.seat.role.tier == BELOW[tier]
    ]
    best = _near(_ranked(free), seat.division_id)
    return fit[best[0].seat_id] if best else None
