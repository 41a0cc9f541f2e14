"""Temporary seats: opened beside the establishment so that others can be changed without a loss, and closed again.

A temporary seat is a seat like any other, with a number above all that the establishment will ever have. Closed,
it stays, vacant by an order that stands (`Suspension`), and is the first to be opened again. Everything here runs
in the caller's transaction, under the lock by which the unit's seats are decided about.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from django.db.models import Max
from django.utils import timezone

from audit import services as audit
from holding import generator, transitions
from holding.lifecycle import SeatStage, Stage
from holding.manifests import publish_manifests
from holding.models import FIRST_TEMPORARY, Agent, BlueprintVersion, Incumbency, Seat, Suspension

CLOSING: Final = -(1 << 40)
"""Orders below this leave temporary seats vacant: they are of no command (above 0), and of no isolated agent."""


def create_seats(
    *, like: Sequence[Seat], version: BlueprintVersion, actor: str, reason: str, order: int
) -> list[Seat]:
    """Create a temporary seat beside each of the seats `like`, of their role and division, with its agent.

    Of one unit; its agents are made by the version. `order` names in the ledger whose seats these are.
    """
    if not like:
        return []
    now, unit = timezone.now(), like[0].unit
    used = Seat.objects.filter(unit=unit, ordinal__gte=FIRST_TEMPORARY).aggregate(most=Max("ordinal"))["most"]
    first = (used or FIRST_TEMPORARY - 1) + 1
    seats = Seat.objects.bulk_create([_beside(seat, first + place) for place, seat in enumerate(like)])
    agents = Agent.objects.bulk_create(
        [generator.make_agent(seat=seat, version=version, generation=1, at=now) for seat in seats]
    )
    Incumbency.objects.bulk_create(
        [Incumbency(seat_id=agent.seat_id, agent=agent, generation=1, started_at=now) for agent in agents]
    )
    audit.record_many(
        acts=[
            audit.Act(
                actor=actor,
                action="seat.open",
                object=f"seat/{agent.seat}",
                after={"agent": agent.subject, "generation": 1},
                details={"reason": reason, "new": agent.subject, "blueprint": str(version)},
            )
            for agent in agents
        ],
        correlation_id=f"rollout-{order}",
    )
    publish_manifests(division_ids={seat.division_id for seat in seats}, hint=True)
    return seats


def _beside(seat: Seat, ordinal: int) -> Seat:
    number = ordinal - FIRST_TEMPORARY + 1
    made = Seat(
        unit=seat.unit,
        role=seat.role,
        body=seat.body,
        division_id=seat.division_id,
        ordinal=ordinal,
        code=f"surge-{number}" if seat.role is None else f"{seat.role.code}-{ordinal:04d}",
        reports_to_id=seat.reports_to_id,
        generation=1,
    )
    if seat.role is None:
        made.name_es, made.name_en, made.duty = f"Refuerzo {number}", f"Surge {number}", seat.duty
    return made


def reopen_seats(*, seat_ids: Sequence[int]) -> None:
    """Lift the orders by which closed temporary seats are vacant; whoever calls appoints their agents."""
    Suspension.objects.filter(order__in=[CLOSING - pk for pk in seat_ids]).delete()


def close_seats(*, seats: Sequence[Seat], actor: str, reason: str, order: int) -> None:
    """Leave temporary seats vacant: their agents retire, and hosts end them as the manifests say."""
    if not seats:
        return
    now: datetime = timezone.now()
    ids = [seat.pk for seat in seats]
    Suspension.objects.bulk_create(
        [
            Suspension(
                unit_id=seat.unit_id,
                division_id=seat.division_id,
                seat=seat,
                desired=Suspension.Desired.RETIRED,
                order=CLOSING - seat.pk,
                actor=actor,
                reason=reason,
                since=now,
            )
            for seat in seats
        ],
        ignore_conflicts=True,
    )
    agents = list(Agent.objects.in_office().filter(seat_id__in=ids))
    leaving = {agent.seat_id: agent.subject for agent in agents}
    correlation_id = f"rollout-{order}"
    transitions.move(
        moves=[transitions.Move(agent.pk, Stage.RETIRED, reason) for agent in agents],
        actor=actor,
        at=now,
        correlation_id=correlation_id,
    )
    Incumbency.objects.filter(seat_id__in=ids, ended_at=None).update(ended_at=now)
    transitions.move_seats(
        seat_ids=ids, to=SeatStage.VACANT, actor=actor, reason=reason, at=now, correlation_id=correlation_id
    )
    audit.record_many(
        acts=[
            audit.Act(
                actor=actor,
                action="seat.close",
                object=f"seat/{seat}",
                before={"agent": leaving.get(seat.pk), "generation": seat.generation},
                details={"reason": reason, "old": leaving.get(seat.pk)},
            )
            for seat in seats
        ],
        correlation_id=correlation_id,
    )
    publish_manifests(division_ids={seat.division_id for seat in seats}, hint=True)
