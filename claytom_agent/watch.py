"""Watch a KV bucket through our own push consumer, so that every fault ends in a fresh snapshot.

nats-py's ordered consumer tries to go on where it was; for leases "where it was" is what must be doubted.
Here a lost heartbeat, a gap or a reconnect makes a new consumer that starts with the last value of every key.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from claytom_agent.client import (
    Bus,
    BusError,
    Disconnected,
    KvEntry,
    NoAnswerError,
    NobodyThereError,
    entry_of,
)

log = logging.getLogger("claytom_agent.watch")

HEARTBEAT_S: Final = 1.0
SILENCE_S: Final = 3.5
_NANO: Final = 1_000_000_000


class KvWatch:
    """Follow all keys of a bucket.

    `on_entry` gets each value or marker; `on_snapshot` gets the set of keys that exist (markers included)
    each time the last value of every key has been delivered: what is not in it is not in the bucket.
    """

    def __init__(
        self,
        bus: Bus,
        bucket: str,
        on_entry: Callable[[KvEntry], None],
        on_snapshot: Callable[[set[str]], None],
        *,
        headers_only: bool = False,
    ) -> None:
        self._bus = bus
        self._stream = f"KV_{bucket}"
        self._prefix = f"$KV.{bucket}."
        self._on_entry = on_entry
        self._on_snapshot = on_snapshot
        self._headers_only = headers_only
        self._again = asyncio.Event()
        self._seen: set[str] | None = None
        self._expected = 1
        self._heard = 0.0

    async def run(self) -> None:
        """Watch until cancelled; wait with back-off while the bucket does not exist."""
        self._bus.on_reconnect.append(self._again.set)
        failures = 0
        try:
            while True:
                self._again.clear()
                subscription: Subscription | None = None
                try:
                    subscription = await self._start()
                    failures = 0
                    await self._until_doubtful()
                except (BusError, Disconnected, NoAnswerError, NobodyThereError) as error:
                    failures += 1
                    if failures in (1, 10) or failures % 60 == 0:
                        log.warning("cannot watch %s yet: %s", self._stream, error)
                    await asyncio.sleep(random.uniform(0.1, min(0.2 * 2 ** min(failures, 6), 2.0)))
                finally:
                    if subscription is not None:
                        with contextlib.suppress(Exception):
                            await subscription.unsubscribe()
        finally:
            self._bus.on_reconnect.remove(self._again.set)

    async def _start(self) -> Subscription:
        inbox = self._bus.new_inbox()
        self._seen = set()
        self._expected = 1
        self._heard = time.monotonic()
        subscription = await self._bus.subscribe(inbox, self._on_message)
        config: dict[str, Any] = {
            "deliver_subject": inbox,
            "deliver_policy": "last_per_subject",
            "ack_policy": "none",
            "max_deliver": 1,
            "filter_subject": f"{self._prefix}>",
            "idle_heartbeat": int(HEARTBEAT_S * _NANO),
            "inactive_threshold": 30 * _NANO,
            "mem_storage": True,
            "num_replicas": 1,
            "headers_only": self._headers_only,
        }
        try:
            reply = await self._bus.request(
                f"$JS.API.CONSUMER.CREATE.{self._stream}",
                msgspec.json.encode({"stream_name": self._stream, "config": config}),
            )
            info = _consumer_info(reply.data)
        except BaseException:
            await subscription.unsubscribe()
            raise
        if info["num_pending"] == 0 and info["delivered"]["consumer_seq"] == 0 and self._seen == set():
            self._finish_snapshot()
        return subscription

    async def _until_doubtful(self) -> None:
        while not self._again.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._again.wait(), HEARTBEAT_S)
            if time.monotonic() - self._heard > SILENCE_S:
                log.warning("watch of %s is silent: starting again", self._stream)
                return

    async def _on_message(self, message: Msg) -> None:
        self._heard = time.monotonic()
        headers = message.headers or {}
        if headers.get("Status") == "100":
            if int(headers.get("Nats-Last-Consumer", 0)) >= self._expected:
                self._again.set()
            return
        # $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>; the second
        # version of it has domain and account in front, and a random token at the end.
        parts = message.reply.split(".")
        tail = parts[-5:] if len(parts) == 9 else parts[6:11]
        revision, number, pending = int(tail[1]), int(tail[2]), int(tail[4])
        if number != self._expected:
            self._again.set()
            return
        self._expected += 1
        key = message.subject[len(self._prefix) :]
        if self._seen is not None:
            self._seen.add(key)
        self._on_entry(entry_of(key, message.data, headers, revision))
        if pending == 0:
            self._finish_snapshot()

    def _finish_snapshot(self) -> None:
        if self._seen is not None:
            seen, self._seen = self._seen, None
            self._on_snapshot(seen)


def _consumer_info(data: bytes) -> dict[str, Any]:
    info: dict[str, Any] = msgspec.json.decode(data)
    if "error" in info:
        raise BusError(info["error"].get("err_code", 0), info["error"].get("description", ""))
    return info
