"""What was received already: the watermarks of numbered samples, the keys of the others, and fencing.

A host numbers the samples of a division without gaps under each epoch (`Claytom-Seq`), so the received ones
are a set of a few ranges, however many they are; it is locked, read and extended in the transaction that
stores the samples, and a duplicate is known without an index on the samples. A sample without a number is
known by a digest: of its source and body if it names a source (the body holds its `ts`, so a repetition is
the same and the next sample is not), else of its place in the stream, since two agents that do not say who
they are may well send equal bodies.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import Final
from uuid import UUID

from django.db.backends.utils import CursorWrapper

from bus.feeds import Raw
from claytom_agent.subjects import SLUG_PATTERN
from subsidiaries.performance.senders import Source

_DIVISION: Final = re.compile(rf"({SLUG_PATTERN})\.[a-z0-9][a-z0-9-]{{0,35}}".encode())
MAX_DIGITS: Final = 18  # a larger number does not fit into a bigint
MAX: Final = 1 << 63

OPEN = """
    insert into performance_watermark (division, stream, epoch, received, updated_at)
    select division, %s, epoch, '{}', now() from unnest(%s::text[], %s::bigint[]) as t(division, epoch)
    order by division, epoch
    on conflict do nothing
"""
LOCK = """
    select division, epoch, received from performance_watermark
     where stream = %s and division = any(%s)
     order by division, epoch
       for update
"""
EXTEND = """
    update performance_watermark w
       set received = w.received + t.received::int8multirange, updated_at = now()
      from unnest(%s::text[], %s::bigint[], %s::text[]) as t(division, epoch, received)
     where w.stream = %s and w.division = t.division and w.epoch = t.epoch
"""
REMEMBER = """
    insert into performance_samplekey (key, at)
    select key, %s from unnest(%s::uuid[]) as t(key) order by key
    on conflict do nothing
    returning key
