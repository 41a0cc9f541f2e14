"""The `bus` process: relays the outbox, delivers events to handlers, answers requests, seals the ledger."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import msgspec
from django.db import DatabaseError, InterfaceError, close_old_connections, connections
from nats.aio.msg import Msg

from audit import services as audit
from bus import counters, feeds, grants, pull
from bus.credentials.keystore import ACCOUNT
from bus.dispatch import Message, Responder, decode_message, responders
from bus.ensure import ensure_streams
from bus.fastpath import FastPath
from bus.feeds import Raw
from bus.relay import relay_once
from claytom_agent.client import Bus, Disconnected
from claytom_agent.login import Login, split_url

log = logging.getLogger("bus.process")

RELAY_PAUSE_S = 0.15
SEAL_PAUSE_S = 0.5
BACKOFF_S = (0.2, 5.0)
INBOX = "_INBOX_portal"
INBOXES = "_INBOX"
"""Answers go to inboxes only: whoever asks may name any subject for the answer, and we may publish on many."""


async def run(*, nats_url: str, system_url: str, stop: asyncio.Event) -> None:
    """Work until `stop` is set. Each part survives the database and NATS being away."""
    bus = await Bus.connect(nats_url, name="portal:bus", inbox_prefix=INBOX)
    parts: list[Awaitable[None]] = [
        _keep_streams(bus, stop),
        _relay(bus, stop),
        _seal(stop),
        _answer(bus, stop),
        pull.run(feeds.registered("bus"), nats_url, stop),
    ]
    grants.attach(bus, asyncio.get_running_loop())
    system: Bus | None = None
    if system_url:
        system = await Bus.connect(system_url, name="portal:fastpath", inbox_prefix="_INBOX_sys", timeout_s=30)
        parts.append(_until(stop, FastPath(bus, system, _account(nats_url)).run()))
    else:
        log.warning("NATS_SYS_URL is not set: a dead host's leases end only with their time to live.")
    try:
        await asyncio.gather(*parts)
    finally:
        grants.detach()
        await bus.close()
        if system is not None:
            await system.close()


def _account(url: str) -> str:
    """Return how the server calls our account: by its public key in operator mode, else by its name."""
    _, path = split_url(url)
    return ACCOUNT if path is None else Login(path).read().claims.account


async def _keep_streams(bus: Bus, stop: asyncio.Event) -> None:
    """Bring the streams back whenever NATS was away: a stream in memory is gone with the server that held it."""
    doubt = asyncio.Event()
    bus.on_reconnect.append(doubt.set)
    doubt.set()
    while not stop.is_set():
        if doubt.is_set():
            doubt.clear()
            try:
                for line in await ensure_streams(bus):
                    log.info("%s", line)
            except (RuntimeError, OSError, LookupError) as error:
                log.warning("streams not ensured: %s", error)
                doubt.set()
        await _pause(stop, 0.5)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


async def _until(stop: asyncio.Event, work: Awaitable[None]) -> None:
    task = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(stop.wait())
    done, _ = await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    task.cancel()
    waiting.cancel()
    if task in done:
        task.result()


async def _repeat(
    name: str, step: Callable[[], int], pause_s: float, stop: asyncio.Event, executor: ThreadPoolExecutor
) -> None:
    """Call `step` in a thread for ever: at once again while it finds work, else after `pause_s`."""
    loop = asyncio.get_running_loop()
    failures = 0
    while not stop.is_set():
        try:
            busy = await loop.run_in_executor(executor, _fresh, step)
            if failures:
                log.info("%s goes on.", name)
            failures = 0
            delay = 0.0 if busy else pause_s
        except (DatabaseError, InterfaceError, Disconnected, TimeoutError) as error:
            failures += 1
            delay = min(BACKOFF_S[0] * 2**failures, BACKOFF_S[1])
            counters.add("claytom_bus_failures_total", part=name)
            if failures == 1:
                log.warning("%s waits: %s", name, str(error).strip().splitlines()[0])
        if delay:
            await _pause(stop, delay)


def _fresh(step: Callable[[], int]) -> int:
    close_old_connections()
    try:
        return step()
    except (DatabaseError, InterfaceError):
        connections.close_all()
        raise


async def _relay(bus: Bus, stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, "relay") as executor:
        await _repeat("relay", partial(_relay_step, bus, loop), RELAY_PAUSE_S, stop, executor)


def _relay_step(bus: Bus, loop: asyncio.AbstractEventLoop) -> int:
    sent = relay_once(bus, loop)
    counters.add("claytom_outbox_sent_total", sent)
    return sent


async def _seal(stop: asyncio.Event) -> None:
    with ThreadPoolExecutor(1, "seal") as executor:
        await _repeat("sequencer", audit.seal, SEAL_PAUSE_S, stop, executor)


async def _answer(bus: Bus, stop: asyncio.Event) -> None:
    """Answer requests on `org.claytom.*.command.<verb>`; several bus processes share them (queue group)."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(4, "answer") as executor:
        tasks: set[asyncio.Future[None]] = set()
        for verb, responder in responders().items():

            async def take(message: Msg, responder: Responder = responder) -> None:
                started = time.monotonic()
                reply = await loop.run_in_executor(executor, _reply, responder, message)
                if reply and message.reply.startswith(INBOXES):
                    await bus.publish(message.reply, reply)
                log.debug("%s answered in %.0f ms", message.subject, (time.monotonic() - started) * 1000)

            async def spread(message: Msg, take: Callable[[Msg], Awaitable[None]] = take) -> None:
                task = asyncio.ensure_future(take(message))
                tasks.add(task)
                task.add_done_callback(tasks.discard)

            await bus.subscribe(f"org.claytom.*.command.{verb}", spread, queue="portal")
        await stop.wait()


def _reply(responder: Responder, request: Msg) -> bytes:
    """Return the answer of a responder, or a refusal that says why; b"" when the sender should ask again."""
    headers = request.headers or {}
    block = b"NATS/1.0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
    message = decode_message(Raw(request.subject.encode(), block, request.data, 0))
    if not isinstance(message, Message):
        return msgspec.json.encode({"code": message.stage, "reason": message.reason, "retry_after_s": 60})
    close_old_connections()
    try:
        return msgspec.json.encode(responder(message))
    except (DatabaseError, InterfaceError) as error:
        log.warning("%s not answered, the database fails: %s", request.subject, str(error).strip())
        connections.close_all()
        return b""
