"""The agent host: a process that takes divisions by lease and runs their agents, over one line for each unit."""

import asyncio
import contextlib
import logging
import os
import resource
import socket
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import UNSET
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from claytom_agent.agents import Agent, RestartPolicy
from claytom_agent.blocks import Stage
from claytom_agent.client import Bus, BusError, Disconnected, KvEntry, NoAnswerError, NobodyThereError
from claytom_agent.corporate import duty_answer
from claytom_agent.division import SEATS_BUCKET, Division, DivisionTimes, Surroundings
from claytom_agent.leases import BUCKET as LEASE_BUCKET
from claytom_agent.leases import Lease, LeaseEvents, LeaseKeeper, LeaseTimes
from claytom_agent.lines import Lines
from claytom_agent.messages import (
    HostConfig,
    ManifestSync,
    Order,
    ReportRequest,
    ce_type,
    decode,
    encode,
)
from claytom_agent.spool import Spool
from claytom_agent.spools import SPOOL_VERBS, adopt_orphans, obey, open_journal
from claytom_agent.subjects import (
    CORPORATE,
    ROLES,
    ROOT,
    AgentId,
    SubjectError,
    check_host_id,
    parse_agent_id,
    parse_division_key,
    split_subject,
)
from claytom_agent.watch import KvWatch

log = logging.getLogger("claytom_agent.host")

OBEYED_VERBS: Final = ("sync", "replace", "report", "pause", "resume", "drain", "config", *SPOOL_VERBS)
ORDERS: Final = {ce_type(f"agent.{verb}"): verb for verb in ("pause", "resume", "drain", "retire")}
DRAIN_S: Final = 4.0
INBOXES: Final = "_INBOX"
_FAULTS: Final = (BusError, Disconnected, NoAnswerError, NobodyThereError)


def default_host_id() -> str:
    """Name this host after its machine and process: unique, so that no two hosts share an id by accident."""
    name = "".join(c if c.isalnum() or c in "-_" else "-" for c in socket.gethostname().partition(".")[0])
    return f"{name.strip('-_')[:40] or 'host'}-{os.getpid()}"


class HostFailedError(RuntimeError):
    """The host cannot go on; the text says why."""


@dataclass(slots=True)
class HostOptions:
    """How a host runs. `capacity` is in divisions; no `subsidiaries` means all, and the parent's bodies.

    `url` names a directory of credentials (`claytom_agent.lines`), or carries a user and a password.
    """

    url: str
    id: str = field(default_factory=default_host_id)
    capacity: int = 200
    subsidiaries: tuple[str, ...] = ()
    chaos: bool = False
    status_file: Path | None = None
    spool_dir: Path | None = None
    """Where hosts keep what is not received yet, each in a directory of its own; None: only as long as it runs."""
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    division_times: DivisionTimes = field(default_factory=DivisionTimes)
    lease_times: LeaseTimes = field(default_factory=LeaseTimes)
    connect_within_s: float | None = None