"""


class SeqError(ValueError):
    """A `Claytom-Seq` that cannot be one; the text says why."""


@dataclass(slots=True)
class Mark:
    """The received numbers of one division under one epoch, those of the database and those of this batch."""

    division: str
    epoch: int
    subject: bytes  # the only subject that its samples may come on
    ranges: list[tuple[int, int]] = field(default_factory=list)  # from the database, [first, end)
    end: int = 0  # of all that is known: whatever is above is new without looking
    new: set[int] = field(default_factory=set)
    parts: list[tuple[int, int]] = field(default_factory=list)  # the same numbers as ranges

    def admit(self, first: int, end: int) -> list[int] | None:
        """Note a range of numbers as received; return those that were before, None if all are new."""
        if first >= self.end:
            known = None
            self.parts.append((first, end))
        else:
            known = [number for number in range(first, end) if number in self.new or self._is_stored(number)]
            self.parts.extend((number, number + 1) for number in set(range(first, end)).difference(known))
        self.end = max(self.end, end)
        self.new.update(range(first, end))
        return known

    def _is_stored(self, number: int) -> bool:
        at = bisect_right(self.ranges, (number, MAX)) - 1
        return at >= 0 and number < self.ranges[at][1]


Arrival = tuple[Raw, Source, bool]
"""A message, what it says of its sender, and whether its headers name the type where ours do."""


@dataclass(slots=True)
class Run:
    """Messages that came one after another, numbered without a gap: what a host sends of a division at once.

    Everything about numbers and fencing is decided once for a run. Messages without a number are a run for
    each epoch that they name, with neither mark nor numbers.
    """

    epoch: int | None
    prefix: bytes = b""  # of its numbers: division and epoch
    subject: bytes = b""
    mark: Mark | None = None
    first: int = 0
    arrivals: list[Arrival] = field(default_factory=list)
    stale: bool = False

    def drop(self, numbers: Iterable[int]) -> None:
        """Leave out the messages of these numbers."""
        places = {number - self.first for number in numbers}
        self.arrivals = [arrival for place, arrival in enumerate(self.arrivals) if place not in places]


class Marks:
    """The watermarks that one batch touches."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._marks: dict[bytes, Mark] = {}
        self._highest: dict[str, int] = {}  # epoch, by division

    def begin(self, seq: bytes, subject: bytes) -> Run:
        """Return an empty run that begins with the number that a `Claytom-Seq` names. Raises SeqError.

        Also if the division is of another unit than the subject: a host's numbers count for its own only.
        """
        prefix, _, digits = seq.rpartition(b".")
        if not digits.isdigit() or len(digits) > MAX_DIGITS or not (number := int(digits)):
            raise SeqError(f"{seq[:80]!r} does not end in a number from 1")
        mark = self._marks.get(prefix)
        if mark is None:
            mark = self._marks[prefix] = _parse(prefix)
        if subject != mark.subject:
            raise SeqError(f"{seq[:80]!r} is of another unit than the subject")
        return Run(mark.epoch, prefix, subject, mark, number)

    def lock(self, cursor: CursorWrapper) -> None:
        """Lock and read what was received of the divisions that `begin` has named."""
        marks = list(self._marks.values())
        known = self._read(cursor)
        if missing := [mark for mark in marks if (mark.division, mark.epoch) not in known]:
            cursor.execute(OPEN, [self._stream, [m.division for m in missing], [m.epoch for m in missing]])
            known = self._read(cursor)
        for (division, epoch), received in known.items():
            if received:
                self._highest[division] = max(epoch, self._highest.get(division, 0))
        for mark in marks:
            mark.ranges = known[mark.division, mark.epoch]
            mark.end = mark.ranges[-1][1] if mark.ranges else 0

    def _read(self, cursor: CursorWrapper) -> dict[tuple[str, int], list[tuple[int, int]]]:
        """Lock and return what was received, by division and epoch."""
        cursor.execute(LOCK, [self._stream, sorted({mark.division for mark in self._marks.values()})])
        return {
            (division, epoch): [(part.lower, part.upper) for part in received]
            for division, epoch, received in cursor.fetchall()
        }

    def admit(self, run: Run) -> None:
        """Note a run as received, drop of it what was received before, and say whether it is fenced."""
        mark = run.mark
        if mark is None:
            return
        if known := mark.admit(run.first, run.first + len(run.arrivals)):
            run.drop(known)
        if not run.arrivals:
            return
        # Stale: a higher epoch of the division came before.
        highest = self._highest.get(mark.division, 0)
        run.stale = mark.epoch < highest
        self._highest[mark.division] = max(mark.epoch, highest)

    def extend(self, cursor: CursorWrapper) -> None:
        """Add the numbers admitted from this batch to the watermarks."""
        marks = [mark for mark in self._marks.values() if mark.parts]
        divisions = [mark.division for mark in marks]
        received = ["{" + ",".join(f"[{first},{end})" for first, end in mark.parts) + "}" for mark in marks]
        cursor.execute(EXTEND, [divisions, [mark.epoch for mark in marks], received, self._stream])


def _parse(prefix: bytes) -> Mark:
    division, _, epoch = prefix.rpartition(b".")
    match = _DIVISION.fullmatch(division)
    if match is None or not epoch.isdigit() or len(epoch) > MAX_DIGITS:
        raise SeqError(f"{prefix[:80]!r} is not <division>.<epoch>")
    return Mark(division.decode(), int(epoch), b"org.claytom.%b.metrics.kpi" % match[1])


def sample_key(raw: Raw, source: bytes) -> UUID:
    """Return what identifies a sample that carries no `Claytom-Seq`."""
    identity = source + b"\n" + raw.body if source else b"%b %d %d" % (raw.stream.encode(), raw.seq, raw.stored_ns)
    return UUID(bytes=blake2b(identity, digest_size=16).digest())


def remember(cursor: CursorWrapper, keys: Iterable[UUID], at: datetime) -> set[UUID]:
    """Note keys as handled; return those that were not yet."""
    cursor.execute(REMEMBER, [at, list(keys)])
    return {key for (key,) in cursor.fetchall()}
