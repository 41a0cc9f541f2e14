"""Epochs for agents that may not touch the bucket of leases: granted by the bus process on their behalf.

A responder runs in a thread and has no connection; the process lends it its own (`attach`).
"""

import asyncio
import concurrent.futures
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from claytom_agent.client import Bus, BusError, Disconnected, NoAnswerError, NobodyThereError

BUCKET: Final = "CT_LEASES"
ANSWER_S: Final = 3.0


class NoGrantError(RuntimeError):
    """No epoch can be granted now; asking again later may help."""


@dataclass(frozen=True, slots=True)
class _Line:
    bus: Bus
    loop: asyncio.AbstractEventLoop


_lines: list[_Line] = []


def attach(bus: Bus, loop: asyncio.AbstractEventLoop) -> None:
    """Grant over this connection from now on."""
    _lines[:] = [_Line(bus, loop)]


def detach() -> None:
    """Grant nothing from now on."""
    _lines.clear()


def grant(key: str, holder: Mapping[str, Any]) -> int:
    """Write the lease `key` and return the epoch, which is the bucket's revision: higher than any before it.

    Blocks until it is stored. Raises `NoGrantError`.
    """
    if not _lines:
        raise NoGrantError("this process has no connection to NATS")
    line = _lines[0]
    writing = line.bus.kv_put(BUCKET, key, msgspec.json.encode(holder))
    future = asyncio.run_coroutine_threadsafe(writing, line.loop)
    try:
        return future.result(ANSWER_S)
    except (concurrent.futures.TimeoutError, BusError, Disconnected, NoAnswerError, NobodyThereError) as error:
        future.cancel()
        raise NoGrantError(f"no epoch was granted: {error}") from error