class Host:
    """One host. `run()` until `stop()`; then everything is released and the lines are closed."""

    def __init__(self, options: HostOptions) -> None:
        self.id = check_host_id(options.id)
        self.divisions: dict[str, Division] = {}
        self._options = options
        self._stopping = asyncio.Event()
        self._units: dict[str, list[Subscription]] = {}
        self._known: dict[str, int] = {}
        self._listed = asyncio.Event()
        self._leaving = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.lines = Lines(options.url, host=self.id, only=options.subsidiaries, opened=self._obey_over)
        self.keeper: LeaseKeeper
        self.spool: Spool
        self._around: Surroundings

    def stop(self) -> None:
        """Ask the host to hand over and end; safe to call from a signal handler of the loop."""
        self._stopping.set()

    async def run(self) -> None:
        """Run until `stop()`; raise `LoginRefusedError` or `HostFailedError` if the host cannot go on."""
        options = self._options
        connect = asyncio.ensure_future(self.lines.open(timeout_s=options.connect_within_s))
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait({connect, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not connect.done():
            connect.cancel()
            await asyncio.gather(connect, return_exceptions=True)
            return
        connect.result()
        journal = await open_journal(options.spool_dir, self.id)
        self.spool = Spool(self.lines.of, journal)
        adopt_orphans(self.spool, journal)
        self._around = Surroundings(
            self.lines,
            self.spool,
            self.id,
            chaos=options.chaos,
            policy=options.policy,
            times=options.division_times,
        )
        work = asyncio.get_running_loop().create_task(self._work())
        closed = asyncio.ensure_future(self.lines.closed.wait())
        await asyncio.wait({work, stopping, closed}, return_when=asyncio.FIRST_COMPLETED)
        failed = work.exception() if work.done() and not work.cancelled() else None
        lost = self.lines.closed.is_set() and not self._stopping.is_set()
        await self._shut_down(work)
        stopping.cancel()
        closed.cancel()
        if failed is not None:
            raise HostFailedError(f"host {self.id} failed") from failed
        if lost:
            raise HostFailedError("NATS closed a connection for good; the log says why")

    async def _work(self) -> None:
        times = await self._lease_times()
        events = LeaseEvents(self._acquired, self._lost, self._fenced, self._resumed)
        self.keeper = LeaseKeeper(self.lines, self.id, events, capacity=self._options.capacity, times=times)
        seats = KvWatch(self.lines.host, SEATS_BUCKET, self._on_manifest, self._on_seats, headers_only=True)
        log.info("host %s connected; leases live %d s", self.id, times.ttl)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.lines.run())
            group.create_task(self.spool.run())
            group.create_task(self._write_status())
            group.create_task(seats.run())
            await self._listed.wait()
            group.create_task(self.keeper.run())

    async def _lease_times(self) -> LeaseTimes:
        """Take the time to live from the bucket itself; wait until the bucket exists."""
        while True:
            with contextlib.suppress(*_FAULTS):
                reply = await self.lines.host.request(f"$JS.API.STREAM.INFO.KV_{LEASE_BUCKET}")
                info = msgspec.json.decode(reply.data)
                if "config" in info:
                    times = self._options.lease_times
                    ttl = info["config"]["max_age"] / 1e9
                    return LeaseTimes(ttl, times.settle, times.grace, times.claim_delay, times.cool)
            log.info("waiting for the bucket %s", LEASE_BUCKET)
            await asyncio.sleep(0.5)

    async def _shut_down(self, work: "asyncio.Task[None]") -> None:
        """Hand over first, then send what is left, then say goodbye; within five seconds in all."""
        self._leaving = True
        divisions = list(self.divisions.values())
        if self.lines.host.connected and hasattr(self, "keeper"):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_S):
                    await self.keeper.close("host stops")
                    await self.spool.drained(DRAIN_S / 2, Stage.RECEIVED)
                    await asyncio.gather(*(division.goodbye("host stops") for division in divisions))
        for division in divisions:
            division.stop()
        work.cancel()
        await asyncio.wait({work, *self._tasks}, timeout=0.5)
        if self.spool.depth:
            log.warning("%d messages without a receipt stay in the spool", self.spool.depth)
        self.spool.close()
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self.lines.close(), 0.5)

    # -- leases ---------------------------------------------------------------------------------------------

    def _acquired(self, lease: Lease) -> None:
        log.info("division %s acquired, epoch %d", lease.key, lease.epoch)
        division = self.divisions[lease.key] = Division(lease, self._around)
        self._spawn(self._listen(division.key.unit, division.key.division))
        division.start()

    def _lost(self, lease: Lease, reason: str) -> None:
        log.info("division %s given up: %s", lease.key, reason)
        division = self.divisions.pop(lease.key, None)
        if division is None:
            return
        division.stop()
        unit = division.key
        if unit.corporate or not any(d.key.unit == unit.unit for d in self.divisions.values()):
            name = str(unit) if unit.corporate else unit.unit
            for subscription in self._units.pop(name, []):
                self._spawn(_unsubscribe(subscription))
        if not self._leaving and reason != "lease lost":
            self._spawn(division.goodbye(reason))

    def _fenced(self, lease: Lease) -> None:
        division = self.divisions.get(lease.key)
        if division is not None:
            division.roster.close()

    def _resumed(self, lease: Lease) -> None:
        log.info("division %s goes on, epoch %d", lease.key, lease.epoch)
        division = self.divisions.get(lease.key)
        if division is not None:
            division.report()

    async def _listen(self, unit: str, division: str) -> None:
        """Subscribe per role, never per agent: exact subscriptions cost five times the memory."""
        name = f"{unit}.{division}" if unit == CORPORATE else unit
        if name in self._units:
            return
        subscriptions = self._units[name] = []
        for role in (division,) if unit == CORPORATE else ROLES:
            with contextlib.suppress(Exception):
                line = self.lines.of(unit)
                subscriptions.append(await line.subscribe(f"{ROOT}.{unit}.{role}.*", self._on_address))

    # -- manifests ------------------------------------------------------------------------------------------

    def _on_manifest(self, entry: KvEntry) -> None:
        try:
            parse_division_key(entry.key)
        except SubjectError as error:
            log.warning("bucket %s: %s", SEATS_BUCKET, error)
            return
        before = len(self._known)
        if entry.value is None:
            self._known.pop(entry.key, None)
        else:
            self._known[entry.key] = entry.revision
        if self._listed.is_set() and len(self._known) != before:
            self.keeper.set_divisions(self._divisions())
        division = self.divisions.get(entry.key)
        if division is not None:
            division.refresh_soon()

    def _on_seats(self, keys: set[str]) -> None:
        for key in [key for key in self._known if key not in keys]:
            del self._known[key]
        self.keeper.set_divisions(self._divisions())
        self._listed.set()

    # -- messages -------------------------------------------------------------------------------------------

    async def _obey_over(self, unit: str, line: Bus) -> None:
        """Take the commands of a unit over its line, and claim its divisions."""
        for verb in OBEYED_VERBS:
            await line.subscribe(f"{ROOT}.{unit}.command.{verb}", self._on_command)
        if self._listed.is_set():
            self.keeper.set_divisions(self._divisions())

    def _divisions(self) -> list[str]:
        """The divisions that exist and that this host may run."""
        return [key for key in self._known if self.lines.serves(key.partition(".")[0])]

    async def _on_command(self, message: Msg) -> None:
        try:
            _, _, unit, _, verb = split_subject(message.subject)
        except SubjectError:
            return
        if "ce-type" not in (message.headers or {}):
            # Not a command: the server itself answers requests without headers, on any subject that was named.
            log.warning("%s without ce-type is not obeyed", message.subject)
            return
        if verb in SPOOL_VERBS:  # also about divisions that another host runs by now
            obey(self.spool, verb, message.data)
            return
        mine = [division for division in self.divisions.values() if division.key.unit == unit]
        if not mine:
            return
        try:
            self._obey(verb, unit, mine, message.data)
        except msgspec.DecodeError as error:
            log.warning("command %s is not understood: %s", message.subject, error)

    def _obey(self, verb: str, unit: str, mine: list[Division], data: bytes) -> None:
        if verb in ("sync", "replace"):
            hint = decode(ManifestSync, data)
            for division in mine:
                if _names([hint.division], division):
                    division.refresh_soon()
        elif verb == "report":
            for division in mine:
                if _names(decode(ReportRequest, data).divisions, division):
                    division.report()
        elif verb == "config":
            config = decode(HostConfig, data)
            for division in mine:
                division.refresh_soon()
            if self._options.chaos:
                _inject(config, mine)
                if config.corrupt is not UNSET:
                    self._around.corrupt[unit] = frozenset(config.corrupt)
        else:
            self._obey_scope(verb, mine, decode(Order, data))

    def _obey_scope(self, verb: str, mine: list[Division], scope: Order) -> None:
        if scope.host not in (None, self.id):
            return
        named = [division for division in mine if _names(scope.divisions, division)]
        if verb == "drain":
            keys = [division.lease.key for division in named if _is_meant(scope, division)]
            self._spawn(self.keeper.release(keys, scope.reason or "drained", cool=True))
            return
        for division in named:  # who shall run is in the manifest; this says only that there is a new one
            division.refresh_soon()

    async def _on_address(self, message: Msg) -> None:
        if not message.reply.startswith(INBOXES):
            return  # whoever asks may name any subject for the answer, and we may publish on many
        _, _, unit, place, last = split_subject(message.subject)
        answer = self._answer(unit, place, last, message.headers or {}, message.data)
        if answer is not None:
            with contextlib.suppress(Disconnected):
                await self.lines.of(split_subject(message.subject)[2]).publish(message.reply, answer)

    def _answer(self, unit: str, place: str, last: str, headers: Mapping[str, str], data: bytes) -> bytes | None:
        """Answer a request to an address; None when it is another host's to answer."""
        kind = headers.get("ce-type", "")
        found = self._find(unit, place, last)
        if found is None:
            return None
        division, agent = found
        if agent is None:
            return encode({"error": "404 no-such-agent"})
        if kind in ("", ce_type("agent.ping")):
            return encode(division.pong(agent))
        if kind == ce_type("duty.ask") and unit == CORPORATE:
            return encode(duty_answer(agent))
        if division.inbox.knows(kind):
            return division.inbox.take(agent, kind, data, headers)
        return encode(_ordered(division, agent, kind, data))

    def _find(self, unit: str, place: str, last: str) -> tuple[Division, Agent | None] | None:
        """Find the division that answers for an address, and the agent if there is one."""
        if unit == CORPORATE:
            division = self.divisions.get(f"{CORPORATE}.{place}")
            if division is None or division.manifest is None or not division.acting():
                return None
            return division, division.agents.get(last)
        try:
            wanted = parse_agent_id(last)
        except SubjectError:
            return None
        mine = [d for d in self.divisions.values() if d.key.unit == unit and d.acting()]
        if any(division.leaves_alone(wanted.ordinal) for division in mine):
            return None  # its agent has a connection of its own, and answers there
        for division in mine:
            if division.covers(wanted.ordinal):
                agent = division.agents.get(wanted.ordinal)
                return division, agent if agent is not None and _is(agent, place, wanted) else None
        # A seat of no division: only who holds all of the subsidiary can know that.
        everyone = sum(key.startswith(f"{unit}.") for key in self._known)
        return (mine[0], None) if mine and len(mine) == everyone else None

    # -- the supervisor -------------------------------------------------------------------------------------

    async def _write_status(self) -> None:
        path = self._options.status_file
        if path is None:
            return
        while True:
            _write_private(path, encode(self.status()))
            await asyncio.sleep(1.0)

    def status(self) -> dict[str, object]:
        """Say how the host is, for its supervisor."""
        return {
            "host": self.id,
            "divisions": len(self.divisions),
            "agents": sum(len(division.agents) for division in self.divisions.values()),
            "live": sum(division.roster.live() for division in self.divisions.values()),
            "connected": self.lines.connected,
            "rss_mb": round(rss_mb(), 1),
            "kpi_unacked": self.spool.unacked,
            **self.spool.status(),
        }

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _is(agent: Agent, role: str, wanted: AgentId) -> bool:
    return agent.generation == wanted.generation and agent.group.role == wanted.role == role


