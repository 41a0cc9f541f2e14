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
from subsidiaries.performance import rows

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
    fences: tuple[bytes, bytes]  # the columns epoch and stale of its samples: when fresh, when stale
    ranges: list[tuple[int, int]] = field(default_factory=list)  # from the database, [first, end)
    end: int = 0  # of the last range: whatever is above is new without looking
    new: set[int] = field(default_factory=set)

    def admit(self, number: int) -> bool:
        """Note `number` as received; return False if it was before."""
        if number in self.new or (number < self.end and self._is_known(number)):
            return False
        self.new.add(number)
        return True

    def _is_known(self, number: int) -> bool:
        at = bisect_right(self.ranges, (number, MAX)) - 1
        return at >= 0 and number < self.ranges[at][1]


class Marks:
    """The watermarks that one batch touches."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._marks: dict[bytes, Mark] = {}
        self._highest: dict[str, int] = {}  # epoch, by division

    def of(self, seq: bytes, subject: bytes) -> tuple[Mark, int]:
        """Return the mark and the number that a `Claytom-Seq` names. Raises SeqError.

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
        return mark, number

    def lock(self, cursor: CursorWrapper) -> None:
        """Lock and read what was received of the divisions that `of` has named."""
        marks = list(self._marks.values())
        divisions = [mark.division for mark in marks]
        cursor.execute(OPEN, [self._stream, divisions, [mark.epoch for mark in marks]])
        cursor.execute(LOCK, [self._stream, sorted(set(divisions))])
        known = {(division, epoch): received for division, epoch, received in cursor.fetchall()}
        for (division, epoch), received in known.items():
            if received:
                self._highest[division] = max(epoch, self._highest.get(division, 0))
        for mark in marks:
            mark.ranges = [(part.lower, part.upper) for part in known[mark.division, mark.epoch]]
            mark.end = mark.ranges[-1][1] if mark.ranges else 0

    def is_stale(self, mark: Mark) -> bool:
        """Say whether a higher epoch of the division came before this message, and note its own."""
        highest = self._highest.get(mark.division, 0)
        if mark.epoch < highest:
            return True
        self._highest[mark.division] = mark.epoch
        return False

    def extend(self, cursor: CursorWrapper) -> None:
        """Add the numbers admitted from this batch to the watermarks."""
        marks = [mark for mark in self._marks.values() if mark.new]
        divisions = [mark.division for mark in marks]
        received = [_multirange(mark.new) for mark in marks]
        cursor.execute(EXTEND, [divisions, [mark.epoch for mark in marks], received, self._stream])


def _parse(prefix: bytes) -> Mark:
    division, _, epoch = prefix.rpartition(b".")
    match = _DIVISION.fullmatch(division)
    if match is None or not epoch.isdigit() or len(epoch) > MAX_DIGITS:
        raise SeqError(f"{prefix[:80]!r} is not <division>.<epoch>")
    fences = rows.fence(int(epoch), stale=False), rows.fence(int(epoch), stale=True)
    return Mark(division.decode(), int(epoch), b"org.claytom.%b.metrics.kpi" % match[1], fences)


def _multirange(numbers: Iterable[int]) -> str:
    """Return sorted numbers as the text of an int8multirange."""
    parts: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if parts and parts[-1][1] == number:
            parts[-1] = (parts[-1][0], number + 1)
        else:
            parts.append((number, number + 1))
    return "{" + ",".join(f"[{first},{end})" for first, end in parts) + "}"


def sample_key(raw: Raw, source: bytes) -> UUID:
    """Return what identifies a sample that carries no `Claytom-Seq`."""
    identity = source + b"\n" + raw.body if source else b"%b %d %d" % (raw.stream.encode(), raw.seq, raw.stored_ns)
    return UUID(bytes=blake2b(identity, digest_size=16).digest())


def remember(cursor: CursorWrapper, keys: Iterable[UUID], at: datetime) -> set[UUID]:
    """Note keys as handled; return those that were not yet."""
    cursor.execute(REMEMBER, [at, list(keys)])
    return {key for (key,) in cursor.fetchall()}
