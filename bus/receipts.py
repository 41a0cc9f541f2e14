"""Receipts to senders for what is committed, and asking again for what never came.

The watermarks say both. Those that a commit has touched are marked in the same transaction; once a second the
`bus` process takes the marked ones and publishes a receipt for each (core NATS: a lost one is followed by
another, since a sender asks after what it has no receipt for). A gap is asked for when it is five seconds old,
and every five seconds while it is open.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from uuid import uuid4

import msgspec
from django.db import connection, transaction
from django.utils import timezone

from bus import counters
from claytom_agent.client import Bus, Outgoing, event_headers, iso
from claytom_agent.messages import IngestReceipt, IngestResend, ce_type
from claytom_agent.subjects import command

log = logging.getLogger("bus.receipts")

EVERY_S: Final = 1.0
GAP_S: Final = 5.0
MOST: Final = 1000
"""Receipts, or requests, of one round; the others wait for the next."""
MOST_RANGES: Final = 100
SOURCE: Final = "portal/ingest"

DUE = """
    with due as (
        select id from bus_watermark where receipt_due order by updated_at limit %s for update skip locked
    )
    update bus_watermark w set receipt_due = false from due where w.id = due.id
    returning w.division, w.epoch, w.stream, w.received
"""
GAPS = """
    select division, epoch, stream, received from bus_watermark
     where received <> '{}' and received <> int8multirange(int8range(1, upper(received)))
     order by stream, division, epoch limit %s
"""
FORGET = """
    delete from bus_watermark w
     where updated_at < %s
       and epoch < (select max(epoch) from bus_watermark m where m.division = w.division and m.stream = w.stream)
"""
KEPT: Final = timedelta(hours=25)  # no older sample is taken

Key = tuple[str, int, str]
Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Received:
    """The numbers that came of a division under an epoch in a stream, as ranges of which both ends are in."""

    division: str
    epoch: int
    stream: str
    ranges: Sequence[Range]

    @property
    def key(self) -> Key:
        """What it is about."""
        return self.division, self.epoch, self.stream

    @property
    def gaps(self) -> list[Range]:
        """The numbers that are missing below the highest one."""
        ends = [0, *(last for _, last in self.ranges)]
        return [(end + 1, first - 1) for end, (first, _) in zip(ends, self.ranges, strict=False) if first > end + 1]


def take_due() -> list[Received]:
    """Return what receipts are due for, and mark them as given; to be published after the commit."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(DUE, [MOST])
        return [_received(*row) for row in cursor.fetchall()]


def open_gaps() -> list[Received]:
    """Return what has gaps now."""
    with connection.cursor() as cursor:
        cursor.execute(GAPS, [MOST])
        return [_received(*row) for row in cursor.fetchall()]


def forget() -> int:
    """Delete watermarks of former epochs that nothing can come for any more; return how many."""
    with connection.cursor() as cursor:
        cursor.execute(FORGET, [timezone.now() - KEPT])
        return int(cursor.rowcount)


def _received(division: str, epoch: int, stream: str, received: Iterable[Any]) -> Received:
    return Received(division, epoch, stream, [(part.lower, part.upper - 1) for part in received])


@dataclass(slots=True)
class _Gap:
    missing: Range
    since: float
    asked_at: float = float("-inf")


@dataclass(slots=True)
class GapWatch:
    """How long gaps have been open, and which to ask for now. Kept in memory: a new process waits anew."""

    clock: Callable[[], float] = time.monotonic
    _gaps: dict[Key, list[_Gap]] = field(default_factory=dict)

    def due(self, found: Iterable[Received]) -> list[Received]:
        """Note the gaps that are open now; return those to ask for, as ranges of missing numbers."""
        now = self.clock()
        before, self._gaps = self._gaps, {}
        due = []
        for received in found:
            gaps = [_aged(missing, before.get(received.key, ()), now) for missing in received.gaps]
            self._gaps[received.key] = gaps
            old = [gap for gap in gaps if now - gap.since >= GAP_S and now - gap.asked_at >= GAP_S]
            for gap in old[:MOST_RANGES]:
                gap.asked_at = now
            if old:
                due.append(Received(*received.key, [gap.missing for gap in old[:MOST_RANGES]]))
        return due


def _aged(missing: Range, before: Iterable[_Gap], now: float) -> _Gap:
    """Return a gap with its age: that of the gap that it is a part of, if there was one."""
    for gap in before:
        if gap.missing[0] <= missing[0] and missing[1] <= gap.missing[1]:
            return _Gap(missing, gap.since, gap.asked_at)
    return _Gap(missing, now)


class Receipts:
    """One round after the other: receipts that are due, gaps that are old. `step` runs in a thread."""

    def __init__(self, bus: Bus, loop: asyncio.AbstractEventLoop) -> None:
        self._bus = bus
        self._loop = loop
        self._watch = GapWatch()

    def step(self) -> int:
        """Publish what is due; return 0, since a round a second is all that is wanted.

        Raises the database's errors, and Disconnected: then the receipts of this round are lost, and come again
        when their senders ask after them.
        """
        receipts = take_due()
        lacking = self._watch.due(open_gaps())
        messages = [_receipt(received) for received in receipts] + [_resend(received) for received in lacking]
        if messages:
            asyncio.run_coroutine_threadsafe(self._publish(messages), self._loop).result(timeout=10)
            counters.add("claytom_receipts_total", len(receipts))
        for received in lacking:
            missing = sum(last - first + 1 for first, last in received.ranges)
            counters.add("claytom_resends_total", stream=received.stream)
            log.warning(
                "%s epoch %d: %d messages of %s never came; asked for them again.",
                received.division, received.epoch, missing, received.stream,
            )  # fmt: skip
        return 0

    async def _publish(self, messages: Sequence[Outgoing]) -> None:
        for message in messages:
            await self._bus.publish(message.subject, message.body, message.headers)
        await self._bus.flush()


def _receipt(received: Received) -> Outgoing:
    ranges = list(received.ranges)
    through = ranges.pop(0)[1] if ranges and ranges[0][0] == 1 else 0
    body = IngestReceipt(*received.key, through, ranges[:MOST_RANGES])
    return _message("receipt", received.division, msgspec.json.encode(body))


def _resend(received: Received) -> Outgoing:
    body = IngestResend(*received.key, list(received.ranges))
    return _message("resend", received.division, msgspec.json.encode(body))


def _message(verb: str, division: str, body: bytes) -> Outgoing:
    headers = event_headers(
        ce_type=ce_type(f"ingest.{verb}"), source=SOURCE, id=str(uuid4()), time=iso(), dedup=False
    )
    return Outgoing(command(division.partition(".")[0], verb), body, headers)
