"""The `bus` process: relays the outbox, delivers events to handlers, answers requests, seals the ledger."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from django.db import DatabaseError, InterfaceError, connections

from audit import services as audit
from bus import counters, feeds, grants, pull
from bus.answering import answer
from bus.credentials.keystore import ACCOUNT
from bus.delivery import deliver_once, expire_once
from bus.ensure import ensure_streams
from bus.exhausted import settle_once
from bus.fastpath import FastPath
from bus.leases import BOOK
from bus.receipts import EVERY_S, Receipts
from bus.relay import relay_once
from bus.units import subsidiaries
from claytom_agent.client import Bus, Disconnected
from claytom_agent.login import Login, split_url

log = logging.getLogger("bus.process")

RELAY_PAUSE_S = 0.15
SEAL_PAUSE_S = 0.5
DUE_PAUSE_S = 0.5
SETTLE_PAUSE_S = 1.0
BACKOFF_S = (0.2, 5.0)
UNITS_PAUSE_S = 10.0  # how often we look for new subsidiaries
INBOX = "_INBOX_portal"
T = TypeVar("T")


async def run(*, nats_url: str, system_url: str, stop: asyncio.Event) -> None:
    """Work until `stop` is set. Each part survives the database and NATS being away."""
    expiring = asyncio.ensure_future(_expire(stop))  # time passes without NATS, too
    bus = await Bus.connect(nats_url, name="portal:bus", inbox_prefix=INBOX)
    BOOK.use(bus)
    parts: list[Awaitable[None]] = [
        expiring,
        _keep_streams(bus, stop),
        _relay(bus, stop),
        _deliver(bus, stop),
        _seal(stop),
        _settle(bus, stop),
        answer(bus, stop),
        _receipt(bus, stop),
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
    """Bring streams and queues of work to their declaration at the start, when NATS was away (a stream in memory is
    gone with the server that held it), and when there is a new subsidiary.
    """
    doubt = asyncio.Event()
    bus.on_reconnect.append(doubt.set)
    doubt.set()
    clock = asyncio.get_running_loop().time
    units: list[str] = []
    next_look, failure = 0.0, ""
    while not stop.is_set():
        if doubt.is_set() or clock() >= next_look:
            found = await asyncio.to_thread(_subsidiaries)
            changed = found not in (None, units)
            units = units if found is None else found
            if doubt.is_set() or changed:
                doubt.clear()
                try:
                    for line in await ensure_streams(bus, units):
                        log.info("%s", line)
                    failure = ""
                except (RuntimeError, OSError, LookupError) as error:
                    if (
                        str(error) != failure
                    ):  # what cannot be changed in place stays so: one line, not two a second
                        log.warning("streams not ensured: %s", error)
                    failure = str(error)
                    doubt.set()
            next_look = clock() + UNITS_PAUSE_S
        await _pause(stop, BACKOFF_S[1] if failure and bus.connected else 0.5)


def _subsidiaries() -> list[str] | None:
    """Return the subsidiaries; None when the database does not answer: streams can be had without it."""
    try:
        return subsidiaries()
    except (DatabaseError, InterfaceError):
        return None
    finally:
        connections.close_all()


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


def _fresh(step: Callable[[], T]) -> T:
    """Call `step`; then give the connection back: there are more of these threads than connections."""
    try:
        return step()
    finally:
        connections.close_all()


async def _relay(bus: Bus, stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, "relay") as executor:
        await _repeat("relay", partial(_relay_step, bus, loop), RELAY_PAUSE_S, stop, executor)


def _relay_step(bus: Bus, loop: asyncio.AbstractEventLoop) -> int:
    sent = relay_once(bus, loop)
    counters.add("claytom_outbox_sent_total", sent)
    return sent


async def _receipt(bus: Bus, stop: asyncio.Event) -> None:
    receipts = Receipts(bus, asyncio.get_running_loop())
    with ThreadPoolExecutor(1, "receipts") as executor:
        await _repeat("receipts", receipts.step, EVERY_S, stop, executor)


async def _expire(stop: asyncio.Event) -> None:
    with ThreadPoolExecutor(1, "expire") as executor:
        await _repeat("expiry", expire_once, DUE_PAUSE_S, stop, executor)


async def _deliver(bus: Bus, stop: asyncio.Event) -> None:
    """Deliver directed messages: by two threads, so that agents that do not answer hold up half at most."""
    step = partial(deliver_once, bus, asyncio.get_running_loop())
    with ThreadPoolExecutor(3, "deliver") as executor:
        await asyncio.gather(
            _repeat("delivery", step, RELAY_PAUSE_S, stop, executor),
            _repeat("delivery", step, RELAY_PAUSE_S, stop, executor),
            _repeat("delivery of turns", partial(step, turns=True), DUE_PAUSE_S, stop, executor),
        )


async def _seal(stop: asyncio.Event) -> None:
    with ThreadPoolExecutor(1, "seal") as executor:
        await _repeat("sequencer", audit.seal, SEAL_PAUSE_S, stop, executor)


async def _settle(bus: Bus, stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, "settle") as executor:
        await _repeat("settling", partial(settle_once, bus, loop), SETTLE_PAUSE_S, stop, executor)
