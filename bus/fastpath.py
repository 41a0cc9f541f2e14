"""The fast path after a host's death: the server tells us that its connection is gone, we free its leases.

A standby host then claims them at once instead of after the lease's time to live. The reason that the
server gives does not tell a crash from a short network break, so we wait a moment: a host whose connection
comes back under the same name keeps its leases. Without the system account, or when this process is down,
the time to live remains.
"""

import asyncio
import json
import logging
from collections import Counter

from nats.aio.msg import Msg

from claytom_agent.client import Bus, BusError, Disconnected, KvEntry, NoAnswerError, NobodyThereError
from claytom_agent.watch import KvWatch

log = logging.getLogger("bus.fastpath")

GRACE_S = 0.5  # a host reconnects after 0.25 s when it can
PREFIX = "host:"
PARALLEL = 32


class FastPath:
    """Follows leases and connections; frees the leases of hosts that are gone."""

    def __init__(self, bus: Bus, system: Bus, account: str = "CLAYTOM") -> None:
        self._bus = bus
        self._system = system
        self._account = account
        self._leases: dict[str, tuple[str, int]] = {}  # key -> (host, revision)
        self._connections: Counter[str] = Counter()  # seen since we look; negative for those from before
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Work until cancelled."""
        await self._system.subscribe(f"$SYS.ACCOUNT.{self._account}.CONNECT", self._connected)
        await self._system.subscribe(f"$SYS.ACCOUNT.{self._account}.DISCONNECT", self._disconnected)
        await KvWatch(self._bus, "CT_LEASES", self._note, self._forget).run()

    def _note(self, entry: KvEntry) -> None:
        if entry.value is None:
            self._leases.pop(entry.key, None)
            return
        try:
            host = json.loads(entry.value).get("host", "")
        except ValueError:
            return
        self._leases[entry.key] = (host, entry.revision)

    def _forget(self, existing: set[str]) -> None:
        for key in self._leases.keys() - existing:
            del self._leases[key]

    async def _connected(self, message: Msg) -> None:
        if host := _host(message):
            self._connections[host] += 1

    async def _disconnected(self, message: Msg) -> None:
        host = _host(message)
        if not host:
            return
        self._connections[host] -= 1
        task = asyncio.create_task(self._free_unless_back(host, self._connections[host]))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _free_unless_back(self, host: str, connections: int) -> None:
        await asyncio.sleep(GRACE_S)
        if self._connections[host] > connections:
            return
        room = asyncio.Semaphore(PARALLEL)
        mine = {key: revision for key, (owner, revision) in self._leases.items() if owner == host}
        await asyncio.gather(*(self._free(key, revision, room) for key, revision in mine.items()))
        if mine:
            log.warning("Host %s is gone: freed its %s leases.", host, len(mine))

    async def _free(self, key: str, revision: int, room: asyncio.Semaphore) -> None:
        async with room:
            try:
                # Only this very lease: whoever renewed or took it meanwhile keeps it.
                await self._bus.kv_delete("CT_LEASES", key, last=revision)
            except (BusError, Disconnected, NoAnswerError, NobodyThereError) as error:
                log.info("lease %s not freed: %s", key, error)


def _host(message: Msg) -> str:
    """Return the id of the host whose connection the event is about, or ""."""
    try:
        name = json.loads(message.data)["client"].get("name") or ""
    except (ValueError, KeyError, AttributeError):
        return ""
    return name.removeprefix(PREFIX) if name.startswith(PREFIX) else ""
