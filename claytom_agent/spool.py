"""What a host has said and the portal has not yet received: kept on the host's disk, sent with the same ids.

Sequence numbers (`Claytom-Seq`) are given here, gap-free for each (division, epoch, stream), so that the ingest
can drop duplicates by a watermark and see what is missing. For the same reason nothing that has a number is ever
dropped: when the spool is full, new messages are refused before they get one, counted and logged.

A message is written to the journal, flushed to the disk together with all others of that moment, and only then
sent: so what the stream has, the journal has. The stream's acknowledgement frees nothing, since a damaged store
loses acknowledged messages in silence; the portal's receipt after its commit does. What the portal asks for
again is sent under a message id that the stream does not know, because its table of known ids may outlive the
messages; `ce-id` stays, and with the number is what the receiver goes by.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from claytom_agent.blocks import (
    Block,
    Build,
    Freed,
    Key,
    Left,
    Line,
    Range,
    Stage,
    Written,
    decode,
    encode,
    read_left,
)
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
from claytom_agent.journal import Journal, Place
from claytom_agent.parcels import RECEIPTED, SAMPLES_STREAM, Parcel, Parcels, Piece, renamed

log = logging.getLogger("claytom_agent.spool")

CAPACITY: Final = 250_000
"""Messages: what a host of the whole holding says in five minutes."""
CAPACITY_BYTES: Final = 256 * 1024 * 1024
SAMPLES_SHARE: Final = 0.8
"""Of the spool, at most, for samples: results and costs are worth more and come more rarely."""
CACHE_BYTES: Final = 24 * 1024 * 1024
"""Of messages on their way that are also kept in memory; the others are read back when their turn comes."""
SENDERS: Final = 4
RETRY_CEILING_S: Final = 5.0
PROBE_S: Final = (5.0, 30.0)
"""First and longest wait for a receipt of what was stored, before it is asked after."""


class Spool:
    """Messages on their way to the portal. `run` sends; `add` never waits.

    `bus_of` returns the connection of a unit. Raises `JournalBusyError` if another process has the journal.
    """

    def __init__(
        self,
        bus_of: Callable[[str], Bus],
        journal: Journal,
        *,
        capacity: int = CAPACITY,
        capacity_bytes: int = CAPACITY_BYTES,
    ) -> None:
        self._bus_of = bus_of
        self._journal = journal
        self._capacity = capacity
        self._capacity_bytes = capacity_bytes
        self._lines: dict[Key, Line] = {}
        self._parcels = Parcels()
        self._unsynced: list[Block] = []
        self._written = asyncio.Event()
        self._arrived = asyncio.Event()
        self._moved = asyncio.Event()
        self._cached = 0
        self._last_warning = 0.0
        self._watched: set[int] = set()
        self.depth = 0
        """Messages that the portal has not received, as far as the host knows."""
        self.bytes = 0
        """The same in the journal."""
        self.unacked = 0
        """Messages that were numbered and that no stream has acknowledged."""
        self.stored = 0
        """Messages that a stream stored."""
        self.duplicates = 0
        """Messages that a stream already had."""
        self.received = 0
        """Messages that the portal has receipted."""
        self.refused = 0
        """Messages that found the spool full and were never numbered."""
        self.thinned = 0
        """Samples that were left out while the spool was filling."""
        self.sent_again = 0
        """Messages that were sent again because the portal asked for them."""
        self.recovered = 0
        """Messages that an earlier run of the host had left."""
        self._recover(journal)

    # -- adding -------------------------------------------------------------------------------------------------

    @property
    def fill(self) -> float:
        """How full it is for samples: 0 empty, 1 full."""
        return max(self.depth / self._capacity, self._journal.bytes_on_disk / self._capacity_bytes) / SAMPLES_SHARE

    @property
    def thinning(self) -> int:
        """Of how many rounds of samples one shall be sent: all while there is room, fewer as it fills."""
        fill = self.fill
        return 1 if fill < 0.5 else 2 if fill < 0.7 else 4 if fill < 0.85 else 8

    def room(self, count: int, stream: str = SAMPLES_STREAM) -> bool:
        """Whether `count` more messages fit; a refusal is counted and logged."""
        share = SAMPLES_SHARE if stream == SAMPLES_STREAM else 1.0
        on_disk = self._journal.bytes_on_disk
        if self.depth + count <= share * self._capacity and on_disk < share * self._capacity_bytes:
            return True
        self._refuse(count, f"spool full ({self.depth} messages, {self.bytes >> 20} MiB)")
        return False

    def _refuse(self, count: int, why: str) -> None:
        self.refused += count
        now = time.monotonic()
        if now - self._last_warning > 10.0:
            self._last_warning = now
            log.error("%s: %d messages refused so far", why, self.refused)

    def add(self, division: str, epoch: int, stream: str, builders: Sequence[Build]) -> Sequence[Block] | None:
        """Number and keep the messages of one division and stream, in order; None if there is no room.

        The blocks that are returned tell how safe the messages are (`stage`, `until`).
        """
        if not builders:
            return ()
        if not self.room(len(builders), stream):
            return None
        key = (division, epoch, stream)
        line = self._lines.get(key) or Line(key)
        messages = [build(line.last + offset) for offset, build in enumerate(builders, 1)]
        first = line.last + 1
        payload = encode(Written(*key, first, [(m.subject, m.body, dict(m.headers)) for m in messages]))
        try:
            place = self._journal.append(payload)
        except OSError as error:
            self._refuse(len(builders), f"the journal takes no more ({error})")
            return None
        line.last += len(messages)
        self._lines[key] = line
        cached = messages if self._cached < CACHE_BYTES else None
        block = Block(key, first, line.last, place, len(payload), cached, unstored=len(messages))
        self._cached += block.size if cached else 0
        self._note(line, block)
        self._unsynced.append(block)
        self._written.set()
        return (block,)

    def _note(self, line: Line, block: Block) -> None:
        line.blocks.append(block)
        self.depth += len(block)
        self.bytes += block.size
        self.unacked += len(block)

    def forget(self, division: str, epoch: int) -> None:
        """Let go of the counters of an epoch that is over; its messages are still sent until they are received."""
        for key in [key for key in self._lines if key[:2] == (division, epoch)]:
            self._lines[key].ended = True
            self._tidy(self._lines[key])

    def _tidy(self, line: Line) -> None:
        if line.ended and not line.blocks:
            self._lines.pop(line.key, None)

    def numbers(self, division: str, epoch: int) -> dict[str, int]:
        """Return the highest number given in each stream."""
        return {key[2]: line.last for key, line in self._lines.items() if key[:2] == (division, epoch)}

    def status(self) -> dict[str, int]:
        """Say how safe what was said is: in the spool, stored by a stream, received by the portal."""
        return {
            "spool": self.depth,
            "spool_bytes": self._journal.bytes_on_disk,
            "stored": self.stored,
            "received": self.received,
            "refused": self.refused,
            "thinned": self.thinned,
            "sent_again": self.sent_again,
            "recovered": self.recovered,
            "damaged": self._journal.damaged,
        }

    def close(self) -> None:
        """Give the journal back; after `run` has ended."""
        self._journal.close()

    # -- the journal --------------------------------------------------------------------------------------------

    def _recover(self, journal: Journal) -> None:
        """Take up what an earlier run left. It may be stored or not, so it is sent under ids that are new."""
        for left in read_left(journal):
            self._take_up(left, left.place)
        self.recovered = self.depth
        if self.depth:
            log.info("%d messages of an earlier run are in the spool", self.depth)

    def adopt(self, journal: Journal) -> int:
        """Take over what a host left that is no more, and delete its journal; return how many messages.

        Raises `OSError` if the disk is full; then its journal stays, and what is sent twice counts once.
        """
        before = self.depth
        for left in read_left(journal):
            self._take_up(left, self._journal.append(left.payload))
        self._journal.sync()
        journal.close(remove=True)
        return self.depth - before

    def _take_up(self, left: Left, place: Place) -> None:
        line = self._lines.setdefault(left.key, Line(left.key, left.last, ended=True))
        line.last = max(line.last, left.last)
        count = left.last - left.first + 1
        block = Block(left.key, left.first, left.last, place, len(left.payload), None, count, Stage.KEPT, 1)
        self._note(line, block)
        self._send_block(block, again=1)

    async def _sync(self, executor: ThreadPoolExecutor) -> None:
        """Flush to the disk whatever was written, again and again: one flush for all of a moment."""
        loop = asyncio.get_running_loop()
        while True:
            await self._written.wait()
            self._written.clear()
            blocks, self._unsynced = self._unsynced, []
            try:
                await loop.run_in_executor(executor, self._journal.sync)
            except OSError as error:
                # Sending it all the same is safer than holding it back; but it is no promise.
                log.critical("the journal is not safe on its disk: %s", error)
            else:
                for block in blocks:
                    block.reach(Stage.KEPT)
            for block in blocks:
                self._send_block(block)

    def _messages(self, piece: Piece) -> list[Outgoing]:
        block = piece.block
        if block.messages is not None:
            part = list(block.messages[piece.start : piece.stop])
        else:
            record = decode(self._journal.read(block.place)) if block.place is not None else None
            if not isinstance(record, Written):
                raise OSError(f"{block.key}: {block.first} to {block.last} are not in the journal")
            part = [Outgoing(*message) for message in record.messages[piece.start : piece.stop]]
        return [renamed(message, piece.again) for message in part] if piece.again else part

    # -- sending ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Send until cancelled."""
        with ThreadPoolExecutor(1, "journal") as executor:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._sync(executor))
                group.create_task(self._probe())
                for _ in range(SENDERS):
                    group.create_task(self._send())

    async def drained(self, within_s: float, stage: Stage = Stage.STORED) -> bool:
        """Wait until everything is stored (or received); False if it is not within so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._left(stage):
                    self._moved.clear()
                    await self._moved.wait()
        return not self._left(stage)

    def _left(self, stage: Stage) -> int:
        return self.depth if stage == Stage.RECEIVED else self.unacked

    def _send_block(self, block: Block, *, again: int = 0) -> None:
        for start in range(0, len(block), MAX_BATCH):
            self._enqueue(Piece(block, start, min(start + MAX_BATCH, len(block)), again))

    def _enqueue(self, piece: Piece) -> None:
        division, _, stream = piece.block.key
        self._parcels.append(Parcel(division.partition(".")[0], stream, [piece]))
        self._arrived.set()

    def _watch(self, bus: Bus) -> None:
        """Ask soon after what is stored whenever the server was away: it may have come back without it."""
        if id(bus) not in self._watched:
            self._watched.add(id(bus))
            bus.on_reconnect.append(self._doubt)

    async def _send(self) -> None:
        while True:
            while not self._parcels:
                self._arrived.clear()
                await self._arrived.wait()
            parcel = self._parcels.next(self._go_together)
            if not parcel.pieces:
                continue
            try:
                messages = [message for piece in parcel.pieces for message in self._messages(piece)]
                bus = self._bus_of(parcel.unit)
                self._watch(bus)
                result = await bus.js_publish_batch(messages)
            except (BusError, LookupError, OSError) as error:
                await self._put_back(parcel, error)
                continue
            except BaseException:
                self._parcels.appendleft(parcel)
                raise
            self._acknowledged(parcel, result)

    def _go_together(self, one: str, other: str) -> bool:
        """Whether two units have one connection."""
        try:
            return self._bus_of(one) is self._bus_of(other)
        except LookupError:
            return False

    async def _put_back(self, parcel: Parcel, error: Exception) -> None:
        parcel.tries += 1
        if parcel.tries in (1, 5) or parcel.tries % 60 == 0:
            log.warning("%d messages not stored (try %d): %s", len(parcel), parcel.tries, error)
        try:
            ceiling = min(0.5 * 2 ** min(parcel.tries - 1, 5), RETRY_CEILING_S)
            await asyncio.sleep(random.uniform(0.5, 1.0) * ceiling)
        finally:
            if isinstance(error, Disconnected | NoAnswerError | NobodyThereError):
                self._parcels.appendleft(parcel)
            else:
                self._parcels.append(parcel)  # refused or not to be read, perhaps for ever: the others go first

    def _acknowledged(self, parcel: Parcel, result: BatchResult) -> None:
        self.stored += result.stored
        self.duplicates += result.duplicates
        for piece in parcel.pieces:
            block = piece.block
            if block.stage >= Stage.STORED:
                continue
            self.unacked -= len(piece)
            block.unstored -= len(piece)
            if block.unstored <= 0:
                block.reach(Stage.STORED)
                self._uncache(block)
                line = self._lines.get(block.key)
                if block.key[2] not in RECEIPTED:
                    self.receipt(*block.key, [(block.first, block.last)], note=False)
                elif line is not None and not line.probes:
                    line.probe_at = time.monotonic() + PROBE_S[0]
        self._moved.set()

    def _uncache(self, block: Block) -> None:
        if block.messages is not None:
            block.messages = None
            self._cached -= block.size

    # -- receipts -----------------------------------------------------------------------------------------------

    def receipt(self, division: str, epoch: int, stream: str, ranges: Iterable[Range], *, note: bool = True) -> int:
        """Free what the portal says to have; return how many messages that were. Of others nothing is known."""
        line = self._lines.get((division, epoch, stream))
        if line is None:
            return 0
        freed = line.receive(ranges)
        count = sum(map(len, freed))
        for block in freed:
            self.depth -= len(block)
            self.bytes -= block.size
            self.unacked -= max(0, block.unstored)
            block.unstored = 0
            self._uncache(block)
            block.reach(Stage.RECEIVED)
            if block.place is not None:
                self._journal.release(block.place)
                block.place = None
        self.received += count
        if freed and note:
            with contextlib.suppress(OSError):  # without it, more is sent again after a restart: nothing worse
                self._journal.append(encode(Freed(*line.key, line.received)), needed=False)
        self._compact()
        self._tidy(line)
        self._moved.set()
        return count

    def _compact(self) -> None:
        """Write anew the few messages for whose sake the oldest segment is kept, once there are many."""
        if not self._journal.is_sparse:
            return
        for line in self._lines.values():
            for block in line.blocks:
                if block.place is not None and self._journal.is_oldest(block.place):
                    with contextlib.suppress(OSError):
                        place = self._journal.append(self._journal.read(block.place))
                        self._journal.release(block.place)
                        block.place = place

    def resend(self, division: str, epoch: int, stream: str, ranges: Iterable[Range]) -> int:
        """Send again what the portal lacks, as far as it is stored; return how many messages those are."""
        line = self._lines.get((division, epoch, stream))
        if line is None:
            return 0
        count = 0
        for first, last in ranges:
            for block in line.blocks:
                start, stop = max(first, block.first), min(last, block.last)
                if block.stage == Stage.STORED and start <= stop:  # else it is on its way
                    block.sent_again += 1
                    count += stop - start + 1
                    self._enqueue(Piece(block, start - block.first, stop - block.first + 1, block.sent_again))
        self.sent_again += count
        if count:
            log.warning("%s epoch %d: the portal lacks %d messages of %s", division, epoch, count, stream)
        return count

    def _doubt(self) -> None:
        soon = time.monotonic() + random.uniform(1.0, 3.0)
        for line in self._lines.values():
            line.probe_at, line.probes = min(line.probe_at or soon, soon), 0

    async def _probe(self) -> None:
        """Ask after what was stored and is not received, by sending the last of it once more.

        It goes through the same stream, behind all that was stored before. So if it is received and others are
        not, those are lost, and the portal sees the gap; if everything was received, the receipt comes again.
        """
        while True:
            await asyncio.sleep(random.uniform(0.5, 1.0))
            now = time.monotonic()
            for line in list(self._lines.values()):
                if line.probe_at <= now and line.waiting_for_receipt():
                    line.probes += 1
                    line.probe_at = now + min(PROBE_S[0] * 2**line.probes, PROBE_S[1])
                    block = line.blocks[-1]
                    block.sent_again += 1
                    self._enqueue(Piece(block, len(block) - 1, len(block), block.sent_again))
