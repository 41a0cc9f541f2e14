"""Temporary seats of a unit: opened so that its live agents may be changed without falling below the floor.

They count like any others while they are open: state, census, manifest. Closed, they have no state and no place in
the census. Who calls holds the unit's lock (`services.lock_unit`).
"""

from collections.abc import Collection
from datetime import datetime

from django.db import connection
from django.utils import timezone

from holding import services as holding
from holding.models import Blueprint, BlueprintVersion, Seat, Unit
from subsidiaries.replacement import observing
from subsidiaries.replacement.incidents import ACTOR
from subsidiaries.replacement.models import LIVE_STATES, STALE_AFTER, DivisionState, SeatState
from subsidiaries.replacement.rollout_models import Rollout, SurgeSeat


def open_surge(*, unit: Unit, rollout: Rollout, count: int, version: BlueprintVersion) -> int:
    """Open `count` temporary seats of the rollout's role or body in a unit; return how many were opened.

    They lie in divisions that a host runs; those that were closed before are taken first. Their agents are made by
    `version`, one that is known to work.
    """
    now = timezone.now()
    reason = f"surge of rollout {rollout.pk}"
    beside = _beside(unit, rollout.blueprint, count, now)
    if not beside:
        return 0
    closed = SurgeSeat.objects.filter(unit=unit, **_of(rollout.blueprint)).exclude(closed_at=None)
    again = list(closed.order_by("pk").values_list("seat_id", "seat__generation")[:count])
    seats: dict[int, int] = {}
    if again:
        ids = [pk for pk, _ in again]
        holding.reopen_surge(seat_ids=ids)
        done = holding.appoint(
            seats=again, actor=ACTOR, reason=reason, correlation_id=f"rollout-{rollout.pk}", vacant=True,
            versions=dict.fromkeys(ids, version),
        )  # fmt: skip
        seats = {item.seat.pk: item.new.generation for item in done}
        SurgeSeat.objects.filter(pk__in=seats).update(rollout=rollout, opened_at=now, closed_at=None)
    new = holding.create_surge(
        like=beside[: count - len(seats)], version=version, actor=ACTOR, reason=reason, order=rollout.pk
    )
    SurgeSeat.objects.bulk_create(SurgeSeat(seat=seat, unit=unit, rollout=rollout, opened_at=now) for seat in new)
    seats |= {seat.pk: seat.generation for seat in new}
    _note_open(seats, now)
    return len(seats)


def close_surge(*, unit: Unit, seat_ids: Collection[int], reason: str) -> int:
    """Close open temporary seats of a unit; return how many. Their agents retire."""
    rows = SurgeSeat.objects.filter(unit=unit, pk__in=seat_ids, closed_at=None).select_related("rollout")
    ids, orders = [], {}
    for row in rows.order_by("pk"):
        ids.append(row.pk)
        orders[row.pk] = row.rollout_id
    if not ids:
        return 0
    seats = list(Seat.objects.select_related("unit").filter(pk__in=ids).order_by("pk"))
    holding.close_surge(seats=seats, actor=ACTOR, reason=reason, order=orders[ids[0]])
    SurgeSeat.objects.filter(pk__in=ids).update(closed_at=timezone.now())
    divisions = {seat.division_id for seat in seats}
    observing.lock_divisions(division_ids=divisions)
    SeatState.objects.filter(pk__in=ids).delete()
    recount_seats(division_ids=divisions)
    return len(ids)


def _of(blueprint: Blueprint) -> dict[str, object]:
    if blueprint.role_id:
        return {"seat__role": blueprint.role_id}
    return {"seat__body": blueprint.body_id}


def _beside(unit: Unit, blueprint: Blueprint, count: int, now: datetime) -> list[Seat]:
    """Return `count` seats beside which temporary ones are opened: of the divisions heard of, in turn."""
    heard = DivisionState.objects.filter(division__unit=unit, seen_at__gte=now - STALE_AFTER)
    seats = Seat.objects.for_listing().filter(unit=unit, division__in=heard.values("division"), external=False)
    seats = seats.filter(role=blueprint.role_id, body=blueprint.body_id, surge=None)
    first: dict[int, Seat] = {}
    for seat in seats.order_by("division_id", "ordinal"):
        first.setdefault(seat.division_id, seat)
    found = list(first.values())
    return [found[place % len(found)] for place in range(count)] if found else []


def _note_open(seats: dict[int, int], now: datetime) -> None:
    """Let the seats have a state, of an agent that is to be heard of, and a place in the census."""
    rows = list(Seat.objects.select_related("role", "body").filter(pk__in=seats).order_by("pk"))
    divisions = {seat.division_id for seat in rows}
    observing.lock_divisions(division_ids=divisions)
    SeatState.objects.bulk_create(
        SeatState(
            seat=seat,
            unit_id=seat.unit_id,
            division_id=seat.division_id,
            role=(seat.role or seat.body).slug,  # type: ignore[union-attr]  # one of both (seat_of_role_or_body)
            generation=seats[seat.pk],
            state=SeatState.State.STARTING,
            since=now,
        )
        for seat in rows
    )
    recount_seats(division_ids=divisions)


def recount_seats(*, division_ids: Collection[int]) -> None:
    """Bring seats and live agents of the divisions' census to what their rows say, in the caller's transaction."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            update replacement_census c set seats = found.seats, live = found.live
            from (select division_id, role, count(*) as seats,
                         count(*) filter (where state = any(%(live)s)) as live
                  from replacement_seatstate where division_id = any(%(divisions)s)
                  group by division_id, role) found
            where c.division_id = found.division_id and c.role = found.role
              and (c.seats, c.live) is distinct from (found.seats, found.live)
            """,
            {"live": list(LIVE_STATES), "divisions": sorted(division_ids)},
        )
