"""Opening and closing seats beyond the first staffing: the structure of a unit's reserve.

A seat is never deleted. Who needs it no more closes it: its agent retires, hosts find it in no manifest. It is
opened again, before any new one is made, under its next generation. Everything here runs in the caller's
transaction; the caller holds the lock of the unit's staffing.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from django.db import connection
from django.utils import timezone

from audit import services as audit
from holding import blueprints, loading, transitions
from holding.lifecycle import SeatStage, Stage
from holding.manifests import publish_manifests
from holding.models import FIRST_TEMPORARY, Agent, Division, Holding, Incumbency, Role, Seat, Unit
from holding.services import LOAD_LOCK, appoint


@dataclass(frozen=True, slots=True)
class Place:
    """A seat that is to be opened: one that is closed, or a new one (`seat_id` None)."""

    code: str
    ordinal: int
    division: str  # key
    generation: int
    seat_id: int | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """A seat with its agent (None: nobody held it)."""

    seat: Seat
    agent: Agent | None


def first_staffing() -> int:
    """Return the last ordinal of the seats with which every subsidiary began; these are never closed."""
    return Holding.objects.values_list("floor", flat=True).get()


def places(*, unit: Unit, role: Role, count: int) -> list[Place]:
    """Return the seats that would be opened next: closed ones by ordinal, then new ones, by division in turn."""
    closed = list(
        Seat.objects.filter(unit=unit, role=role, closed_at__isnull=False)
        .select_related("division")
        .order_by("ordinal")[:count]
    )
    found = [Place(seat.code, seat.ordinal, seat.division.key, seat.generation + 1, seat.pk) for seat in closed]
    divisions = list(Division.objects.filter(unit=unit).order_by("code").values_list("key", flat=True))
    made = Seat.objects.filter(unit=unit, ordinal__lt=FIRST_TEMPORARY)
    last = made.order_by("-ordinal").values_list("ordinal", flat=True).first() or 0
    first = first_staffing()
    for ordinal in range(last + 1, last + 1 + count - len(found)):
        key = divisions[(ordinal - first - 1) % len(divisions)]
        found.append(Place(f"{role.code}-{ordinal:04d}", ordinal, key, 1))
    return found


def open_seats(
    *, unit: Unit, role: Role, count: int, actor: str, reason: str, correlation_id: str = ""
) -> list[Held]:
    """Open so many seats of the role, each with an agent in office; return them.

    Manifests follow, with a hint to the hosts, and one ledger entry per seat. Meanwhile nobody else makes seats.
    """
    with connection.cursor() as cursor:
        cursor.execute("select pg_advisory_xact_lock(%s)", [LOAD_LOCK])
    wanted = places(unit=unit, role=role, count=count)
    reopened = [place.seat_id for place in wanted if place.seat_id is not None]
    new = [place for place in wanted if place.seat_id is None]
    held = _reopen(reopened, actor=actor, reason=reason, correlation_id=correlation_id)
    held += _make(unit, role, new)
    audit.record_many(
        acts=[
            audit.Act(
                actor=actor,
                action="seat.open",
                object=f"seat/{unit.slug}/{item.seat.code}",
                after={"agent": item.agent.subject if item.agent else None, "generation": item.seat.generation},
                details={"reason": reason, "division": item.seat.division.key, "generation": item.seat.generation},
            )
            for item in held
        ],
        correlation_id=correlation_id,
    )
    publish_manifests(division_ids={item.seat.division_id for item in held}, hint=True)
    return held


def _reopen(reopened: Collection[int], *, actor: str, reason: str, correlation_id: str) -> list[Held]:
    if not reopened:
        return []
    Seat.objects.filter(pk__in=reopened).update(closed_at=None)
    transitions.move_seats(
        seat_ids=reopened,
        to=SeatStage.VACANT,
        actor=actor,
        reason=reason,
        at=timezone.now(),
        correlation_id=correlation_id,
    )
    seats = Seat.objects.filter(pk__in=reopened).values_list("pk", "generation")
    done = appoint(seats=list(seats), actor=actor, reason=reason, correlation_id=correlation_id, vacant=True)
    return [Held(item.seat, item.new) for item in done]


def _make(unit: Unit, role: Role, new: Sequence[Place]) -> list[Held]:
    if not new:
        return []
    divisions = {division.key: division for division in Division.objects.filter(unit=unit)}
    superiors = _superiors(unit)
    ids = loading.draw_seat_ids(len(new))
    turns = dict.fromkeys(divisions, 0)
    made = Seat.objects.filter(unit=unit, role=role, ordinal__gt=first_staffing(), ordinal__lt=FIRST_TEMPORARY)
    for key in made.values_list("division__key", flat=True):
        turns[key] += 1
    plans = []
    for place in new:
        halves = superiors[place.division]
        plans.append(
            loading.SeatPlan(
                id=next(ids),
                unit=unit,
                holder=role,
                division=divisions[place.division],
                ordinal=place.ordinal,
                code=place.code,
                names=("", ""),
                duty="",
                reports_to=halves[turns[place.division] % len(halves)],
            )
        )
        turns[place.division] += 1
    loading.copy_seats(plans, blueprints.newest_approved(), at=timezone.now())
    agents = Agent.objects.in_office().filter(seat_id__in=[plan.id for plan in plans])
    found = agents.select_related("seat__division", "seat__unit", "seat__role").order_by("seat_id")
    return [Held(agent.seat, agent) for agent in found]


def _superiors(unit: Unit) -> dict[str, list[int]]:
    """Return the coordinators of each division of the unit, in the order of their halves."""
    found: dict[str, list[int]] = {}
    seats = Seat.objects.open().filter(unit=unit, role__tier=Role.Tier.L3).order_by("ordinal")
    for key, pk in seats.values_list("division__key", "pk"):
        found.setdefault(key, []).append(pk)
    return found


def close_seats(*, seat_ids: Collection[int], actor: str, reason: str, correlation_id: str = "") -> list[Held]:
    """Close seats beyond the first staffing: their agents retire, and hosts dismiss them by the next manifest.

    One that is closed already, or of the first staffing, or held by an external agent, is left alone. Returns those
    that were closed.
    """
    seats = list(
        Seat.objects.established()
        .select_for_update(of=("self",))
        .select_related("unit", "role", "division")
        .filter(pk__in=seat_ids, external=False, role__isnull=False, ordinal__gt=first_staffing())
        .order_by("pk")
    )
    if not seats:
        return []
    now, ids = timezone.now(), [seat.pk for seat in seats]
    agents = {agent.seat_id: agent for agent in Agent.objects.in_office().filter(seat_id__in=ids)}
    transitions.move(
        moves=[transitions.Move(agent.pk, Stage.RETIRED, reason) for agent in agents.values()],
        actor=actor,
        at=now,
        correlation_id=correlation_id,
    )
    Incumbency.objects.filter(seat_id__in=ids, ended_at=None).update(ended_at=now)
    for stage in (SeatStage.VACANT, SeatStage.CLOSED):
        transitions.move_seats(
            seat_ids=ids, to=stage, actor=actor, reason=reason, at=now, correlation_id=correlation_id
        )
    Seat.objects.filter(pk__in=ids).update(closed_at=now)
    held = [Held(seat, agents.get(seat.pk)) for seat in seats]
    audit.record_many(
        acts=[
            audit.Act(
                actor=actor,
                action="seat.close",
                object=f"seat/{item.seat.unit.slug}/{item.seat.code}",
                before={"agent": item.agent.subject if item.agent else None, "generation": item.seat.generation},
                after={"agent": None, "generation": item.seat.generation},
                details={"reason": reason, "division": item.seat.division.key, "generation": item.seat.generation},
            )
            for item in held
        ],
        correlation_id=correlation_id,
    )
    publish_manifests(division_ids={seat.division_id for seat in seats}, hint=True)
    return held


def set_floor(*, unit: Unit, floor: int) -> None:
    """Set how many live agents a unit must have; its staffing plans have to add up to that."""
    Unit.objects.filter(pk=unit.pk).update(floor=floor)
