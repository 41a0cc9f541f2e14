"""Work that is offered to one agent by a directed message, rather than pulled from the queue of its role."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, get_args
from uuid import uuid4

from msgspec import UNSET, UnsetType

from claytom_agent.agents import Agent
from claytom_agent.blocks import Build
from claytom_agent.client import Outgoing, event_headers, iso
from claytom_agent.escalation import Matter
from claytom_agent.messages import (
    Answer,
    FinalState,
    Severity,
    WorkCancel,
    WorkError,
    WorkItem,
    WorkResult,
    ce_type,
    encode,
)
from claytom_agent.presence import PresenceHead
from claytom_agent.roster import Roster
from claytom_agent.subjects import metrics
from claytom_agent.workers.base import Cost, Item, WorkerError

STREAM: Final = "CT_EVENTS"
SEVERITIES: Final[dict[str, Severity]] = {word: word for word in get_args(Severity)}


@dataclass(frozen=True, slots=True)
class AgentReporter:
    """What a run of a hosted agent may tell while it lasts."""

    agent: Agent
    raise_: Callable[[Agent, Matter], None]

    async def progress(self, item: Item, pct: float, note: str) -> None:
        """Drop it: presence tells that the agent is busy."""

    async def cost(self, item: Item, cost: Cost) -> None:
        """Refuse: what must not be lost is not taken by a host that keeps no costs."""
        raise WorkerError("this host books no costs")

    async def escalate(self, item: Item, severity: str, summary: str, needs: str) -> None:
        """Raise it through the agent's superiors; an item's escalation is one, however often its run asks."""
        shift = item.kind == "shift"
        identity = (
            f"asks-{self.agent.group.unit}-{self.agent.id}-{uuid4().hex[:12]}" if shift else f"work-{item.id}"
        )
        weight = SEVERITIES.get(severity, "medium")
        work_id = "" if shift else item.id
        matter = Matter(identity, self.agent.subject, weight, summary, needs, "quality", work_id)
        self.raise_(self.agent, matter)

    def cancelled(self, item: Item) -> bool:
        """Nobody needs to look: a cancelled run is stopped."""
        return False


@dataclass(slots=True)
class Offers:
    """The offered items that a division's agents are at: one for an agent at a time."""

    roster: Roster
    head: PresenceHead
    spool: Callable[[str, list[Build]], bool]
    _runs: dict[int | str, tuple[str, "asyncio.Task[None]"]] = field(default_factory=dict)
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    def take(self, agent: Agent, item: WorkItem) -> Answer:
        """Accept an item that the agent can do now, and begin it."""
        if item.deadline <= datetime.now(UTC):
            return Answer("rejected", "expired", "the item's deadline is over")
        if item.kind not in getattr(agent.group.worker, "kinds", ()):  # a worker that names none only runs shifts
            return Answer("rejected", "skill", f"{agent.id} does no {item.kind}")
        if agent.desired != "run" or agent.state not in ("idle", "busy"):
            return Answer("rejected", "unavailable", f"{agent.id} is {agent.state}")
        if agent.key in self._runs:
            return Answer("rejected", "busy", f"{agent.id} is at {self._runs[agent.key][0]}", 5.0)
        self._runs[agent.key] = (item.id, self.spawn(self._carry_out(agent, item)))
        return Answer("accepted")

    def cancel(self, agent: Agent, order: WorkCancel) -> Answer:
        """Stop an item; one that the agent is not at has ended, or never came."""
        running = self._runs.get(agent.key)
        if running is None or running[0] != order.id:
            return Answer("accepted", "not-running")
        running[1].cancel()
        return Answer("accepted")

    def spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run something of the division's beside it, until it ends or the division does."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def close(self) -> None:
        """Stop all; who comes next gets the offers again, as nobody has told a result."""
        self._runs.clear()
        for task in self._tasks:
            task.cancel()

    async def _carry_out(self, agent: Agent, offered: WorkItem) -> None:
        began, cpu = time.monotonic(), time.process_time()
        item = Item(offered.id, offered.kind, offered.input)
        left = (offered.deadline - datetime.now(UTC)).total_seconds()
        seconds = min(left, left if offered.start_to_close_s is UNSET else offered.start_to_close_s)
        status: FinalState = "completed"
        output: Any = None
        error: WorkError | UnsetType = UNSET
        try:
            async with asyncio.timeout(seconds):
                context = self.roster.context(agent, item, time.time())
                output = (await agent.group.worker.run(item, context)).result
            agent.done += 1
        except TimeoutError:
            status, error = "failed", WorkError("deadline", f"not done within {seconds:.0f} s")
        except asyncio.CancelledError:
            if agent.key not in self._runs:  # the division ends, not the item
                raise
            status = "canceled"
        except Exception as failure:
            status, error = "failed", WorkError("crash", f"{type(failure).__name__}: {failure}"[:500])
        self._runs.pop(agent.key, None)
        agent.tick = time.monotonic()
        wall, used = int((agent.tick - began) * 1000), int((time.process_time() - cpu) * 1000)
        result = WorkResult(
            ts=datetime.now(UTC),
            work_id=offered.id,
            agent=agent.subject,
            status=status,
            output=output,
            cpu_ms=used,
            wall_ms=wall,
            error=error,
        )
        self.spool(STREAM, [self._builder(agent, result)])
        if status == "failed" and isinstance(error, WorkError):
            summary = f"{agent.id} cannot do {offered.kind} {offered.id}: {error.message}"
            await self.roster.reporter(agent).escalate(item, "medium", summary, "a decision, or other input")

    def _builder(self, agent: Agent, result: WorkResult) -> Build:
        content, ts = encode(result), iso()

        def build(number: int) -> Outgoing:
            headers = event_headers(
                ce_type=ce_type("work.result"),
                source=agent.subject,
                id=f"res-{result.work_id}",
                time=ts,
                epoch=self.head.epoch,
                seq=f"{self.head.division}.{self.head.epoch}.{number}",
                generation=agent.header_generation,
            )
            return Outgoing(metrics(self.head.unit, "result"), content, headers)

        return build
