"""Who a sample is from: the header `ce-source` resolved to a unit, a role, a seat and a generation."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from struct import Struct
from typing import Final

from django.db import connection

from claytom_agent.subjects import CORPORATE, AgentAddress, SeatAddress, SubjectError, parse_address
from holding.models import Body, Seat, Unit
from subsidiaries.performance.models import KpiLatest

MAX_KNOWN: Final = 200_000  # senders kept resolved; beyond, the memory is emptied and fills again
RELOAD_SECONDS: Final = 5.0  # an unknown name makes the directory look again, at most this often
MAX_GENERATION: Final = 999_999

# Columns as binary COPY wants them: each value after its length, -1 for null.
_UNIT: Final = Struct("!ii")
_SEAT: Final = Struct("!iiii")
_NO_SEAT: Final = Struct("!ii").pack(-1, -1)
_LENGTH: Final = Struct("!i")

# Unbroken runs of ordinals of each role: temporary seats lie far above those of the establishment.
RUNS: Final = """
select unit.slug, role.slug, min(seat.ordinal), max(seat.ordinal)
from (select unit_id, role_id, ordinal,
             ordinal - row_number() over (partition by unit_id, role_id order by ordinal) as run
      from holding_seat where role_id is not null) seat
join holding_unit unit on unit.id = seat.unit_id
join holding_role role on role.id = seat.role_id
group by unit.slug, role.slug, seat.run
"""


Source = tuple[bytes, bytes]
"""What a message says of its sender: the headers `ce-source` and, for corporate seats, `Claytom-Generation`."""


class SenderError(ValueError):
    """A sender that does not exist; the first argument is the rule's word, the second the detail."""

    @property
    def rule(self) -> str:
        """The word of the rule that refuses it."""
        return str(self.args[0])


@dataclass(frozen=True, slots=True)
class Sender:
    """A resolved sender. `columns` are unit, ordinal, generation and role in the form of binary COPY."""

    unit: str
    role: str
    subject: bytes  # that its samples come on
    cell: tuple[int, str]  # unit id and role: what minutes are summed by
    ordinal: int | None
    generation: int | None
    key: int  # of KpiLatest; 0 when unattributed
    columns: bytes


class Directory:
    """The units, seats and bodies that exist, with every sender resolved so far."""

    def __init__(self) -> None:
        self._known: dict[Source, Sender] = {}
        self.known = self._known.get
        """Return a sender if it has been resolved before, else None."""
        self._anonymous: dict[tuple[str, str], Sender] = {}
        self._units: Mapping[str, int] = {}
        self._ordinals: Mapping[tuple[str, str], list[tuple[int, int]]] = {}
        self._corporate: Mapping[tuple[str, str], int] = {}
        self._bodies: frozenset[str] = frozenset()
        self._loaded = float("-inf")

    def sender(self, source: Source) -> Sender:
        """Resolve a source. Raises SenderError."""
        sender = self._known.get(source)
        if sender is None:
            sender = self._retrying(lambda: self._resolve(*source))
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[source] = sender
        return sender

    def anonymous(self, unit: str, role: str) -> Sender:
        """Return the sender of samples that only name a unit and a role. Raises SenderError."""
        key = (unit, role)
        sender = self._anonymous.get(key)
        if sender is None:
            sender = self._anonymous[key] = self._retrying(lambda: self._make(unit, role, None, None))
        return sender

    def _retrying(self, resolve: Callable[[], Sender]) -> Sender:
        try:
            return resolve()
        except SenderError:
            if time.monotonic() - self._loaded < RELOAD_SECONDS:
                raise
            self._load()
            return resolve()

    def _resolve(self, source: bytes, generation: bytes) -> Sender:
        try:
            address = parse_address(source.decode())
        except (SubjectError, UnicodeDecodeError) as error:
            raise SenderError("source-malformed", str(error)) from None
        if isinstance(address, AgentAddress):
            ordinal = address.id.ordinal
            runs = self._ordinals.get((address.subsidiary, address.role), ())
            if not any(first <= ordinal <= last for first, last in runs):
                raise SenderError("seat-unknown", f"{address} holds no seat of the establishment")
            return self._make(address.subsidiary, address.role, ordinal, address.id.generation)
        return self._of_corporate(address, generation)

    def _of_corporate(self, address: SeatAddress, generation: bytes) -> Sender:
        ordinal = self._corporate.get((address.body, address.seat))
        if ordinal is None:
            raise SenderError("seat-unknown", f"{address} is no seat of the parent company")
        if generation and not (generation.isdigit() and 1 <= int(generation[:7]) <= MAX_GENERATION):
            raise SenderError("generation-malformed", f"Claytom-Generation {generation[:40]!r}")
        return self._make(CORPORATE, address.body, ordinal, int(generation) if generation else None)

    def _make(self, unit: str, role: str, ordinal: int | None, generation: int | None) -> Sender:
        unit_id = self._units.get(unit)
        if unit_id is None:
            raise SenderError("unit-unknown", f"the holding has no unit {unit}")
        if unit == CORPORATE and role not in self._bodies:
            raise SenderError("role-unknown", f"the parent company has no body {role}")
        name = role.encode()
        if ordinal is None:
            seat = _NO_SEAT
        elif generation is None:
            seat = _UNIT.pack(4, ordinal) + _LENGTH.pack(-1)
        else:
            seat = _SEAT.pack(4, ordinal, 4, generation)
        return Sender(
            unit=unit,
            role=role,
            subject=b"org.claytom.%b.metrics.kpi" % unit.encode(),
            cell=(unit_id, role),
            ordinal=ordinal,
            generation=generation,
            key=0 if ordinal is None else KpiLatest.key(unit_id, ordinal),
            columns=_UNIT.pack(4, unit_id) + seat + _LENGTH.pack(len(name)) + name,
        )

    def _load(self) -> None:
        """Read what exists: at the start, and again when a name is unknown (the holding may have grown)."""
        self._loaded = time.monotonic()
        self._units = dict(Unit.objects.values_list("slug", "id"))
        self._bodies = frozenset(Body.objects.values_list("slug", flat=True))
        ordinals: dict[tuple[str, str], list[tuple[int, int]]] = {}
        with connection.cursor() as cursor:
            cursor.execute(RUNS)
            for unit, role, first, last in cursor:
                ordinals.setdefault((unit, role), []).append((first, last))
        self._ordinals = ordinals
        corporate = Seat.objects.filter(body__isnull=False).values_list("body__slug", "code", "ordinal")
        self._corporate = {(body, code): ordinal for body, code, ordinal in corporate}
