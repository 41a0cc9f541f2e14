"""The agents of one division: made and unmade as the manifest says, run, restarted, given up.

This is the part of a division that knows no wire: what it has to say it leaves in `changed`, `gone` and
`transitions` for the division to publish.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from claytom_agent.agents import LIVE_STATES, Agent, AgentGroup, RestartPolicy, make_group
from claytom_agent.manifest import Manifest, SeatSpec, expand
from claytom_agent.messages import Desired, State
from claytom_agent.presence import REPORTED_STATES, Entry, count_states
from claytom_agent.timers import Timers
from claytom_agent.workers import make_worker
from claytom_agent.workers.base import UNHEARD, Context, Item, Output, Reporter, Worker, WorkerError

log = logging.getLogger("claytom_agent.roster")


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of state that ARP must hear of."""

    agent: Agent
    before: State
    after: State
    reason: str


class _NoWorker:
    """Stands in for a worker that this host does not have: its agents fail, with the reason."""

    inline: ClassVar[bool] = True
    start_to_close_s = 5.0

    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def run(self, item: Item, ctx: Context) -> Output:
        """Fail."""
        raise WorkerError(self._reason)


@dataclass(slots=True)
class Roster:
    """The agents by seat, and what happened to them since it was last published."""

    unit: str
    timers: Timers
    policy: RestartPolicy
    on_transition: Callable[[], None]
    corrupt: Mapping[str, Collection[str]] = field(default_factory=dict)
    """By subsidiary the blueprint versions whose agents crash from their start on (fault injection)."""
    agents: dict[int | str, Agent] = field(default_factory=dict)
    changed: dict[int | str, Agent] = field(default_factory=dict)
    gone: list[Entry] = field(default_factory=list)
    transitions: list[Transition] = field(default_factory=list)
    degraded: bool = False
    reporter: Callable[[Agent], Reporter] = lambda _agent: UNHEARD
    """To whom a run of the agent reports; a run that never waits has nobody."""
    _inputs: dict[int | str, Any] = field(default_factory=dict)
    _counts: dict[str, int] | None = None
    _recent_crashes: dict[int | str, float] = field(default_factory=dict)
    _runs: dict[int | str, "asyncio.Task[None]"] = field(default_factory=dict)
    _outputs: dict[int | str, Output] = field(default_factory=dict)

    def apply(self, manifest: Manifest) -> list[Agent]:
        """Make the agents as the manifest wants them; return the new ones, which still have to be started."""
        groups: dict[int, AgentGroup] = {}
        self._counts = None
        new: list[Agent] = []
        resumed: list[Agent] = []
        wanted: set[int | str] = set()
        for spec in expand(manifest):
            if spec.desired == "retired":
                continue
            wanted.add(spec.key)
            group = groups.get(id(spec.group))
            if group is None:
                worker = self._worker(spec.group.worker.kind, spec.group.worker.params)
                group = groups[id(spec.group)] = make_group(self.unit, spec.group, worker)
            agent = self.agents.get(spec.key)
            if agent is None or agent.generation != spec.generation:
                new.append(self._appoint(spec, group))
            else:
                agent.group, agent.duty = group, spec.duty
                if self.set_desired(agent, spec.desired):
                    resumed.append(agent)
        if resumed:  # one job for all of them, however many they are
            self.timers.soon(lambda: self.run_all(resumed))
        for key in [key for key in self.agents if key not in wanted]:
            self._dismiss(self.agents.pop(key))
        return new

    def set_desired(self, agent: Agent, desired: Desired) -> bool:
        """Pause or resume an agent; say whether it is to be run now.

        Who ran before the pause is idle at once: a pause is not a loss, and its end is none either.
        """
        if desired == agent.desired:
            return False
        agent.desired = desired
        if desired == "paused" and agent.state != "failed":
            self._stop_run(agent)
            self.set_state(agent, "paused", "paused")
        elif desired == "run" and agent.state == "paused":
            self.set_state(agent, "idle" if agent.ran else "starting", "resumed")
            return True
        return False

    def set_state(self, agent: Agent, state: State, reason: str) -> None:
        """Note a change of state; transitions into or out of trouble are reported."""
        before = agent.state
        if before == state:
            return
        agent.state = state
        self._counts = None
        self.changed[agent.key] = agent
        if state in REPORTED_STATES or before in REPORTED_STATES:
            self.transitions.append(Transition(agent, before, state, reason))
            self.on_transition()

    async def run_all(self, agents: Iterable[Agent]) -> None:
        """Run a shift of each agent that shall run; the loop gets its turn every hundred agents."""
        for count, agent in enumerate(list(agents), 1):
            if agent.desired == "run" and agent.state not in ("failed", "restarting"):
                await self.shift(agent, time.time())
            if count % 100 == 0:
                await asyncio.sleep(0)

    async def shift(self, agent: Agent, now: float) -> Output | None:
        """Run one shift at Unix time `now`; return its output, or the last one of a run that takes longer."""
        worker = agent.group.worker
        if not worker.inline:
            if agent.key not in self._runs:
                self._begin(agent, worker, now)
            return self._outputs.get(agent.key)
        try:
            output = await self._run(agent, worker, now)
        except Exception as error:
            self._crashed(agent, error)
            return None
        self._finished(agent, output)
        return output

    async def _run(self, agent: Agent, worker: Worker, now: float) -> Output:
        if agent.broken:
            raise WorkerError("fault injected")
        item = Item(agent.subject, "shift", self._inputs.pop(agent.key, None))
        return await worker.run(item, self.context(agent, item, now))

    def context(self, agent: Agent, item: Item, now: float) -> Context:
        """Return what a run of the agent may know."""
        reporter = UNHEARD if agent.group.worker.inline else self.reporter(agent)
        role = agent.group.role
        return Context(agent.subject, self.unit, role, agent.seed, now, item=item, reporter=reporter)

    def decided(self, agent: Agent, decision: Any) -> bool:
        """Give the agent's next run a decision as its input; a failed agent is tried again. Say whether it was."""
        self._inputs[agent.key] = decision
        if agent.state != "failed" or agent.desired != "run":
            return False
        agent.crashes = None
        self.set_state(agent, "starting", "decided by its superior")
        self.timers.soon(lambda: self.run_all([agent]))
        return True

    def _finished(self, agent: Agent, output: Output) -> None:
        agent.tick = time.monotonic()
        agent.ran = True
        agent.done += output.done
        if agent.desired == "run":
            self.set_state(agent, "idle", "recovered")

    # -- workers that take their time -----------------------------------------------------------------------

    def _begin(self, agent: Agent, worker: Worker, now: float) -> None:
        agent.tick = time.monotonic()
        if agent.state != "restarting":
            self.set_state(agent, "busy", "run")
        task = asyncio.get_running_loop().create_task(self._carry_out(agent, worker, now))
        self._runs[agent.key] = task
        self.timers.after(worker.start_to_close_s, lambda: self._check_deadline(agent, task))

    async def _carry_out(self, agent: Agent, worker: Worker, now: float) -> None:
        try:
            output = await self._run(agent, worker, now)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._runs.pop(agent.key, None)
            self._crashed(agent, error)
        else:
            self._runs.pop(agent.key, None)
            self._outputs[agent.key] = output
            self._finished(agent, output)

    def _check_deadline(self, agent: Agent, task: "asyncio.Task[None]") -> None:
        if task.done() or self._runs.get(agent.key) is not task:
            return
        self._stop_run(agent)
        self.set_state(agent, "stuck", "run exceeded its start-to-close deadline")
        self._crashed(agent, WorkerError("stuck"))

    def _stop_run(self, agent: Agent) -> None:
        task = self._runs.pop(agent.key, None)
        if task is not None:
            task.cancel()

    # -- failures -------------------------------------------------------------------------------------------

    def _crashed(self, agent: Agent, error: Exception) -> None:
        if self.agents.get(agent.key) is not agent or agent.desired != "run":
            return
        now = time.monotonic()
        reason = f"{type(error).__name__}: {error}"
        may_restart = self.policy.crashed(agent, now)
        self._note_crash(agent, now)
        if self.degraded:
            self.set_state(agent, "failed", f"division degraded; {reason}")
        elif not may_restart:
            window = int(self.policy.window)
            self.set_state(agent, "failed", f"{self.policy.intensity} crashes in {window} s; {reason}")
        else:
            self.set_state(agent, "restarting", reason)
            attempt = len(agent.crashes or ())
            self.timers.after(self.policy.delay(attempt), lambda: self._restart(agent))

    async def _restart(self, agent: Agent) -> None:
        if self.agents.get(agent.key) is agent and agent.state == "restarting":
            agent.restarts += 1
            await self.shift(agent, time.time())

    def _note_crash(self, agent: Agent, now: float) -> None:
        crashes, window = self._recent_crashes, self.policy.degraded_window
        crashes[agent.key] = now
        for key in [key for key, at in crashes.items() if now - at > window or key not in self.agents]:
            del crashes[key]
        degraded = len(crashes) > self.policy.degraded_share * len(self.agents) and len(crashes) > 1
        if degraded and not self.degraded:
            log.error("%d of %d agents crashed: degraded, no restarts", len(crashes), len(self.agents))
        self.degraded = degraded

    # -- appointing and dismissing --------------------------------------------------------------------------

    def _appoint(self, spec: SeatSpec, group: AgentGroup) -> Agent:
        before = self.agents.get(spec.key)
        if before is not None:
            self._dismiss(before)
        agent = Agent(spec.key, group, spec.generation, spec.desired, spec.duty)
        agent.tick = time.monotonic()
        agent.broken = spec.group.blueprint.label in self.corrupt.get(self.unit, ())
        if spec.desired == "paused":
            agent.state = "paused"
        self.agents[spec.key] = agent
        self.changed[spec.key] = agent
        return agent

    def retire(self, agent: Agent) -> None:
        """End an agent; its seat stays empty."""
        if self.agents.get(agent.key) is agent:
            self._counts = None
            self._dismiss(self.agents.pop(agent.key))

    def _dismiss(self, agent: Agent) -> None:
        self._stop_run(agent)
        self.changed.pop(agent.key, None)
        self._outputs.pop(agent.key, None)
        self._inputs.pop(agent.key, None)
        self._recent_crashes.pop(agent.key, None)
        agent.desired = "retired"
        agent.state = "retired"
        self.gone.append((agent.id, "retired", agent.done, 0))

    def _worker(self, kind: str, params: dict[str, object]) -> Worker:
        try:
            return make_worker(kind, params)
        except (WorkerError, TypeError, ValueError) as error:
            log.exception("no worker for %s", self.unit)
            return _NoWorker(str(error))

    def counts(self) -> dict[str, int]:
        """How many agents are in each state; counted anew only when one has changed."""
        if self._counts is None:
            self._counts = count_states(self.agents.values())
        return self._counts

    def live(self) -> int:
        """How many agents are idle, busy or paused."""
        return sum(count for state, count in self.counts().items() if state in LIVE_STATES)

    def close(self) -> None:
        """Stop what still runs."""
        for task in self._runs.values():
            task.cancel()
        self._runs.clear()
