"""Division leases in the bucket `CT_LEASES`: which host runs which division, fenced by epochs.

A lease is a key with a time to live. It is claimed by compare-and-set on the revision of what is there (nothing,
or the marker that an expired or deleted lease leaves) and kept by renewing it with compare-and-set. The revision
at acquisition is the *epoch*: it grows over the whole holding without a counter service, so a message of an
older holder is recognised. A host that cannot renew for 0.8 of the time to live stops by itself, before anyone
else can hold the division.
"""

import asyncio
import contextlib
import logging
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec

from claytom_agent.client import (
    Bus,
    BusError,
    CasConflictError,
    Disconnected,
    KvEntry,
    NoAnswerError,
    NobodyThereError,
    iso,
)
from claytom_agent.lines import Lines
from claytom_agent.placement import FreeDivision, HostCard, choose
from claytom_agent.watch import KvWatch

log = logging.getLogger("claytom_agent.leases")

BUCKET: Final = "CT_LEASES"
HOSTS_PREFIX: Final = "hosts."
FENCE_SHARE: Final = 0.8
MAX_IN_FLIGHT: Final = 24
S = TypeVar("S", bound=msgspec.Struct)
_FAULTS: Final = (BusError, Disconnected, NoAnswerError, NobodyThereError)


class LeaseValue(msgspec.Struct, frozen=True):
    """What a lease says: the host, since when, and which run of the host (a restart is another run).

    `epoch` is the revision at acquisition; the acquisition itself cannot know it yet and says 0.
    """

    host: str
    since: str
    run: str = ""
    epoch: int = 0


@dataclass(slots=True)
class Lease:
    """A lease that this host holds; times are monotonic seconds."""

    key: str
    epoch: int
    revision: int
    since: str
    renewed_at: float
    renew_due: float
    fence_s: float
    fenced: bool = False
    uncertain: bool = False
    """Whether a renewal got no answer, so that the stored revision may be newer than ours."""

    def valid(self, now: float) -> bool:
        """Whether the holder may still act at `now`; false before anyone else could hold the division."""
        return not self.fenced and now - self.renewed_at <= self.fence_s


@dataclass(slots=True)
class _Slot:
    """What is known of a key in the bucket: its revision, who holds it, or since when it is free."""

    revision: int = 0
    holder: LeaseValue | None = None
    free_since: float = 0.0
    last_host: str | None = None


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """Seconds; the intervals of a lease follow from the bucket's time to live."""

    bucket_ttl: float = 10.0
    settle: float = 1.5
    """How long a new host listens for others before it claims."""
    grace: float = 2.0
    """How long a free division waits for the host whose turn it is."""
    claim_delay: float = 0.15
    cool: float = 15.0
    """How long a host does not reclaim a division that it was told to give away."""

    @property
    def ttl(self) -> int:
        """Of a lease, in whole seconds: one less than the bucket's, so that with the time that the server
        needs to notice, and the others to claim, a dead host's divisions are back within the bucket's."""
        return max(1, int(self.bucket_ttl) - 1)

    @property
    def renew(self) -> float:
        """Between two renewals of a lease."""
        return self.bucket_ttl * 0.3

    @property
    def fence(self) -> float:
        """Without a successful renewal, after which the host stops by itself."""
        return self.ttl * FENCE_SHARE


@dataclass(slots=True)
class LeaseEvents:
    """What a keeper tells its host. Each call must return at once."""

    acquired: Callable[[Lease], None]
    lost: Callable[[Lease, str], None]
    fenced: Callable[[Lease], None] = field(default=lambda _lease: None)
    resumed: Callable[[Lease], None] = field(default=lambda _lease: None)


