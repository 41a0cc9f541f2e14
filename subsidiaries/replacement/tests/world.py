"""A small world around the controller: hosts that run agents, a bus that loses and reorders, a clock that steps.

It knows what is true (who runs, who is lost, who holds which division); the controller only gets to know what is
delivered to it.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby

from django.db import connections
from django.db.models import Max

from bus.leases import Lease, note
from bus.models import Lease as GivenLease
from claytom_agent.messages import AgentState, Presence, State
from holding.models import Division, Seat
from subsidiaries.replacement import observing, services
from subsidiaries.replacement.brakes import LEVELS
from subsidiaries.replacement.models import LIVE_STATES, Incident, SeatState

UNIT = "pricing"
MOST_ROUNDS = 150
Message = Presence | observing.StateReport


class Clock:
    """The portal's clock: time passes, and at times it is set forward or back. `real` only passes."""

    def __init__(self, start: datetime) -> None:
        self.real = start
        self.shift = timedelta()

    def now(self) -> datetime:
        """Return what the portal takes for the time."""
        return self.real + self.shift

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.real += timedelta(seconds=seconds)


@dataclass
class Running:
    """An agent on its host."""

    generation: int
    state: State = "idle"


@dataclass
class Shard:
    """A division in truth: who holds it, under which epoch, the agents that run, the manifest they come of."""

    key: str
    id: int
    epoch: int
    host: str
    agents: dict[str, Running] = field(default_factory=dict)
    manifest: int = 0
    cut_off: bool = False


class World:
    """What is true of one unit, and what is on its way to the portal."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.roster = observing.Roster()
        self.flight: list[Message] = []
        self.capacity = True
        self.amiss: set[tuple[str, str, int]] = set()
        """(division, seat, generation) of agents that were ever anything but well."""
        self.other = ThreadPoolExecutor(1, thread_name_prefix="second-controller")
        named = Seat.objects.filter(unit__slug=UNIT).values_list("code", "role__slug")
        self.roles: dict[str, str] = {code: role or "" for code, role in named}
        rows = Division.objects.filter(unit__slug=UNIT).order_by("id").values_list("key", "id")
        self.shards = [Shard(key, pk, 0, "") for key, pk in rows]
        self.epochs = GivenLease.objects.aggregate(last=Max("epoch"))["last"] or 100
        for shard in self.shards:
            self.move(shard)

    def close(self) -> None:
        """End the second controller's connection."""
        self.other.submit(connections.close_all).result()
        self.other.shutdown()

    # -- hosts ----------------------------------------------------------------------------------------------

    def move(self, shard: Shard) -> None:
        """Give a division to another host, which makes its agents anew as the manifest says."""
        self.epochs += 1
        shard.epoch, shard.host, shard.cut_off = self.epochs, f"host-{self.epochs % 3}", False
        note(leases=[Lease(shard.key, shard.epoch, shard.host, self.clock.now() - timedelta(seconds=1))])
        shard.agents.clear()
        self.take_up(shard)

    def take_up(self, shard: Shard, *, slowly: bool = False) -> None:
        """Let the host read the manifest, and start agents of generations that it does not run."""
        if not self.capacity and shard.agents:
            return
        shard.manifest = Division.objects.values_list("manifest_generation", flat=True).get(pk=shard.id)
        for code, generation in Seat.objects.filter(division=shard.id).values_list("code", "generation"):
            running = shard.agents.get(code)
            known = shard.manifest and (shard.key, code, generation) in self.amiss
            if running is not None and running.generation == generation:
                continue
            if running is None and known and shard.agents:
                continue  # it is lost: only a new generation brings it back
            shard.agents[code] = Running(generation, "starting" if slowly else "idle")
            if slowly:
                self.amiss.add((shard.key, code, generation))

    def started(self, shard: Shard) -> None:
        """Let agents that were starting be live."""
        for running in shard.agents.values():
            if running.state == "starting":
                running.state = "idle"

    def crash(self, shard: Shard, code: str) -> None:
        """Let an agent fail for good; its host says so."""
        running = shard.agents.get(code)
        if running is None or running.state == "failed":
            return
        self.amiss.add((shard.key, code, running.generation))
        body = AgentState(
            ts=self.clock.real,
            agent=f"org.claytom.{UNIT}.{self.roles[code]}.{code}-g{running.generation}",
            from_=running.state,
            to="failed",
            reason="test",
            restarts=3,
        )
        running.state = "failed"
        self.send(shard, observing.StateReport(body, shard.epoch, running.generation))

    def lose(self, shard: Shard, code: str) -> None:
        """Let an agent be gone without a word."""
        running = shard.agents.pop(code, None)
        if running is not None:
            self.amiss.add((shard.key, code, running.generation))

    def report(self, shard: Shard, *, full: bool) -> None:
        """Let a host send presence."""
        agents = [(f"{code}-g{one.generation}", one.state, 0, 0) for code, one in shard.agents.items()]
        self.clock.wait(0.01)
        self.send(
            shard,
            Presence(
                ts=self.clock.real,
                subsidiary=UNIT,
                host=shard.host,
                division=shard.key,
                epoch=shard.epoch,
                observed_generation=shard.manifest,
                total=len(agents),
                counts={},
                full=full,
                agents=agents if full else [],
            ),
        )

    def send(self, shard: Shard, message: Message) -> None:
        """Put a message on its way, unless the host is cut off."""
        if not shard.cut_off:
            self.flight.append(message)

    # -- the portal -----------------------------------------------------------------------------------------

    def deliver(self, messages: list[Message]) -> None:
        """Let the portal handle messages, in this order; those of one kind that follow each other in one batch."""
        for kind, group in groupby(messages, type):
            if kind is Presence:
                observing.observe(reports=[one for one in group if isinstance(one, Presence)], roster=self.roster)
            else:
                states = [one for one in group if isinstance(one, observing.StateReport)]
                services.replace_reported(reports=states)

    def two_cycles(self) -> None:
        """Let two controllers run a cycle at once, each on its own connection."""
        beside = self.other.submit(services.ensure, unit=UNIT)
        services.ensure(unit=UNIT)
        beside.result()

    def heal(self) -> int:
        """Let everything work again, and somebody release what brakes; return after how many minutes all are
        live and no incident is open. Raises AssertionError when they never are."""
        self.capacity = True
        self.flight.clear()
        for rounds in range(1, MOST_ROUNDS):
            self.clock.wait(60)
            for shard in self.shards:
                shard.cut_off = False
                self.take_up(shard)
                self.started(shard)
                self.report(shard, full=True)
            self.deliver(self.flight)
            self.flight.clear()
            found = services.ensure(unit=UNIT)
            waiting = Incident.objects.filter(closed_at=None)
            waiting.filter(kind__in=list(LEVELS)).update(released_at=self.clock.now())
            if found.live == found.seats and not waiting.exists():
                return rounds
        amiss = SeatState.objects.filter(unit__slug=UNIT).exclude(state__in=LIVE_STATES).values()
        raise AssertionError(f"not restored: {found}, {list(waiting.values())}, {list(amiss)}")
