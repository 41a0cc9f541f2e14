"""One division on its host: manifest, agents, presence, samples and hello, under one lease and one epoch."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import msgspec

from claytom_agent import corporate, kpi, presence
from claytom_agent.agents import Agent, RestartPolicy
from claytom_agent.blocks import Build
from claytom_agent.client import (
    Bus,
    BusError,
    Disconnected,
    NoAnswerError,
    NobodyThereError,
    event_headers,
    iso,
)
from claytom_agent.escalation import Escalator, Matter, superiors
from claytom_agent.inbox import Actions, Inbox
from claytom_agent.leases import Lease
from claytom_agent.lines import Lines
from claytom_agent.manifest import Manifest, ManifestError, Settings, covers, decode_manifest
from claytom_agent.messages import (
    PROTOCOL,
    Answer,
    Desired,
    EscalationResolve,
    Goodbye,
    Hello,
    Order,
    Pong,
    Refused,
    RefusedManifest,
    Shard,
    Welcome,
    ce_type,
    decode,
    encode,
)
from claytom_agent.offers import AgentReporter, Offers
from claytom_agent.roster import Roster, Transition
from claytom_agent.spool import Spool
from claytom_agent.subjects import DivisionKey, command, parse_division_key
from claytom_agent.timers import Timers

log = logging.getLogger("claytom_agent.division")

SEATS_BUCKET: Final = "CT_SEATS"
STARTING_AT_ONCE: Final = 4
"""Divisions of a host that make their agents at the same time. Each takes some 30 ms of the loop before it gives
way, so a hundred at once would keep renewals of leases waiting for seconds."""
DESIRED: Final[dict[str, Desired]] = {"pause": "paused", "resume": "run", "retire": "retired"}
_FAULTS: Final = (BusError, Disconnected, NoAnswerError, NobodyThereError)


@dataclass(frozen=True, slots=True)
class DivisionTimes:
    """Seconds. The intervals of samples and presence come from the manifest."""

    manifest: float = 30.0
    """Between two readings of the manifest without a hint."""
    soon: float = 0.25
    """After a change that others wait for, until presence tells it."""
    report: float = 1.5
    """Within which a requested full presence is sent."""
    hello: float = 0.6
    """After the first presence, until hello: whoever takes over many divisions reports all their agents first."""
    hello_ceiling: float = 60.0


@dataclass(slots=True)
class Surroundings:
    """What the divisions of a host share."""

    lines: Lines
    spool: Spool
    host: str
    chaos: bool = False
    corrupt: dict[str, frozenset[str]] = field(default_factory=dict)
    """By subsidiary the blueprint versions whose new agents crash (fault injection)."""
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    times: DivisionTimes = field(default_factory=DivisionTimes)
    starting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(STARTING_AT_ONCE))


class Division:
    """Runs the agents of one division for as long as its lease holds. `start()`, then `stop()`."""

    def __init__(self, lease: Lease, around: Surroundings) -> None:
        self.lease = lease
        self.key: DivisionKey = parse_division_key(lease.key)
        self.manifest: Manifest | None = None
        self.settings = Settings()
        self._around = around
        self._bus: Bus = around.lines.of(self.key.unit)
        self._times = around.times
        self._timers = Timers()
        self.roster = Roster(self.key.unit, self._timers, around.policy, self._transition, around.corrupt)
        self._head = presence.PresenceHead(self.key.unit, around.host, lease.key, lease.epoch)
        self._offers = Offers(self.roster, self._head, self._spool)
        self._escalator = Escalator(self._bus, self._head, self._spool, self._offers.spawn)
        self.inbox = Inbox(lease.epoch, Actions(self._offers.take, self._offers.cancel, self._resolve))
        self.roster.reporter = lambda agent: AgentReporter(agent, self._raise)
        self._tasks: list[asyncio.Task[None]] = []
        self._flush_due = False
        self._delta_due = False
        self._refresh_due = False
        self._brief_day = ""
        self._refused: RefusedManifest | None = None
        self._presences = 0
        self._told = asyncio.Event()
        self._silent_until = 0.0
        self._stopped = False

    @property
    def agents(self) -> dict[int | str, Agent]:
        """The agents by seat: ordinal, or name of a corporate seat."""
        return self.roster.agents

    def start(self) -> None:
        """Begin to run the division."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._run()), loop.create_task(self._say_hello())]
        for task in self._tasks:
            task.add_done_callback(self._log_death)

    def stop(self) -> None:
        """Stop at once; nothing of this division acts afterwards. What is in the spool is still sent."""
        if self.roster.transitions:
            self._flush_transitions()
        self._stopped = True
        for task in self._tasks:
            task.cancel()
        self.roster.close()
        self._offers.close()
        self._around.spool.forget(self.lease.key, self.lease.epoch)

    def _log_death(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and task.exception() is not None:
            log.error("division %s stopped working", self.lease.key, exc_info=task.exception())

    def acting(self) -> bool:
        """Whether the lease lets the division act now."""
        return self.lease.valid(time.monotonic())

    def covers(self, ordinal: int) -> bool:
        """Whether the manifest lists this seat."""
        return self.manifest is not None and covers(self.manifest, ordinal)

    def leaves_alone(self, ordinal: int) -> bool:
        """Whether the manifest says that the seat is of the division, and its agent no host's to run."""
        return self.manifest is not None and ordinal in self.manifest.external

    # -- the run --------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        await self._first_manifest()
        timers, times = self._timers, self._times
        timers.soon(self._presence_full)
        self._every(lambda: self.settings.presence_interval_s, self._presence_delta)
        self._every(lambda: self.settings.presence_full_s, self._presence_full)
        self._every(lambda: times.manifest * random.uniform(0.9, 1.1), self.refresh)
        if self.key.corporate:
            timers.soon(self._brief)
            self._every(lambda: times.manifest, self._brief)
        self._schedule_kpi()
        while True:
            try:
                await timers.run()
            except Exception:  # one bad job must not silence three hundred agents
                log.exception("division %s: a job failed", self.lease.key)

    async def _first_manifest(self) -> None:
        failures = 0
        while self.manifest is None:
            manifest = await self._read_manifest()
            if manifest is not None:
                async with self._around.starting:  # what waits for NATS is not in the queue, what makes agents is
                    await self._take_up(manifest)
            else:
                failures += 1
                if failures in (1, 10) or failures % 60 == 0:
                    log.warning("division %s has no manifest yet", self.lease.key)
                await asyncio.sleep(random.uniform(0.5, 1.0) * min(0.2 * 2 ** min(failures, 8), 10.0))

    def _every(self, interval: Callable[[], float], job: Callable[[], Awaitable[None]]) -> None:
        """Repeat a job, first after a random part of its interval so that the divisions of a host spread."""

        def again() -> Awaitable[None] | None:
            self._timers.after(interval(), again)
            return job() if self.acting() else None

        self._timers.after(interval() * random.uniform(0.3, 1.0), again)

    def refresh_soon(self) -> None:
        """Read the manifest in its turn; once, however many hints tell of it."""
        if not self._refresh_due:
            self._refresh_due = True
            self._timers.soon(self.refresh)

    # -- the manifest ---------------------------------------------------------------------------------------

    async def refresh(self) -> None:
        """Read the manifest and make the agents as it says; an older or the same generation changes nothing."""
        self._refresh_due = False
        manifest = await self._read_manifest()
        if manifest is not None:
            await self._take_up(manifest)

    async def _read_manifest(self) -> Manifest | None:
        """Return the manifest in the bucket, if there is one that we understand."""
        try:
            entry = await self._around.lines.host.kv_get(SEATS_BUCKET, self.lease.key)
        except _FAULTS as error:
            log.debug("manifest of %s: %s", self.lease.key, error)
            return None
        if entry is None or entry.value is None:
            return None
        try:
            manifest = decode_manifest(self.lease.key, entry.value)
        except ManifestError as error:
            self._refuse(error)
            return None
        if self._refused is not None:
            self._refused = None
            self._tell_soon()
        return manifest

    async def _take_up(self, manifest: Manifest) -> None:
        if self.manifest is not None and manifest.generation <= self.manifest.generation:
            return
        self.settings = manifest.settings
        new = self.roster.apply(manifest)
        self.manifest = manifest
        await self.roster.run_all(new)
        self._tell_soon()

    def _refuse(self, error: ManifestError) -> None:
        """Stay with the last good manifest, and tell the portal why: it would wait in vain for the new one."""
        refused = RefusedManifest(error.generation, str(error)[:300])
        if refused == self._refused:
            return
        log.error("%s; the last good one stays", error)
        self._refused = refused
        self._tell_soon()

    # -- presence -------------------------------------------------------------------------------------------

    def report(self) -> None:
        """Send full presence within two seconds, as asked by the portal."""
        self._timers.after(random.uniform(0.0, self._times.report), self._presence_full)

    def _tell_soon(self) -> None:
        if not self._delta_due:
            self._delta_due = True
            self._timers.after(self._times.soon, self._presence_soon)

    async def _presence_full(self) -> None:
        await self._publish_presence(full=True)

    async def _presence_delta(self) -> None:
        await self._publish_presence(full=False)

    async def _presence_soon(self) -> None:
        if self._delta_due:  # else what was to be told is told: a report, delta or full, went out meanwhile
            await self._publish_presence(full=False)

    async def _publish_presence(self, *, full: bool) -> None:
        roster, now = self.roster, time.monotonic()
        self._delta_due = False
        if self.manifest is None or now < self._silent_until or not self.acting():
            return
        self._presences += 1
        listed = presence.entries((roster.agents if full else roster.changed).values(), now)
        message = presence.presence_message(
            self._head,
            roster.counts(),
            listed + roster.gone,
            sequence=self._presences,
            generation=self.manifest.generation,
            full=full,
            degraded=roster.degraded,
            refused=self._refused,
        )
        try:
            await self._bus.publish(message.subject, message.body, message.headers)
        except Disconnected:
            return
        self._told.set()
        roster.changed.clear()
        roster.gone.clear()

    # -- state reports --------------------------------------------------------------------------------------

    def _transition(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._timers.after(0.05, self._flush_transitions)

    def _flush_transitions(self) -> None:
        self._flush_due = False
        pending = self.roster.transitions
        self._escalate_failures(pending)
        builders = [presence.state_builder(self._head, t.agent, t.before, t.after, t.reason) for t in pending]
        if self._spool(presence.STATE_STREAM, builders):
            pending.clear()
            self._tell_soon()
        else:
            self._flush_due = True
            self._timers.after(1.0, self._flush_transitions)

    # -- escalation -----------------------------------------------------------------------------------------

    def _escalate_failures(self, transitions: list[Transition]) -> None:
        """Ask the superiors about agents that restarts did not mend; in a degraded division once, for all."""
        failed = [one for one in transitions if one.after == "failed"]
        if self.roster.degraded:
            failed = failed[:1]
        for one in failed:
            agent = one.agent
            if self.roster.degraded:
                matter = Matter(
                    f"degraded-{self.lease.key}-{self.lease.epoch}",
                    agent.subject,
                    "critical",
                    f"division {self.lease.key} is degraded, nobody is restarted: {one.reason}",
                    "its cause mended, then the division given to a host anew",
                )
            else:
                matter = Matter(
                    f"failed-{self.key.unit}-{agent.id}",
                    agent.subject,
                    "high",
                    f"{agent.id} failed: {one.reason}",
                    "a new agent for the seat",
                )
            self._raise(agent, matter)

    def _raise(self, agent: Agent, matter: Matter) -> None:
        if self.manifest is not None:
            self._escalator.begin(matter, superiors(self.manifest, agent.key))

    def _resolve(self, agent: Agent, decision: EscalationResolve) -> Answer:
        """Hand a decision to the agent: to its next run, which for a failed agent begins now."""
        given = {"escalation": decision.id, "decision": decision.decision, "input": decision.input}
        again = self.roster.decided(agent, given)
        return Answer("accepted", "restarted" if again else "noted")

    def _spool(self, stream: str, builders: list[Build]) -> bool:
        if self._stopped:
            return True  # the epoch is over, and with it its numbers
        return self._around.spool.add(self.lease.key, self.lease.epoch, stream, builders) is not None

    # -- samples --------------------------------------------------------------------------------------------

    def _schedule_kpi(self) -> None:
        due = kpi.next_round(self.lease.key, self.settings.kpi_interval_s, time.time())
        self._timers.after(due - time.time(), lambda: self._kpi_round(due))

    async def _kpi_round(self, due: float) -> None:
        interval = self.settings.kpi_interval_s
        self._schedule_kpi()
        if self.acting():
            await self.sample(due, interval)

    async def sample(self, due: float, interval_s: float) -> int:
        """Run a shift of every agent and spool its sample of the round `due` (Unix time); return how many.

        The ids come from the round and not from the moment, so that a late round cannot take the id of the next.
        """
        at = time.time()
        roster, spool = self.roster, self._around.spool
        working = [a for a in roster.agents.values() if a.desired == "run" and a.state in ("idle", "busy")]
        thinning = spool.thinning
        left_out = thinning > 1 and int(due // interval_s) % thinning != 0
        if left_out:
            spool.thinned += len(working)
        stamp = f"{self.lease.key}.{self.lease.epoch}"
        builders: list[Build] = []
        for count, agent in enumerate(working, 1):
            output = await roster.shift(agent, at)  # also when nothing is told of it: the agent lives by its shifts
            if output is not None and output.kpis and not left_out:
                identity = kpi.sample_id(agent, due, interval_s)
                builders.append(kpi.sample_builder(agent, output, at, identity, stamp, thinning))
            if count % 100 == 0:
                await asyncio.sleep(0)
        return len(builders) if self._spool(kpi.STREAM, builders) else 0

    async def _brief(self) -> None:
        day = datetime.now(UTC).date().isoformat()
        seats = [agent for agent in self.roster.agents.values() if agent.state != "failed"]
        if (
            day != self._brief_day
            and seats
            and self._spool(corporate.STREAM, [corporate.brief_builder(self._head, seats, day)])
        ):
            self._brief_day = day

    # -- the portal -----------------------------------------------------------------------------------------

    async def _say_hello(self) -> None:
        """Ask for terms until welcomed. Without an answer the division runs on alone."""
        await self._told.wait()
        await asyncio.sleep(random.uniform(0.5, 1.0) * self._times.hello)
        wait = 1.0
        while (retry := await self._hello()) is not None:
            if retry > 0:
                wait = retry
            await asyncio.sleep(random.uniform(0.5, 1.0) * wait)
            wait = min(wait * 2, self._times.hello_ceiling)

    async def _hello(self) -> float | None:
        """Return None when welcomed, else the seconds that the portal asks to wait (0: no answer)."""
        body = Hello(PROTOCOL, self._shard(), self._head.host, self.lease.epoch)
        try:
            reply = await self._bus.request(
                command(self.key.unit, "hello"), encode(body), headers=self._headers("agent.hello")
            )
            answer = decode(Welcome, reply.data)
        except _FAULTS:
            return 0.0
        except msgspec.DecodeError:
            return self._refusal(reply.data)
        settings = self.settings
        self.settings = Settings(
            kpi_interval_s=answer.kpi_interval_s or settings.kpi_interval_s,
            presence_interval_s=answer.presence_interval_s or settings.presence_interval_s,
            presence_full_s=settings.presence_full_s,
        )
        agents = {agent.subject: agent for agent in self.roster.agents.values()} if answer.open else {}
        for letter in answer.open:
            if letter.address in agents:
                self.inbox.told_again(agents[letter.address], letter)
        return None

    def _refusal(self, data: bytes) -> float:
        try:
            refused = decode(Refused, data)
        except msgspec.DecodeError:
            log.warning("division %s: the answer to hello is not understood", self.lease.key)
            return 5.0
        log.warning("division %s: hello refused (%s)", self.lease.key, refused.code)
        return max(0.5, refused.retry_after_s)

    async def goodbye(self, reason: str) -> None:
        """Tell the portal that the division is given back; best effort."""
        body = Goodbye(self._shard(), self._head.host, self.lease.epoch, reason)
        try:
            await self._bus.request(
                command(self.key.unit, "goodbye"),
                encode(body),
                headers=self._headers("agent.goodbye"),
                timeout_s=1.0,
            )
        except _FAULTS:
            return

    def _shard(self) -> Shard:
        return Shard(self.lease.key, len(self.roster.agents))

    def _headers(self, name: str) -> dict[str, str]:
        return event_headers(
            ce_type=ce_type(name),
            source=f"host/{self._head.host}",
            id=f"{name}-{self.lease.key}-{self.lease.epoch}",
            time=iso(),
            epoch=self.lease.epoch,
            dedup=False,
        )

    # -- what others ask ------------------------------------------------------------------------------------

    def pong(self, agent: Agent) -> Pong:
        """Answer `agent.ping`."""
        return Pong(agent.subject, agent.state, self.lease.epoch, self._head.host)

    def break_agents(self, subjects: set[str]) -> None:
        """Make these agents fail at every run, and run them now (fault injection, only with `--chaos`)."""
        hit = [agent for agent in self.roster.agents.values() if agent.subject in subjects]
        for agent in hit:
            agent.broken = True
        if hit:
            self._timers.soon(lambda: self.roster.run_all(hit))

    def fall_silent(self, seconds: float) -> None:
        """Send no presence for so long, then a full one (fault injection, only with `--chaos`)."""
        self._silent_until = time.monotonic() + seconds
        self._timers.after(seconds, self._presence_full)

    def obey(self, agent: Agent, verb: str, order: Order) -> Answer:
        """Do what one agent is told at its address, if a manifest that is still to come says the same.

        What this manifest says stands: a repetition is accepted and changes nothing, an older order is rejected.
        """
        assert self.manifest is not None  # noqa: S101 - it is what the agent was made of
        generation = self.manifest.generation
        desired = DESIRED.get(verb)
        if desired is None:
            return Answer("rejected", "shared-host", "a hosted agent moves with its division")
        if order.generation <= generation:
            if agent.desired != desired:
                code = "manifest" if order.generation == generation else "superseded"
                return Answer("rejected", code, f"manifest {generation} says {agent.desired}")
        else:
            if desired == "retired":
                self.roster.retire(agent)
            elif self.roster.set_desired(agent, desired):
                self._timers.soon(lambda: self.roster.run_all([agent]))
            self._tell_soon()
            self.refresh_soon()
        return Answer("accepted")