def _names(divisions: list[str], division: Division) -> bool:
    """Whether a list names the division, by its key or by its number within the subsidiary; empty: all."""
    return not divisions or division.lease.key in divisions or division.key.division in divisions


def _inject(config: HostConfig, mine: list[Division]) -> None:
    """Do the harm that is asked for (fault injection, only with `--chaos`)."""
    broken = set(config.fail)
    for division in mine:
        if broken:
            division.break_agents(broken)
        if config.silence_s and _names(config.silence, division):
            division.fall_silent(config.silence_s)


def _is_meant(scope: Order, division: Division) -> bool:
    """Whether a drain is about this tenure: a repetition must not hand over what has come back since."""
    return division.lease.epoch <= scope.epochs.get(division.lease.key, division.lease.epoch)


async def _unsubscribe(subscription: Subscription) -> None:
    with contextlib.suppress(Exception):
        await subscription.unsubscribe()


def _write_private(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.replace(path)


def rss_mb() -> float:
    """Resident memory of this process in MB (its peak where the present figure is not available)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 1e6
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def _ordered(division: Division, agent: Agent, kind: str, data: bytes) -> msgspec.Struct | dict[str, str]:
    """Obey an order to one agent; say why not to anything else."""
    try:
        order = ORDERS[kind], decode(Order, data)
    except (KeyError, msgspec.DecodeError) as error:
        reason = error if isinstance(error, msgspec.DecodeError) else "unknown-type"
        return {"error": f"400 {reason}"}
    return division.obey(agent, *order)
