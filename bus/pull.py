"""The ingest: pulls the registered feeds, commits each batch in a thread, acknowledges after the commit.

Each feed has its own connection, thread and pace. While a batch commits, the next ones arrive: the server may
send up to `WINDOW` batches ahead. One acknowledgement covers a batch (AckPolicy "all"), and everything before
it - so it must be certain that nothing before it was delivered elsewhere or lost on the way. Two rules see to
that. A session begins by resetting the consumer to its acknowledgement floor, so that what an earlier session
had received and not acknowledged comes again at once, not after the ack wait of 30 s. And deliveries are
numbered: a gap (another process pulls too, a message was lost) ends the session before anything is
acknowledged.
"""

import asyncio
import gc
import json
import logging
import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final
from uuid import uuid4

from django.db import connections

from bus import counters
from bus.commit import Committer
from bus.feeds import Feed, Raw
from bus.wire import Wire, status

log = logging.getLogger("bus.pull")

WINDOW: Final = 2  # batches under way besides the one that commits
EXPIRES: Final = 30.0  # seconds that a request stays open at the server
TICK: Final = 1.0  # seconds
FIRST_DELAY, LONGEST_DELAY = 0.2, 5.0  # seconds between tries to connect
STABLE: Final = 10.0  # seconds after which a session counts as good and the delay starts small again
NEEDED_VERSION: Final = (2, 14)  # the first server with CONSUMER.RESET
NO_RESPONDERS, TIMEOUT, IDLE = 503, 408, 100
BATCH_COMPLETED: Final = "Batch Completed"


class SessionEnded(ConnectionError):  # noqa: N818 - it is how sessions end, told by its reason
    """This session cannot go on; a new one begins at the acknowledgement floor."""


class Session:
    """One connection's pulling from one consumer: from the reset to the first doubt."""

    def __init__(self, feed: Feed, wire: Wire) -> None:
        self._feed = feed
        self._wire = wire
        self._inbox = f"{wire.inbox_prefix}.{uuid4().hex}".encode()
        self._requests = f"$JS.API.CONSUMER.MSG.NEXT.{feed.stream}.{feed.consumer}".encode()
        self._buffer: list[Raw] = []
        self._replies: list[bytes] = []
        self._credit = 0
        self._delivery = 0  # number of the last delivery; the reset makes the server count from 1
        self._ended: str = ""
        self._clock = asyncio.get_running_loop().time
        self.heard_at = self._clock()  # when the server last said anything about this consumer
        self._something = asyncio.Event()
        self._answer: asyncio.Future[bytes] | None = None

    async def open(self) -> None:
        """Reset the consumer to its acknowledgement floor and ask for the first messages.

        Raises SessionEnded when the stream or consumer does not exist (yet), TimeoutError without an answer.
        """
        version = tuple(int(part) for part in str(self._wire.info.get("version", "0.0")).split(".")[:2])
        if version < NEEDED_VERSION:
            raise SessionEnded(f"NATS {self._wire.info.get('version')} is too old: the ingest needs 2.14 or later")
        self._wire.subscribe(self._inbox + b".answer", self._answered)
        self._wire.subscribe(self._inbox + b".messages", self._arrived)
        await self._call("INFO")  # a reset of what does not exist gets no answer at all
        await self._call("RESET")
        self._ask()

    async def _call(self, verb: str) -> None:
        self._answer = asyncio.get_running_loop().create_future()
        subject = f"$JS.API.CONSUMER.{verb}.{self._feed.stream}.{self._feed.consumer}".encode()
        self._wire.publish(subject, b"", self._inbox + b".answer")
        async with asyncio.timeout(5):
            reply = await self._answer
        if not reply.startswith(b"{"):
            raise SessionEnded("JetStream does not answer")
        if error := json.loads(reply).get("error"):
            raise SessionEnded(f"{self._feed.stream}: {error.get('description', error)}")

    def _answered(self, _subject: bytes, _reply: bytes, headers: bytes, body: bytes) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(body or headers)

    async def next(self, seconds: float) -> tuple[list[Raw], bytes]:
        """Return up to a batch of messages and the reply subject of the last; nothing after `seconds`.

        Raises SessionEnded.
        """
        if not self._buffer:
            self._something.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._something.wait()
        if self._buffer and len(self._buffer) < self._feed.batch:
            await asyncio.sleep(self._feed.linger)
        if self._ended:
            raise SessionEnded(self._ended)
        size = self._feed.batch
        batch, replies = self._buffer[:size], self._replies[:size]
        if batch:
            self.heard_at = self._clock()
        del self._buffer[:size], self._replies[:size]
        self._ask()
        return batch, replies[-1] if replies else b""

    def acknowledge(self, reply: bytes) -> None:
        """Acknowledge the message of that reply subject and all before it. Raises ConnectionError."""
        if self._ended:
            raise SessionEnded(self._ended)
        self._wire.publish(reply, b"+ACK")

    def end(self, reason: str) -> None:
        """Let nothing more be handed out or acknowledged; the first reason stays."""
        self._ended = self._ended or reason
        self._something.set()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(SessionEnded(reason))

    def _ask(self) -> None:
        """Keep the server allowed to send two batches ahead."""
        while self._credit + len(self._buffer) <= (WINDOW - 1) * self._feed.batch:
            request = b'{"batch":%d,"expires":%d}' % (self._feed.batch, EXPIRES * 1e9)
            self._wire.publish(self._requests, request, self._inbox + b".messages")
            self._credit += self._feed.batch

    def _arrived(self, subject: bytes, reply: bytes, headers: bytes, body: bytes) -> None:
        if not reply.startswith(b"$JS.ACK."):
            self._noticed(headers)
            return
        # $JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<deliveries>.<sequence>.<delivery>.<ns>.<pending>
        _, seq, number, stored_ns, _ = reply.rsplit(b".", 4)
        delivery = int(number)
        if delivery != self._delivery + 1:
            self.end(f"delivery {delivery} came after {self._delivery}: does another process pull too?")
            return
        self._delivery = delivery
        self._credit -= 1
        if not self._buffer:
            self._something.set()
        self._buffer.append(Raw(subject, headers, body, int(seq), self._feed.stream, int(stored_ns)))
        self._replies.append(reply)

    def _noticed(self, headers: bytes) -> None:
        """A message of the server's own: a request that ran out, or something that ends the session."""
        self.heard_at = self._clock()
        code, description = status(headers)
        if code == IDLE:
            return
        if code == TIMEOUT or description == BATCH_COMPLETED:
            left = headers.partition(b"Nats-Pending-Messages: ")[2].partition(b"\r\n")[0]
            self._credit = max(0, self._credit - int(left or 0))
            if not self._ended:
                self._ask()
            return
        self.end(f"the server says {code} {description}".strip())


