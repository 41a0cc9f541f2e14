"""Who may speak for a division: epochs that the lease bucket vouches for, and never just whoever claims one.

An epoch is the revision at which a host acquired the lease of a division. Any process with the hosts' credential
can write a number into a message, so a number higher than the highest known one is looked up in the bucket
before anything believes it: what the bucket does not know fences nobody out. What was vouched for once is kept
in the table, since a lease that ran out leaves nothing in the bucket, and an old holder must be known as such.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import msgspec
from django.db import connection
from django.utils import timezone

from bus import counters
from claytom_agent.client import Bus, BusError, Disconnected, KvEntry, NoAnswerError, NobodyThereError
from claytom_agent.leases import BUCKET, LeaseValue

log = logging.getLogger("bus.leases")

LOOKUP_S: Final = 5.0
DENIED_S: Final = 2.0
"""For so long a claim that the bucket did not know is not looked up again."""
MAX_DENIED: Final = 10_000

READ = """
    select division, epoch, host, acquired_at from bus_lease l
     where division = any(%s)
       and (epoch = any(%s) or epoch = (select max(epoch) from bus_lease m where m.division = l.division))
"""
NOTE = """
    insert into bus_lease (division, epoch, host, acquired_at, noted_at)
    select division, epoch, host, acquired_at, now()
      from unnest(%s::text[], %s::bigint[], %s::text[], %s::timestamptz[]) as t(division, epoch, host, acquired_at)
     order by division, epoch
    on conflict (division, epoch) do nothing
"""
FORGET = """
    delete from bus_lease l
     where noted_at < %s and epoch < (select max(epoch) from bus_lease m where m.division = l.division)
"""


class LeasesUnavailableError(RuntimeError):
    """The lease bucket does not answer now; whatever depends on it waits."""


class Standing(StrEnum):
    """What a claim to speak for a division is worth."""

    HOLDS = "holds"
    SUPERSEDED = "superseded"
    """A higher epoch was given since: the host has lost its lease."""
    UNKNOWN = "unknown"
    """The bucket never gave that epoch."""
    IMPOSTOR = "impostor"
    """The epoch is another host's."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Who says to speak for a division. Without a host only the epoch is judged."""

    division: str
    epoch: int
    host: str = ""


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease that the bucket gave: to whom, under which epoch, when."""

    division: str
    epoch: int
    host: str
    acquired_at: datetime


@dataclass(frozen=True, slots=True)
class Verdict:
    """A claim's standing, the lease in force (None: nobody ever had one) and the host that had the claimed one."""

    standing: Standing
    current: Lease | None
    host: str = ""

    @property
    def holds(self) -> bool:
        """Whether the claimant may change anything."""
        return self.standing == Standing.HOLDS

    def counts(self, at: datetime) -> bool:
        """Whether what was said at `at` counts: by the holder, or before the sender was superseded."""
        if self.standing == Standing.SUPERSEDED and self.current is not None:
            return at < self.current.acquired_at
        return self.holds


