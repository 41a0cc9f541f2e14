"""Standing orders about seats, the settings of hosts, and seats that are left vacant.

Everything here runs in the caller's transaction and returns the manifest generations that say so, by division.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from django.db.models import Value
from django.db.models.functions import Greatest
from django.utils import timezone

from holding.lifecycle import SeatStage, Stage
from holding.manifests import publish_manifests
from holding.models import Agent, Division, Incumbency, Seat, Suspension
from holding.transitions import Move, decide, move_seats


def suspend(
    *,
    division_ids: Collection[int],
    desired: Suspension.Desired,
    order: int,
    actor: str,
    reason: str,
    role_id: int | None = None,
    seat_id: int | None = None,
    share: int = 100,
) -> dict[int, int]:
    """Let the order stand in these divisions: about all seats, a role or one seat, and a share of them (per cent).

    The same order again in a division only raises its share.
    """
    now = timezone.now()
    divisions = dict(Division.objects.filter(pk__in=division_ids).values_list("pk", "unit_id"))
    Suspension.objects.bulk_create(
        [
            Suspension(
                unit_id=unit,
                division_id=division,
                role_id=role_id,
                seat_id=seat_id,
                share=share,
                desired=desired,
                order=order,
                actor=actor,
                reason=reason,
                since=now,
            )
            for division, unit in sorted(divisions.items())
        ],
        update_conflicts=True,
        unique_fields=["order", "division"],
        update_fields=["share"],
    )
    return publish_manifests(division_ids=divisions)


def lift(*, orders: Collection[int], division_ids: Collection[int]) -> dict[int, int]:
    """Let these orders stand no more in these divisions. Seats about which no other order stands run again."""
    Suspension.objects.filter(order__in=orders, division_id__in=division_ids).delete()
    return publish_manifests(division_ids=division_ids)


def configure(*, division_ids: Collection[int], settings: Mapping[str, float], version: int) -> dict[int, int]:
    """Give the hosts of these divisions settings of their own; what is not named stays as it is."""
    divisions = list(Division.objects.select_for_update().filter(pk__in=division_ids).order_by("pk"))
    for division in divisions:
        division.settings = {**division.settings, **settings, "version": version}
    Division.objects.bulk_update(divisions, ["settings"])
    return publish_manifests(division_ids=division_ids)


def vacate(
    *, division_ids: Iterable[int], actor: str, reason: str, at: datetime, correlation_id: str = ""
) -> list[int]:
    """Retire the agents in office of the seats that an order wants vacant; return the seats."""
    wanted = [pk for pk, _, desired in _seats(division_ids) if desired == Seat.Desired.RETIRED]
    leaving = Agent.objects.in_office().filter(seat_id__in=wanted).order_by("seat_id")
    agents = dict(leaving.select_for_update(of=("self",)).values_list("seat_id", "pk"))
    decide(
        moves=[Move(pk, Stage.RETIRED, reason) for pk in agents.values()],
        actor=actor,
        at=at,
        correlation_id=correlation_id,
    )
    Incumbency.objects.filter(seat_id__in=agents, ended_at=None).update(
        ended_at=Greatest("started_at", Value(at))  # the clock may have been set back
    )
    move_seats(
        seat_ids=agents, to=SeatStage.VACANT, actor=actor, reason=reason, at=at, correlation_id=correlation_id
    )
    return list(agents)


def vacant(*, division_ids: Iterable[int]) -> list[tuple[int, int]]:
    """Return (seat, generation) of the seats that nobody holds although no order wants them vacant."""
    wanted = {pk: generation for pk, generation, desired in _seats(division_ids) if desired != Seat.Desired.RETIRED}
    held = set(Agent.objects.in_office().filter(seat_id__in=list(wanted)).values_list("seat_id", flat=True))
    return [(pk, generation) for pk, generation in wanted.items() if pk not in held]


def _seats(division_ids: Iterable[int]) -> list[tuple[int, int, str]]:
    """Return (seat, generation, desired state) of the divisions' seats that hosts run, by seat."""
    hosted = Seat.objects.open().filter(division_id__in=list(division_ids), external=False)
    seats = hosted.with_desired().order_by("pk")
    return list(seats.values_list("pk", "generation", "desired"))  # type: ignore[misc]  # is annotated


def generations(*, division_ids: Iterable[int]) -> dict[int, int]:
    """Return the newest manifest generation of each division."""
    return dict(Division.objects.filter(pk__in=list(division_ids)).values_list("pk", "manifest_generation"))
