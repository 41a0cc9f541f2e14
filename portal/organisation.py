"""The group at a glance: the field of all agents, problems by unit, and who reports to whom."""

from dataclasses import dataclass
from datetime import datetime

from django.db import connection
from django.db.models import Case, CharField, Count, F, Q, Value, When

from holding.models import Body, Role, Seat, Unit
from portal.states import FIELD
from subsidiaries.replacement.models import STALE_AFTER, Census, SeatState
from subsidiaries.replacement.rollout_models import SurgeSeat

# One byte per seat, by unit and ordinal: the tier (1 to 4) in the high half, the class of state in the low.
# A seat of which nothing was heard lately is offline, whatever its last state was.
FIELD_SQL = """
    select u.id, string_agg(
             set_byte('\\x00'::bytea, 0,
               16 * coalesce(substr(r.tier, 2, 1)::int, 4)
               + case when d.seen_at is null or d.seen_at < %(since)s then %(offline)s
                      else coalesce(array_position(%(states)s::text[], s.state::text), 0) end),
             ''::bytea order by seat.ordinal)
      from holding_seat seat
      join holding_unit u on u.id = seat.unit_id
      left join holding_role r on r.id = seat.role_id
      join replacement_seatstate s on s.seat_id = seat.id
      left join replacement_divisionstate d on d.division_id = seat.division_id
     where seat.closed_at is null
     group by u.id, u.position
     order by u.position
"""
CLASSES = list(FIELD)


def field_bytes(*, now: datetime) -> bytes:
    """Return the state of every seat, one byte each, units in the holding's order (52,550 bytes, one query).

    Byte: `16 * tier + class`, where class is a place in `CLASSES`.
    """
    states = [state for group in FIELD.values() for state in group]
    # array_position counts from 1 over single states; the table turns places into classes.
    with connection.cursor() as cursor:
        cursor.execute(
            FIELD_SQL,
            {"since": now - STALE_AFTER, "offline": _place_of_offline(states), "states": states},
        )
        raw = b"".join(bytes(part) for _unit, part in cursor.fetchall())
    return raw.translate(_classes(states))


def _place_of_offline(states: list[str]) -> int:
    return states.index(FIELD["offline"][0]) + 1


def _classes(states: list[str]) -> bytes:
    """The table that turns `16 * tier + place of the state` into `16 * tier + class`."""
    offline = CLASSES.index("offline")
    of_state = {state: CLASSES.index(name) for name, group in FIELD.items() for state in group}
    table = bytearray(range(256))
    for byte in range(256):
        tier, place = divmod(byte, 16)
        known = 1 <= place <= len(states)
        table[byte] = 16 * tier + (of_state[states[place - 1]] if known else offline)
    return bytes(table)


@dataclass(frozen=True, slots=True)
class Patch:
    """The field of one unit: where its bytes lie, and its counts in text."""

    unit: Unit
    offset: int
    seats: int
    live: int
    classes: dict[str, int]  # other than active: how many

    @property
    def problems(self) -> int:
        """How many seats are not live, or degraded."""
        return max(self.classes.get("degraded", 0) + self.classes.get("offline", 0), self.seats - self.live)


def patches(*, now: datetime) -> list[Patch]:
    """Return the fields, those with most problems first (three queries)."""
    units = list(Unit.objects.order_by("position"))
    counts = Census.objects.by_unit(now)
    amiss: dict[int, dict[str, int]] = {}
    for pk, name, count in _not_active(now):
        amiss.setdefault(pk, {})[name] = count
    result, offset = [], 0
    for unit in units:
        seats, live = counts.get(unit.pk, (0, 0))
        result.append(Patch(unit, offset, seats, live, amiss.get(unit.pk, {})))
        offset += seats
    return sorted(result, key=lambda patch: -patch.problems)


def _not_active(now: datetime) -> list[tuple[int, str, int]]:
    """Seats in office by unit and class of the field, without those that are active and heard of."""
    silent = ~Q(division__state__seen_at__gte=now - STALE_AFTER)
    branches = [
        When(state__in=group, then=Value(name))
        for name, group in FIELD.items()
        if name not in ("active", "offline")
    ]
    rows = (
        SeatState.objects.exclude(state__in=FIELD["active"], division__state__seen_at__gte=now - STALE_AFTER)
        .annotate(
            shown=Case(
                When(silent, then=Value("offline")), *branches, default=Value("offline"), output_field=CharField()
            )
        )
        .order_by()
        .values_list("unit_id", "shown")
        .annotate(Count("pk"))
    )
    return list(rows)


# --- who reports to whom -----------------------------------------------------------------------------------


def bodies() -> list[Body]:
    """Return the bodies of the parent company, with how many seats each has (`seats`)."""
    return list(Body.objects.annotate(seats=Count("seat")).order_by("position"))


def seats_under(kind: str, key: str) -> list[Seat] | None:
    """Return the seats under a body, a unit's head, or a seat (`reporting`), None when that does not exist."""
    closed = SurgeSeat.objects.exclude(closed_at=None).values("seat")  # of a rollout that is over: nobody is there
    seats = (
        Seat.objects.open()
        .exclude(pk__in=closed)
        .select_related("unit", "role", "body")
        .annotate(reporting=Count("reports", filter=Q(reports__closed_at=None)))
        .order_by("ordinal")
    )
    if kind == "body" and Body.objects.filter(slug=key).exists():
        return list(seats.filter(body__slug=key))
    if kind == "unit" and Unit.objects.filter(slug=key).exists():
        return list(seats.filter(unit__slug=key, role__tier=Role.Tier.L4))
    if kind == "seat" and key.isdigit() and len(key) < 19 and Seat.objects.filter(pk=int(key)).exists():
        own = F("reports_to__unit")
        return list(seats.filter(reports_to_id=int(key), unit=own))
    return None