class LeaseBook:
    """Judges claims. `serve` gives it the bucket; without, only what the table knows is believed."""

    def __init__(self) -> None:
        self._bus: Bus | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._serving = False
        self._denied: dict[Claim, float] = {}
        self._guard = threading.Lock()

    async def serve(self, url: str, stop: asyncio.Event) -> None:
        """Look claims up in the bucket of that server until `stop` is set."""
        self._serving = True
        self._loop = asyncio.get_running_loop()
        connect = asyncio.ensure_future(Bus.connect(url, name="portal:leases", inbox_prefix="_INBOX_portal"))
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({connect, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if connect.done():
                self._bus = connect.result()
                await stopping
        finally:
            self._serving, bus, self._bus = False, self._bus, None
            connect.cancel()
            stopping.cancel()
            if bus is not None:
                with contextlib.suppress(Exception):
                    await bus.close()

    def use(self, bus: Bus) -> None:
        """Look claims up over a connection that another has made, on the loop that runs now."""
        self._serving, self._bus, self._loop = True, bus, asyncio.get_running_loop()

    def judge(self, claims: Iterable[Claim]) -> dict[Claim, Verdict]:
        """Return the verdict on each claim, noting leases that were not known yet in the caller's transaction.

        Not to be called on the loop that serves. Take no other lock before it in a transaction. Raises
        LeasesUnavailableError when the bucket has to be asked and does not answer.
        """
        wanted = set(claims)
        if not wanted:
            return {}
        leases = _read(wanted)
        doubtful = [claim for claim in wanted if self._is_doubtful(claim, leases)]
        if doubtful and self._serving:
            found = self._ask(doubtful, leases)
            if found:
                note(leases=found)
                for lease in found:
                    _add(leases, lease)
        return {claim: _verdict(claim, leases.get(claim.division, {})) for claim in wanted}

    def _is_doubtful(self, claim: Claim, leases: Mapping[str, Mapping[int, Lease]]) -> bool:
        known = leases.get(claim.division, {})
        if known and claim.epoch <= max(known):
            return False
        with self._guard:
            return time.monotonic() - self._denied.get(claim, -DENIED_S) >= DENIED_S

    def _ask(self, claims: list[Claim], leases: Mapping[str, Mapping[int, Lease]]) -> list[Lease]:
        """Ask the bucket about claims; return the leases that it vouches for."""
        bus, loop = self._bus, self._loop
        if bus is None or loop is None:
            raise LeasesUnavailableError("not connected to the lease bucket yet")
        counters.add("claytom_lease_lookups_total", len(claims))
        divisions = sorted({claim.division for claim in claims})
        try:
            entries, last = asyncio.run_coroutine_threadsafe(_look(bus, divisions), loop).result(LOOKUP_S)
        except (BusError, Disconnected, NoAnswerError, NobodyThereError, TimeoutError) as error:
            raise LeasesUnavailableError(f"the lease bucket does not answer: {error}") from error
        found = []
        for claim in claims:
            lease = _vouched(claim, entries.get(claim.division), last, leases.get(claim.division, {}))
            if lease is not None:
                found.append(lease)
                continue
            with self._guard:
                if len(self._denied) >= MAX_DENIED:
                    self._denied.clear()
                self._denied[claim] = time.monotonic()
        return found


BOOK: Final = LeaseBook()
"""That of this process."""


async def _look(bus: Bus, divisions: Iterable[str]) -> tuple[dict[str, KvEntry], int]:
    """Return the entries of the divisions, and the last revision that the bucket has given."""
    keys = list(divisions)
    found = await asyncio.gather(*(bus.kv_get(BUCKET, key) for key in keys))
    reply = await bus.request(f"$JS.API.STREAM.INFO.KV_{BUCKET}")
    info: dict[str, Any] = msgspec.json.decode(reply.data)
    last = int(info.get("state", {}).get("last_seq", 0))
    return {key: entry for key, entry in zip(keys, found, strict=True) if entry is not None}, last


def _vouched(claim: Claim, entry: KvEntry | None, last: int, known: Mapping[int, Lease]) -> Lease | None:
    """Return the lease of a claim that is higher than all known ones, if what the bucket says agrees with it."""
    if entry is None or entry.value is None:
        # Free now. An epoch that the bucket has reached may have been given and run out while we did not look;
        # it cannot keep out whoever comes next, whose epoch is higher.
        given = claim.epoch <= (entry.revision if entry is not None else last)
        return Lease(claim.division, claim.epoch, claim.host, timezone.now()) if given else None
    try:
        value = msgspec.json.decode(entry.value, type=LeaseValue)
    except msgspec.DecodeError:
        return None
    highest = max(known, default=0)
    told = value.epoch or (claim.epoch if highest < claim.epoch <= entry.revision else 0)
    if told != claim.epoch or claim.epoch > entry.revision or (claim.host and claim.host != value.host):
        return None
    return Lease(claim.division, claim.epoch, value.host, _moment(value.since))


def _moment(text: str) -> datetime:
    """Read when a lease was acquired; a time that is none, or to come, is now."""
    now = timezone.now()
    try:
        return min(now, datetime.fromisoformat(text).astimezone(UTC))
    except ValueError:
        return now


def _read(claims: Iterable[Claim]) -> dict[str, dict[int, Lease]]:
    leases: dict[str, dict[int, Lease]] = {}
    wanted = list(claims)
    with connection.cursor() as cursor:
        divisions = sorted({claim.division for claim in wanted})
        cursor.execute(READ, [divisions, sorted({claim.epoch for claim in wanted})])
        for row in cursor.fetchall():
            _add(leases, Lease(*row))
    return leases


def _add(leases: dict[str, dict[int, Lease]], lease: Lease) -> None:
    leases.setdefault(lease.division, {})[lease.epoch] = lease


def _verdict(claim: Claim, known: Mapping[int, Lease]) -> Verdict:
    if not known:
        return Verdict(Standing.UNKNOWN, None)
    current = known[max(known)]
    claimed = known.get(claim.epoch)
    host = claimed.host if claimed is not None else ""
    if claim.epoch > current.epoch:
        return Verdict(Standing.UNKNOWN, current)
    if claim.host and host and claim.host != host:
        return Verdict(Standing.IMPOSTOR, current, host)
    return Verdict(Standing.HOLDS if claim.epoch == current.epoch else Standing.SUPERSEDED, current, host)


def note(*, leases: Iterable[Lease]) -> None:
    """Note leases that were given, in the caller's transaction. Those that are known stay as they are."""
    rows = sorted(leases, key=lambda lease: (lease.division, lease.epoch))
    columns = zip(*((x.division, x.epoch, x.host[:100], x.acquired_at) for x in rows), strict=True)
    with connection.cursor() as cursor:
        cursor.execute(NOTE, [list(column) for column in columns] or [[]] * 4)


def forget(*, before: datetime) -> int:
    """Delete leases noted before that time, but for the last one of each division; return how many."""
    with connection.cursor() as cursor:
        cursor.execute(FORGET, [before])
        return int(cursor.rowcount)