class LeaseKeeper:
    """Claims, renews, releases and watches the leases of one host."""

    def __init__(
        self,
        lines: Lines,
        host: str,
        events: LeaseEvents,
        *,
        capacity: int = 200,
        times: LeaseTimes | None = None,
    ) -> None:
        self.lines = lines
        self.host = host
        self.run_id = uuid.uuid4().hex[:12]
        self.times = times or LeaseTimes()
        self.capacity = capacity
        self.owned: dict[str, Lease] = {}
        self.conflicts = 0
        self._events = events
        self._divisions: set[str] = set()
        self._slots: dict[str, _Slot] = {}
        self._hosts: dict[str, HostCard] = {}
        self._claiming: set[str] = set()
        self._cooling: dict[str, float] = {}
        self._ready = asyncio.Event()
        self._wake = asyncio.Event()
        self._flight = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._renewals = asyncio.Semaphore(MAX_IN_FLIGHT)  # they cannot wait, so not in one queue with the claims
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    def set_divisions(self, divisions: Iterable[str]) -> None:
        """Say which divisions exist; those that are held and exist no longer are released."""
        self._divisions = set(divisions)
        gone = [key for key in self.owned if key not in self._divisions]
        if gone:
            self._spawn(self.release(gone, "division no longer exists"))
        self._wake.set()

    async def run(self) -> None:
        """Keep leases until cancelled; call `release` first to hand them over quickly."""
        watch = KvWatch(self.lines.host, BUCKET, self._on_entry, self._on_snapshot)
        async with asyncio.TaskGroup() as group:
            group.create_task(watch.run())
            group.create_task(self._renew_loop())
            group.create_task(self._announce_loop())
            group.create_task(self._claim_loop())

    async def close(self, reason: str) -> None:
        """Claim nothing any more and release all that is held."""
        self._closing = True
        await self.release(list(self.owned), reason)
        with contextlib.suppress(*_FAULTS):
            await self.lines.host.kv_delete(BUCKET, HOSTS_PREFIX + self.host)

    async def release(self, keys: Iterable[str], reason: str, *, cool: bool = False) -> None:
        """Stop the divisions and delete their leases, so that others can claim them at once."""
        leases = [lease for key in keys if (lease := self.owned.get(key)) is not None]
        now = time.monotonic()
        for lease in leases:
            if cool:
                self._cooling[lease.key] = now + self.times.cool
            self._drop(lease, reason)
        await asyncio.gather(*(self._delete(lease) for lease in leases))

    def _drop(self, lease: Lease, reason: str) -> None:
        del self.owned[lease.key]
        lease.fenced = True  # whatever still runs of the division sees that it may not act
        self._events.lost(lease, reason)

    async def _delete(self, lease: Lease) -> None:
        # A refusal means that another holds it already, silence that the time to live will do the work.
        with contextlib.suppress(*_FAULTS):
            async with self._flight:
                try:
                    await self._line(lease.key).kv_delete(BUCKET, lease.key, last=lease.revision)
                except CasConflictError:
                    # Or that a renewal of ours was under way and came first.
                    await self._settle(lease)
                    await self._line(lease.key).kv_delete(BUCKET, lease.key, last=lease.revision)

    # -- what the bucket says -------------------------------------------------------------------------------

    def _on_entry(self, entry: KvEntry) -> None:
        if entry.key.startswith(HOSTS_PREFIX):
            self._on_card(entry)
            return
        slot = self._slots.setdefault(entry.key, _Slot())
        before = slot.holder
        slot.revision = entry.revision
        slot.holder = _decode(LeaseValue, entry.value)
        if slot.holder is None:
            self._on_free(slot, before, entry)
        lease = self.owned.get(entry.key)
        if lease is not None and entry.revision > lease.revision and not self._is_ours(slot.holder, lease):
            self._conflict(lease)

    def _conflict(self, lease: Lease) -> None:
        log.error("lease of %s was lost to another or ran out: stopping it", lease.key)
        self.conflicts += 1
        self._drop(lease, "lease lost")
        self._wake.set()

    def _on_free(self, slot: _Slot, before: LeaseValue | None, entry: KvEntry) -> None:
        if before is not None or slot.free_since == 0.0:
            slot.free_since = time.monotonic()
            slot.last_host = before.host if before is not None else None
        if entry.expired and before is not None and before.host != self.host:
            # Its lease ran out, so it is gone: its share is dealt among the others without waiting for it.
            self._hosts.pop(before.host, None)
        self._wake.set()

    def _on_card(self, entry: KvEntry) -> None:
        host = entry.key[len(HOSTS_PREFIX) :]
        card = _decode(HostCard, entry.value)
        if card is None:
            self._hosts.pop(host, None)
            self._wake.set()
        elif host != self.host:
            self._hosts[host] = card
        elif card.run != self.run_id:
            log.error("another process runs with the host id %s: each host needs its own", host)

    def _on_snapshot(self, keys: set[str]) -> None:
        now = time.monotonic()
        for key, slot in self._slots.items():
            if key not in keys and (slot.holder is not None or slot.revision):
                slot.last_host = slot.holder.host if slot.holder is not None else slot.last_host
                slot.holder, slot.revision, slot.free_since = None, 0, now
        for host in [h for h in self._hosts if HOSTS_PREFIX + h not in keys]:
            del self._hosts[host]
        self._ready.set()
        self._wake.set()

    def _is_mine(self, holder: LeaseValue | None) -> bool:
        return holder is not None and holder.host == self.host and holder.run == self.run_id

    def _is_ours(self, holder: LeaseValue | None, lease: Lease) -> bool:
        return holder is not None and self._is_mine(holder) and holder.since == lease.since

    # -- renewing -------------------------------------------------------------------------------------------

    async def _renew_loop(self) -> None:
        renew, fence, ttl = self.times.renew, self.times.fence, self.times.ttl
        pause = min(0.2, renew / 10)
        while True:
            slept_at = time.monotonic()
            await asyncio.sleep(pause)
            late = time.monotonic() - slept_at - pause
            if late > renew / 3:
                log.warning("this process stood still for %.1f s: is the machine too busy for it?", late)
                await asyncio.sleep(pause / 4)  # the answers that came meanwhile are read before anyone is judged
            now = time.monotonic()
            for lease in list(self.owned.values()):
                age = now - lease.renewed_at
                if age > fence:
                    self._fence(lease, age, ttl)
                if now >= lease.renew_due and self.lines.up(_unit(lease.key)) and lease.key in self.owned:
                    lease.renew_due = now + renew * random.uniform(0.9, 1.1)
                    self._spawn(self._renew(lease))

    def _fence(self, lease: Lease, age: float, ttl: float) -> None:
        if age > ttl:
            # It ran out: whoever holds it next, perhaps we, does so under a higher epoch.
            log.error("lease of %s ran out without renewal: stopping it", lease.key)
            self._drop(lease, "lease ran out")
            self._wake.set()
        elif not lease.fenced:
            lease.fenced = True
            log.error("no renewal of %s for %.1f s: paused", lease.key, age)
            self._events.fenced(lease)

    async def _renew(self, lease: Lease) -> None:
        async with self._renewals:
            if self.owned.get(lease.key) is not lease:
                return
            sent = time.monotonic()
            try:
                if lease.uncertain:
                    await self._settle(lease)
                lease.revision = await self._line(lease.key).kv_cas(
                    BUCKET,
                    lease.key,
                    self._value(lease.since, lease.epoch),
                    last=lease.revision,
                    ttl_s=self.times.ttl,
                )
            except CasConflictError:
                if self.owned.get(lease.key) is lease:
                    self._conflict(lease)
                return
            except _FAULTS as error:
                lease.uncertain = lease.uncertain or isinstance(error, NoAnswerError)
                lease.renew_due = min(lease.renew_due, time.monotonic() + self.times.renew / 6)
                return
        if self.owned.get(lease.key) is not lease:
            return
        lease.uncertain = False
        lease.renewed_at = sent
        if lease.fenced:
            lease.fenced = False
            self._events.resumed(lease)

    async def _settle(self, lease: Lease) -> None:
        """Adopt the stored revision if the stored value is our own: an answer may be lost, or under way."""
        entry = await self.lines.host.kv_get(BUCKET, lease.key)
        if entry is not None and self._is_ours(_decode(LeaseValue, entry.value), lease):
            lease.revision = entry.revision

    # -- claiming -------------------------------------------------------------------------------------------

    async def _claim_loop(self) -> None:
        await self._ready.wait()
        self._retake()
        await asyncio.sleep(self.times.settle)
        while True:
            self._wake.clear()
            again = self._claim_some()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(again):
                    await self._wake.wait()

    def _retake(self) -> None:
        """Take back at once what an earlier run of this host held: it is dead, or there are two of one id."""
        for key, slot in self._slots.items():
            holder = slot.holder
            ours = holder is not None and holder.host == self.host and holder.run != self.run_id
            if ours and self.lines.up(_unit(key)):
                self._start_claim(key, slot.revision)

    def _claim_some(self) -> float:
        """Start the claims that are due; return the seconds until asking again."""
        now = time.monotonic()
        if self._closing or not self.lines.host.connected:
            return 0.25
        for key in [key for key, until in self._cooling.items() if until <= now]:
            del self._cooling[key]
        taken = {*self.owned, *self._claiming}
        free = []
        for key in self._divisions - taken - self._cooling.keys():
            if not self.lines.up(_unit(key)):
                continue
            slot = self._slots.setdefault(key, _Slot(free_since=now))
            if slot.holder is None or self._is_mine(slot.holder):
                free.append(FreeDivision(key, slot.free_since, slot.last_host))
        owned = Counter(_unit(key) for key in taken)
        wanted, due = choose(
            self._card(),
            self._hosts.values(),
            self._divisions,
            free,
            owned,
            now=now,
            grace_s=self.times.grace,
        )
        for key in wanted:
            self._start_claim(key, self._slots[key].revision)
        wake = min([5.0, *(until - now for until in self._cooling.values())])
        return max(0.02, wake if due is None else min(wake, due - now))

    def _start_claim(self, key: str, revision: int) -> None:
        if key not in self._claiming and key not in self.owned:
            self._claiming.add(key)
            self._spawn(self._claim(key, revision))

    async def _claim(self, key: str, last: int) -> None:
        since = iso()
        try:
            await asyncio.sleep(random.uniform(0.0, self.times.claim_delay))
            async with self._flight:
                slot = self._slots[key]
                if slot.holder is not None and slot.revision != last and not self._is_mine(slot.holder):
                    return
                sent = time.monotonic()
                epoch = await self._cas_claim(key, since, slot.revision)
            if epoch is not None:
                self._take(key, epoch, since, sent)
        finally:
            self._claiming.discard(key)
            self._wake.set()

    async def _cas_claim(self, key: str, since: str, last: int) -> int | None:
        value, ttl, line = self._value(since), self.times.ttl, self._line(key)
        try:
            try:
                return await line.kv_cas(BUCKET, key, value, last=last, ttl_s=ttl)
            except CasConflictError:
                # Lost the race, or the marker itself has gone since: only what is stored now can tell.
                entry = await self.lines.host.kv_get(BUCKET, key)
                holder = _decode(LeaseValue, entry.value) if entry is not None else None
                if entry is not None and entry.value is not None and not self._is_mine(holder):
                    self._on_entry(entry)
                    return None
                return await line.kv_cas(BUCKET, key, value, last=entry.revision if entry else 0, ttl_s=ttl)
        except NoAnswerError:
            with contextlib.suppress(*_FAULTS):
                entry = await self.lines.host.kv_get(BUCKET, key)
                if entry is not None and entry.value == value:
                    return entry.revision
        except _FAULTS as error:
            log.debug("claim of %s: %s", key, error)
            await asyncio.sleep(0.1)
        return None

    def _take(self, key: str, epoch: int, since: str, sent: float) -> None:
        lease = Lease(
            key=key,
            epoch=epoch,
            revision=epoch,
            since=since,
            renewed_at=sent,
            renew_due=sent + self.times.renew * random.uniform(0.3, 1.0),
            fence_s=self.times.fence,
        )
        if self._closing or key not in self._divisions:
            self._spawn(self._delete(lease))
            return
        slot = self._slots[key]
        if epoch >= slot.revision:
            slot.revision, slot.holder = epoch, LeaseValue(self.host, since, self.run_id)
        self.owned[key] = lease
        self._events.acquired(lease)

    # -- announcing -----------------------------------------------------------------------------------------

    async def _announce_loop(self) -> None:
        while not self._closing:
            with contextlib.suppress(*_FAULTS):
                await self.lines.host.kv_put(
                    BUCKET, HOSTS_PREFIX + self.host, msgspec.json.encode(self._card()), ttl_s=self.times.ttl
                )
            await asyncio.sleep(self.times.renew * random.uniform(0.9, 1.1))

    def _card(self) -> HostCard:
        full = len(self.owned) + len(self._claiming) >= self.capacity
        return HostCard(self.host, self.run_id, self.capacity, full, sorted(self.lines.units))

    def _line(self, key: str) -> Bus:
        """The line that speaks for the unit of a division."""
        return self.lines.of(_unit(key))

    def _value(self, since: str, epoch: int = 0) -> bytes:
        return msgspec.json.encode(LeaseValue(self.host, since, self.run_id, epoch))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _unit(key: str) -> str:
    return key.partition(".")[0]


def _decode(kind: type[S], value: bytes | None) -> S | None:
    """Decode a value of the bucket; None for a marker. What is not ours to understand still holds its key."""
    if value is None:
        return None
    try:
        return msgspec.json.decode(value, type=kind)
    except msgspec.DecodeError:
        return None
