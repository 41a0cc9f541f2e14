"""What a host has said and the streams have not yet acknowledged: a bounded ring, retried with the same ids.

Sequence numbers (`Claytom-Seq`) are given here, gap-free for each (division, epoch, stream), so that the ingest
can drop duplicates by a watermark and see what is missing. For the same reason nothing that has a number is ever
dropped: when the ring is full, new messages are refused before they get one, counted and logged.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from claytom_agent.client import (
    MAX_BATCH,
    BatchResult,
    Bus,
    BusError,
    Disconnected,
    NoAnswerError,
    NobodyThereError,
    Outgoing,
)

log = logging.getLogger("claytom_agent.spool")

CAPACITY: Final = 20_000
SENDERS: Final = 4
RETRY_CEILING_S: Final = 5.0

ATOMIC_STREAMS: Final = frozenset({"CT_KPI", "CT_EVENTS"})
"""The streams of the protocol that take atomic batches."""

Build = Callable[[int], Outgoing]
"""Makes the message that gets the given number."""


@dataclass(slots=True)
class _Batch:
    unit: str
    stream: str
    messages: Sequence[Outgoing]
    tries: int = 0


class Spool:
    """Messages on their way to the streams, each over the line of its unit. `run` sends; `add` never waits."""

    def __init__(self, bus_of: Callable[[str], Bus], *, capacity: int = CAPACITY) -> None:
        self._bus_of = bus_of
        self._capacity = capacity
        self._waiting: deque[_Batch] = deque()
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._numbers: dict[tuple[str, int, str], int] = {}
        self._last_warning = 0.0
        self.unacked = 0
        """Messages that were numbered and are not acknowledged."""
        self.stored = 0
        """Messages that a stream stored."""
        self.duplicates = 0
        """Messages that a stream already had."""
        self.refused = 0
        """Messages that found the ring full and were never numbered."""

    def room(self, count: int) -> bool:
        """Whether `count` more messages fit; a refusal is counted and logged."""
        if self.unacked + count <= self._capacity:
            return True
        self.refused += count
        now = time.monotonic()
        if now - self._last_warning > 10.0:
            self._last_warning = now
            log.error("spool full (%d unacknowledged): %d messages refused so far", self.unacked, self.refused)
        return False

    def add(self, division: str, epoch: int, stream: str, builders: Sequence[Build]) -> bool:
        """Number and keep the messages of one division and stream, in order; False if there is no room."""
        if not builders:
            return True
        if not self.room(len(builders)):
            return False
        key = (division, epoch, stream)
        number = self._numbers.get(key, 0)
        messages = [build(number + offset) for offset, build in enumerate(builders, 1)]
        self._numbers[key] = number + len(messages)
        self.unacked += len(messages)
        self._idle.clear()
        unit = division.partition(".")[0]
        for start in range(0, len(messages), MAX_BATCH):
            self._waiting.append(_Batch(unit, stream, messages[start : start + MAX_BATCH]))
        self._arrived.set()
        return True

    def forget(self, division: str, epoch: int) -> None:
        """Let go of the counters of an epoch that is over; its messages are still sent."""
        for key in [key for key in self._numbers if key[0] == division and key[1] == epoch]:
            del self._numbers[key]

    async def run(self) -> None:
        """Send until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(SENDERS):
                group.create_task(self._send())

    async def drained(self, within_s: float) -> bool:
        """Wait until everything is acknowledged; False if it is not within so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        return self._idle.is_set()

    async def _send(self) -> None:
        while True:
            while not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            batch = self._next()
            try:
                result = await self._bus_of(batch.unit).js_publish_batch(batch.messages)
            except (BusError, Disconnected, NoAnswerError, NobodyThereError) as error:
                await self._put_back(batch, error)
                continue
            except BaseException:
                self._waiting.appendleft(batch)
                raise
            self._acknowledged(batch, result)

    def _next(self) -> _Batch:
        """Take the first batch, filled up with what waits behind it for the same unit and stream.

        One batch is one write to the disk of the server, so in a backlog fuller batches go faster.
        """
        batch = self._waiting.popleft()
        if batch.tries or batch.stream not in ATOMIC_STREAMS:
            return batch
        while self._waiting:
            following = self._waiting[0]
            space = MAX_BATCH - len(batch.messages)
            same = (following.unit, following.stream) == (batch.unit, batch.stream)
            if following.tries or not same or not space:
                break
            batch = _Batch(batch.unit, batch.stream, [*batch.messages, *following.messages[:space]])
            following.messages = following.messages[space:]
            if not following.messages:
                self._waiting.popleft()
        return batch

    async def _put_back(self, batch: _Batch, error: Exception) -> None:
        batch.tries += 1
        if batch.tries in (1, 5) or batch.tries % 60 == 0:
            log.warning("%d messages not stored (try %d): %s", len(batch.messages), batch.tries, error)
        try:
            ceiling = min(0.5 * 2 ** min(batch.tries - 1, 5), RETRY_CEILING_S)
            await asyncio.sleep(random.uniform(0.5, 1.0) * ceiling)
        finally:
            if isinstance(error, BusError):
                self._waiting.append(batch)  # refused, perhaps for ever: the others go first
            else:
                self._waiting.appendleft(batch)

    def _acknowledged(self, batch: _Batch, result: BatchResult) -> None:
        self.unacked -= len(batch.messages)
        self.stored += result.stored
        self.duplicates += result.duplicates
        if self.unacked == 0:
            self._idle.set()
