"""Enrolled agents, and the messages that they send."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec

from bus import grants
from bus.dispatch import Message, decode_message
from bus.ensure import ensure_streams
from bus.feeds import Raw
from claytom_agent.client import Bus, event_headers, iso
from claytom_agent.messages import ce_type
from holding.models import Seat


@contextmanager
def granting(url: str) -> Iterator[None]:
    """Lend the responders a connection, as the bus process does."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def connect() -> Bus:
        bus = await Bus.connect(url, name="test", inbox_prefix="_INBOX", timeout_s=10)
        await ensure_streams(bus)
        return bus

    bus = asyncio.run_coroutine_threadsafe(connect(), loop).result(20)
    grants.attach(bus, loop)
    try:
        yield
    finally:
        grants.detach()
        asyncio.run_coroutine_threadsafe(bus.close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def raw(name: str, subject: str, source: str, body: dict[str, Any], epoch: int = 0) -> Raw:
    """Return a message as it comes from the wire."""
    headers = event_headers(ce_type=ce_type(name), source=source, id="m-1", time=iso(), epoch=epoch, dedup=False)
    block = b"NATS/1.0\r\n" + "".join(f"{key}: {value}\r\n" for key, value in headers.items()).encode()
    return Raw(subject.encode(), block, msgspec.json.encode(body), 1)


def message(name: str, subject: str, source: str, body: dict[str, Any], epoch: int = 0) -> Message:
    """Return a decoded message."""
    found = decode_message(raw(name, subject, source, body, epoch))
    assert isinstance(found, Message), found
    return found


def hello(subject: str, *, last_epoch: int = 0, source: str = "", protocol: str = "claytom/1") -> Message:
    """Return an agent's hello."""
    _, _, unit, role, agent_id = subject.split(".")
    body = {
        "protocol": protocol,
        "agent": {"id": agent_id, "role": role, "name": "pilot", "version": "7"},
        "worker": {"kind": "callable", "lang": "node"},
        "resume": {"last_epoch": last_epoch},
    }
    return message("agent.hello", f"org.claytom.{unit}.command.hello", source or subject, body)


def presence(
    subject: str, epoch: int, state: str = "idle", *, source: str = "", of: str = "", done: int = 3
) -> Raw:
    """Return an agent's presence; `of` lists another agent than the sender."""
    _, _, unit, _role, agent_id = subject.split(".")
    listed = of or agent_id
    body = {
        "ts": datetime.now(UTC).isoformat(),
        "subsidiary": unit,
        "host": f"a-{agent_id}",
        "division": f"{unit}.a-{listed}",
        "epoch": epoch,
        "observed_generation": 0,
        "total": 1,
        "counts": {state: 1},
        "full": True,
        "agents": [[listed, state, done, 0]],
    }
    return raw("host.presence", f"org.claytom.{unit}.metrics.presence", source or subject, body, epoch)


def seat_of(unit: str, code: str) -> Seat:
    """Return a seat."""
    return Seat.objects.select_related("unit").get(unit__slug=unit, code=code)
