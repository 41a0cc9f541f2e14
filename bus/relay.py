"""The outbox relay: sends what transactions decided, in order, at least once.

One relay works at a time (advisory lock), so that two manifests of a division keep their order. What was
sent twice, because the relay died between sending and noting it, has the same message id: the stream drops
it within its window, and receivers are idempotent beyond it.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.db import connection, transaction
from django.db.models import F, Q
from django.utils import timezone

from bus.models import OutboxMessage
from bus.streams import WORK, stream_of
from claytom_agent.client import MAX_BATCH, Bus, BusError, Disconnected, NoAnswerError, NobodyThereError, Outgoing

log = logging.getLogger("bus.relay")

RELAY_LOCK = 0x72656C61  # "rela"
BATCH = 500
PARALLEL = 32
FORGETTING: Final = timedelta(seconds=15)  # between tries of what the stream still knows by its id
KNOWN: Final = "the stream still knows this message id; it is sent again until it is stored anew"


@dataclass(slots=True)
class Pending:
    """An outbox row on its way."""

    id: int
    message: Outgoing
    insist: bool = False
    error: str = ""
    sent: bool = False
    known: bool = False  # the stream took it for one that it has
    seq: int | None = None  # in the queue of work


def relay_once(bus: Bus, loop: asyncio.AbstractEventLoop) -> int:
    """Send the oldest unsent messages, at most 500; return how many were sent.

    Runs in a thread of its own; `loop` is where `bus` lives. What could not be sent stays, with the
    reason and one more attempt noted.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("select pg_try_advisory_xact_lock(%s)", [RELAY_LOCK])
            if not cursor.fetchone()[0]:
                return 0
        rows = (
            OutboxMessage.objects.select_for_update(skip_locked=True)
            .filter(Q(not_before=None) | Q(not_before__lte=timezone.now()), sent_at=None)
            .order_by("id")
            .values_list("id", "subject", "payload", "headers", "insist")[:BATCH]
        )
        pending = [
            Pending(pk, Outgoing(subject, bytes(payload), headers), insist)
            for pk, subject, payload, headers, insist in rows
        ]
        if not pending:
            return 0
        asyncio.run_coroutine_threadsafe(_send(bus, pending), loop).result(timeout=45)
        return _note(pending)


def _note(pending: Sequence[Pending]) -> int:
    """Write down what became of each message; return how many were sent."""
    now = timezone.now()
    sent = [item.id for item in pending if item.sent]
    OutboxMessage.objects.filter(pk__in=sent).update(sent_at=now, error="")
    for item in pending:
        row = OutboxMessage.objects.filter(pk=item.id)
        if item.sent and item.seq is not None:
            row.update(stream_seq=item.seq)
        elif item.known:
            row.update(attempts=F("attempts") + 1, error=KNOWN, not_before=now + FORGETTING)
        elif not item.sent:
            row.update(attempts=F("attempts") + 1, error=item.error[:500])
    return len(sent)


async def _send(bus: Bus, pending: Sequence[Pending]) -> None:
    by_stream: dict[str, list[Pending]] = defaultdict(list)
    streams: dict[str, dict[str, Any] | None] = {}
    for item in pending:
        stream = stream_of(item.message.subject)
        name = stream["name"] if stream else ""
        if item.insist and stream:  # alone: a batch does not tell which of its messages the stream knew
            name, stream = f"{name} again", {**stream, "allow_atomic": False}
        streams[name] = stream
        by_stream[name].append(item)
    for name, items in by_stream.items():
        stream = streams[name]
        try:
            if stream is None:
                await _send_core(bus, items)
            elif stream.get("allow_atomic"):
                await _send_batch(bus, items)
            else:
                await _send_singly(bus, items)
        except (BusError, Disconnected, NoAnswerError, NobodyThereError) as error:
            log.warning("outbox: %s messages for %s wait: %s", len(items), name or "core", error)
            for item in items:
                item.error = item.error or str(error)


async def _send_core(bus: Bus, items: Sequence[Pending]) -> None:
    for item in items:
        await bus.publish(item.message.subject, item.message.body, item.message.headers)
    await bus.flush()
    for item in items:
        item.sent = True


async def _send_batch(bus: Bus, items: Sequence[Pending]) -> None:
    for start in range(0, len(items), MAX_BATCH):
        part = items[start : start + MAX_BATCH]
        await bus.js_publish_batch([item.message for item in part])
        for item in part:
            item.sent = True


async def _send_singly(bus: Bus, items: Sequence[Pending]) -> None:
    """Send side by side, but messages of the same subject one after the other."""
    queues: dict[str, list[Pending]] = defaultdict(list)
    for item in items:
        queues[item.message.subject].append(item)
    room = asyncio.Semaphore(PARALLEL)

    async def drain(queue: list[Pending]) -> None:
        async with room:
            for item in queue:
                try:
                    ack = await bus.js_publish(item.message, tries=1)
                except (BusError, Disconnected, NoAnswerError, NobodyThereError) as error:
                    item.error = str(error)
                    return
                item.known = item.insist and ack.duplicate
                item.sent = not item.known
                item.seq = ack.seq if ack.stream == WORK else None

    await asyncio.gather(*(drain(queue) for queue in queues.values()))