class Puller:
    """Pulls one feed until it is told to stop, through any number of sessions."""

    def __init__(self, feed: Feed, url: str, stop: asyncio.Event) -> None:
        self._feed = feed
        self._url = url
        self._stop = stop
        self._given_up = threading.Event()
        self._committer = Committer(feed, self._given_up)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=feed.consumer)
        self._down = ""

    async def run(self) -> None:
        """Pull until `stop`; then let the current commit end and return."""
        stopping = asyncio.ensure_future(self._stop.wait())
        stopping.add_done_callback(lambda _: self._given_up.set())
        try:
            await self._attempt(self._feed.start)
            await self._sessions()
            await self._attempt(self._feed.tick)
        finally:
            stopping.cancel()
            await self._call(connections.close_all)
            self._thread.shutdown()

    async def _sessions(self) -> None:
        clock = asyncio.get_running_loop().time
        delay = FIRST_DELAY
        while not self._stop.is_set():
            began = clock()
            try:
                await self._session()
            except OSError as error:  # ConnectionError and TimeoutError are OSErrors too
                self._report(str(error) or type(error).__name__)
            if clock() - began > STABLE:
                delay = FIRST_DELAY
            with suppress(TimeoutError):
                async with asyncio.timeout(delay * random.uniform(1, 1.3)):  # noqa: S311 - jitter
                    await self._stop.wait()
            delay = min(delay * 2, LONGEST_DELAY)

    async def _session(self) -> None:
        wire = await Wire.connect(self._url, name="portal:ingest")
        session = Session(self._feed, wire)
        wire.lost.add_done_callback(lambda _: session.end("the connection is lost"))
        try:
            await session.open()
            if self._down:
                log.info("%s: pulling again.", self._feed.consumer)
                self._down = ""
            await self._pull(session)
        finally:
            wire.close()

    async def _pull(self, session: Session) -> None:
        clock = asyncio.get_running_loop().time
        stopping = asyncio.ensure_future(self._stop.wait())
        stopping.add_done_callback(lambda _: session.end("stopping"))
        ticked = clock()
        try:
            while not self._stop.is_set():
                batch, reply = await session.next(max(0.0, ticked + TICK - clock()))
                if batch:
                    if not await self._call(self._committer.commit, batch):
                        return
                    session.acknowledge(reply)
                elif clock() - session.heard_at > EXPIRES + 10:
                    # Neither messages nor a notice that a request ran out: whatever was lost, begin anew.
                    session.end("the server has fallen silent")
                if clock() - ticked >= TICK:
                    ticked = clock()
                    await self._attempt(self._feed.tick)
        except SessionEnded:
            if not self._stop.is_set():
                raise
        finally:
            stopping.cancel()

    async def _attempt(self, act: Callable[[], None] | None) -> None:
        if act is not None:
            await self._call(self._committer.attempt, act)

    async def _call(self, function: Callable[..., object], *args: object) -> object:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)

    def _report(self, reason: str) -> None:
        """Log each new reason once, and count each session that ended."""
        counters.add("claytom_sessions_ended_total", stream=self._feed.stream)
        if reason != self._down:
            self._down = reason
            log.warning("%s waits: %s", self._feed.consumer, reason)


def spare_the_collector() -> None:
    """Let the garbage collector leave alone what the process has loaded, and look rarely at what messages make.

    Messages make many objects and no cycles: looking for some cost a quarter of the ingest's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)


async def run(feeds: Sequence[Feed], url: str, stop: asyncio.Event) -> None:
    """Pull all feeds until `stop` is set. A mistake in the program ends all of them and is raised."""
    async with asyncio.TaskGroup() as group:
        for feed in feeds:
            group.create_task(Puller(feed, url, stop).run(), name=feed.consumer)
