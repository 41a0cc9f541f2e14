"""The interface of a worker: `async run(item, ctx) -> Output`."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol


class WorkerError(RuntimeError):
    """A run that failed; the host restarts the agent with back-off."""


@dataclass(frozen=True, slots=True)
class Item:
    """A piece of work. The kind `shift` is the agent's own round: look at the world, report its measures."""

    id: str
    kind: str
    input: Any = None


@dataclass(frozen=True, slots=True)
class Context:
    """What a run may know: who it is for, the time (Unix seconds), and a seed that is the agent's own."""

    agent: str
    subsidiary: str
    role: str
    seed: int
    now: float


@dataclass(frozen=True, slots=True)
class Output:
    """What a run gives: how many items it finished, and for a shift the agent's claim of its measures."""

    done: int = 0
    kpis: dict[str, float] = field(default_factory=dict)
    okrs: dict[str, str | float] = field(default_factory=dict)
    result: Any = None


class Worker(Protocol):
    """Runs the agents of a seat group; it keeps no state of one agent."""

    inline: ClassVar[bool]
    """True if a run never waits and takes well under a millisecond: the division then runs its agents one after
    another; otherwise each run has a task of its own and a deadline."""

    start_to_close_s: float
    """After so many seconds a run of a worker that is not inline is stuck."""

    async def run(self, item: Item, ctx: Context) -> Output:
        """Do the item; raise anything to fail the agent."""
        ...
