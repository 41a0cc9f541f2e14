"""Requests to the portal: those of one verb that arrive together are answered together.

When a host dies, whoever takes its divisions says hello for a hundred at once; one by one, the answers took as long
as the whole relocation.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec
from django.db import DatabaseError, InterfaceError, OperationalError, connections, transaction
from nats.aio.msg import Msg

from bus import counters
from bus.dispatch import Message, Responder, decode_message, responders
from bus.feeds import Raw
from bus.leases import LeasesUnavailableError
from bus.quarantine import REQUESTS, Rejected, quarantine
from claytom_agent.client import Bus, Disconnected

log = logging.getLogger("bus.answering")

CLERKS: Final = 2
"""Batches of a verb that are answered at the same time, so that one that waits does not hold up the others."""
TOGETHER: Final = 100
MAX_WAITING: Final = 10_000
INBOXES: Final = "_INBOX"
"""Answers go to inboxes only: whoever asks may name any subject for the answer, and we may publish on many."""
ASK_AGAIN: Final = b""
"""No answer at all: the sender's patience ends, and it asks again."""


class Desk:
    """Takes the requests of one verb and answers them in batches."""

    def __init__(self, bus: Bus, responder: Responder, executor: ThreadPoolExecutor) -> None:
        self._bus = bus
        self._responder = responder
        self._executor = executor
        self._waiting: asyncio.Queue[Msg] = asyncio.Queue(MAX_WAITING)

    async def take(self, request: Msg) -> None:
        """Put a request in the queue; one too many is dropped, and asked again."""
        try:
            self._waiting.put_nowait(request)
        except asyncio.QueueFull:
            counters.add("claytom_requests_dropped_total")

    async def serve(self) -> None:
        """Answer until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            requests = [await self._waiting.get()]
            while len(requests) < TOGETHER and not self._waiting.empty():
                requests.append(self._waiting.get_nowait())
            try:
                replies = await loop.run_in_executor(self._executor, reply, self._responder, requests)
            except Exception:  # whoever sends something that nobody thought of must not silence the others
                log.exception("%s requests like %s not answered", len(requests), requests[0].subject)
                continue
            for request, answer in zip(requests, replies, strict=True):
                if answer and request.reply.startswith(INBOXES):
                    with contextlib.suppress(Disconnected):
                        await self._bus.publish(request.reply, answer)


async def answer(bus: Bus, stop: asyncio.Event) -> None:
    """Answer requests on `org.claytom.*.command.<verb>`; several bus processes share them (queue group)."""
    found = responders()
    with ThreadPoolExecutor(CLERKS * len(found) or 1, "answer") as executor:
        desks = {verb: Desk(bus, responder, executor) for verb, responder in found.items()}
        clerks = [asyncio.ensure_future(desk.serve()) for desk in desks.values() for _ in range(CLERKS)]
        for verb, desk in desks.items():
            await bus.subscribe(f"org.claytom.*.command.{verb}", desk.take, queue="portal")
        stopping = asyncio.ensure_future(stop.wait())
        try:
            done, _ = await asyncio.wait({stopping, *clerks}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # a clerk ends only by a mistake in the program
        finally:
            for task in (stopping, *clerks):
                task.cancel()


def reply(responder: Responder, requests: Sequence[Msg]) -> list[bytes]:
    """Return the answer to each request: a responder's, a refusal that says why, or ASK_AGAIN.

    A request that cannot be understood is quarantined too: who sends such things is to be seen.
    """
    try:
        decoded = list(enumerate(decode_message(_raw(request)) for request in requests))
        understood = {place: item for place, item in decoded if isinstance(item, Message)}
        rejected = {place: item for place, item in decoded if isinstance(item, Rejected)}
        replies = [ASK_AGAIN] * len(requests)
        if rejected and _kept(list(rejected.values())):
            for place, item in rejected.items():
                replies[place] = msgspec.json.encode(
                    {"code": item.stage, "reason": item.reason, "retry_after_s": 60}
                )
        for place, answered in zip(understood, _answers(responder, list(understood.values())), strict=True):
            replies[place] = answered
        return replies
    finally:
        connections.close_all()


def _kept(rejected: Sequence[Rejected]) -> bool:
    try:
        with transaction.atomic():
            quarantine(rejected=rejected)
    except (DatabaseError, InterfaceError) as error:
        log.warning("%s bad requests not answered, the database fails: %s", len(rejected), str(error).strip())
        return False
    return True


def _answers(responder: Responder, messages: Sequence[Message]) -> list[bytes]:
    if not messages:
        return []
    try:
        return [msgspec.json.encode(answered) for answered in responder(messages)]
    except (LeasesUnavailableError, OperationalError, InterfaceError) as error:
        # It is not about these requests: what the database or the leases do not answer, they do not answer anyone.
        log.warning("%s (%s in all) not answered: %s", messages[0].subject, len(messages), str(error).strip())
    except Exception:
        if len(messages) > 1:
            return [answered for message in messages for answered in _answers(responder, [message])]
        log.exception("%s cannot be answered", messages[0].subject)
    return [ASK_AGAIN] * len(messages)


def _raw(request: Msg) -> Raw:
    headers = request.headers or {}
    block = b"NATS/1.0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode() + b"\r\n"
    return Raw(request.subject.encode(), block, request.data, time.time_ns(), REQUESTS)
