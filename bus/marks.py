"""Which numbers of the senders have been received: sets of ranges, extended in the transaction of the messages.

A host numbers the messages of a division without gaps under each epoch and stream (`Claytom-Seq`), so the
received ones are a few ranges, however many they are. They are locked, read and extended together with the
messages' effects: a duplicate is known by its number, and what is missing shows as a gap. What is refused into
quarantine is received too: it is safe there, and its sender may forget it.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from django.db import connection
from django.db.backends.utils import CursorWrapper

from bus.feeds import Raw
from claytom_agent.subjects import SLUG_PATTERN

_DIVISION: Final = re.compile(rf"({SLUG_PATTERN})\.[a-z0-9][a-z0-9-]{{0,35}}".encode())
MAX_DIGITS: Final = 18  # a larger number does not fit into a bigint
MAX: Final = 1 << 63
SEQ: Final = b"\r\nClaytom-Seq:"

OPEN = """
    insert into bus_watermark (division, stream, epoch, received, updated_at, receipt_due)
    select division, %s, epoch, '{}', now(), false from unnest(%s::text[], %s::bigint[]) as t(division, epoch)
    order by division, epoch
    on conflict do nothing
"""
LOCK = """
    select division, epoch, received from bus_watermark
     where stream = %s and (division, epoch) in (select * from unnest(%s::text[], %s::bigint[]))
     order by division, epoch
       for update
"""
EXTEND = """
    update bus_watermark w
       set received = w.received + t.received::int8multirange, updated_at = now(), receipt_due = true
      from unnest(%s::text[], %s::bigint[], %s::text[]) as t(division, epoch, received)
     where w.stream = %s and w.division = t.division and w.epoch = t.epoch
"""


class SeqError(ValueError):
    """A `Claytom-Seq` that cannot be one; the text says why."""


@dataclass(slots=True)
class Mark:
    """The received numbers of one division under one epoch, those of the database and those of this batch."""

    division: str
    epoch: int
    subjects: bytes  # how the subjects of its messages begin
    ranges: list[tuple[int, int]] = field(default_factory=list)  # from the database, [first, end)
    end: int = 0  # of all that is known: whatever is above is new without looking
    new: set[int] = field(default_factory=set)
    parts: list[tuple[int, int]] = field(default_factory=list)  # the same numbers as ranges
    again: bool = False  # whether a known number came: its sender has not got the receipt

    def admit(self, first: int, end: int) -> list[int] | None:
        """Note a range of numbers as received; return those that were before, None if all are new."""
        if first >= self.end:
            known = None
            self.parts.append((first, end))
        else:
            known = [number for number in range(first, end) if number in self.new or self._is_stored(number)]
            self.parts.extend((number, number + 1) for number in sorted(set(range(first, end)).difference(known)))
            self.again = self.again or bool(known)
        self.end = max(self.end, end)
        self.new.update(range(first, end))
        return known

    def _is_stored(self, number: int) -> bool:
        at = bisect_right(self.ranges, (number, MAX)) - 1
        return at >= 0 and number < self.ranges[at][1]


class Marks:
    """The watermarks of one stream that one batch touches: `find` them, `lock` them, admit numbers, `extend`."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._marks: dict[bytes, Mark] = {}

    def find(self, seq: bytes, subject: bytes) -> tuple[Mark, bytes, int]:
        """Return the mark that a `Claytom-Seq` names, its text without the number, and the number.

        Raises SeqError, also if the division is of another unit than the subject: a host's numbers count for
        its own only.
        """
        prefix, _, digits = seq.rpartition(b".")
        if not digits.isdigit() or len(digits) > MAX_DIGITS or not (number := int(digits)):
            raise SeqError(f"{seq[:80]!r} does not end in a number from 1")
        mark = self._marks.get(prefix)
        if mark is None:
            mark = self._marks[prefix] = _parse(prefix)
        if not subject.startswith(mark.subjects):
            raise SeqError(f"{seq[:80]!r} is of another unit than the subject")
        return mark, prefix, number

    def __iter__(self) -> Iterator[Mark]:
        return iter(self._marks.values())

    def lock(self, cursor: CursorWrapper) -> None:
        """Lock and read what was received of the divisions and epochs that `find` was asked for."""
        marks = list(self._marks.values())
        if not marks:
            return
        known = self._read(cursor, marks)
        if missing := [mark for mark in marks if (mark.division, mark.epoch) not in known]:
            cursor.execute(OPEN, [self._stream, [m.division for m in missing], [m.epoch for m in missing]])
            known = self._read(cursor, marks)
        for mark in marks:
            mark.ranges = known[mark.division, mark.epoch]
            mark.end = mark.ranges[-1][1] if mark.ranges else 0

    def _read(self, cursor: CursorWrapper, marks: Sequence[Mark]) -> dict[tuple[str, int], list[tuple[int, int]]]:
        """Lock and return what was received, by division and epoch."""
        cursor.execute(LOCK, [self._stream, [mark.division for mark in marks], [mark.epoch for mark in marks]])
        return {
            (division, epoch): [(part.lower, part.upper) for part in received]
            for division, epoch, received in cursor.fetchall()
        }

    def extend(self, cursor: CursorWrapper) -> None:
        """Add the numbers admitted from this batch to the watermarks, for which receipts are due then."""
        marks = [mark for mark in self._marks.values() if mark.parts or mark.again]
        if not marks:
            return
        divisions = [mark.division for mark in marks]
        received = ["{" + ",".join(f"[{first},{end})" for first, end in mark.parts) + "}" for mark in marks]
        cursor.execute(EXTEND, [divisions, [mark.epoch for mark in marks], received, self._stream])


def receive(raws: Iterable[Raw]) -> None:
    """Note messages as received whatever became of them, in the caller's transaction; without a number: nothing."""
    by_stream: dict[str, Marks] = {}
    admitted: list[tuple[Mark, int]] = []
    for raw in raws:
        marks = by_stream.setdefault(raw.stream, Marks(raw.stream))
        if seq := seq_of(raw.headers):
            try:
                mark, _, number = marks.find(seq, raw.subject)
            except SeqError:
                continue
            admitted.append((mark, number))
    with connection.cursor() as cursor:
        for marks in by_stream.values():
            marks.lock(cursor)
        for mark, number in admitted:
            mark.admit(number, number + 1)
        for marks in by_stream.values():
            marks.extend(cursor)


def seq_of(headers: bytes) -> bytes:
    """Return the `Claytom-Seq` of a raw header block, or b""."""
    start = headers.find(SEQ)
    if start < 0:
        return b""
    return headers[start + len(SEQ) : headers.find(b"\r\n", start + len(SEQ))].strip()


def _parse(prefix: bytes) -> Mark:
    division, _, epoch = prefix.rpartition(b".")
    match = _DIVISION.fullmatch(division)
    if match is None or not epoch.isdigit() or len(epoch) > MAX_DIGITS:
        raise SeqError(f"{prefix[:80]!r} is not <division>.<epoch>")
    return Mark(division.decode(), int(epoch), b"org.claytom.%b." % match[1])
