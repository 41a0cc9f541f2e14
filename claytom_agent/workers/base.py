"""The interface of a worker: `async run(item, ctx) -> Output`."""

import random
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final, Protocol

from msgspec import Struct

# Items, contexts and outputs are structs: a host that takes a division over makes three for each of its agents, and
# frozen dataclasses are made five times slower.


class WorkerError(RuntimeError):
    """A run that failed: a host restarts the agent with back-off, a single agent gives the item back for later."""


class ItemRejectedError(WorkerError):
    """The item cannot be done by anybody as it is; its result says `rejected`, and nobody gets it again.

    `code` is a short word for programs, as in `error.code` of `work.result`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Item(Struct, frozen=True):
    """A piece of work. The kind `shift` is the agent's own round: look at the world, report its measures."""

    id: str
    kind: str
    input: Any = None
    attempt: int = 1
    """How many times the queue has handed it out, this time included."""


@dataclass(frozen=True, slots=True)
class Cost:
    """One paid call. Units: tokens, milliseconds, millionths of the currency (ISO 4217).

    `call` names the call: the same name is the same cost, and a repeated call is two costs with two names.
    """

    call: str
    provider: str
    cost_micros: int
    currency: str
    model: str = ""
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    cpu_ms: int = 0


class Reporter(Protocol):
    """What a run may tell while it lasts. Who runs the worker provides it."""

    async def progress(self, item: Item, pct: float, note: str) -> None:
        """Tell how far the item is; may be dropped."""
        ...

    async def cost(self, item: Item, cost: Cost) -> None:
        """Store a cost; raise if it was not stored."""
        ...

    async def escalate(self, item: Item, severity: str, summary: str, needs: str) -> None:
        """Ask somebody above for a decision; raise if nobody will hear of it."""
        ...

    def cancelled(self, item: Item) -> bool:
        """Say whether the item was cancelled."""
        ...


class _Unheard:
    """For runs that nobody listens to: the shifts of hosted agents. What must not be lost is refused."""

    async def progress(self, item: Item, pct: float, note: str) -> None:
        """Drop it."""

    async def cost(self, item: Item, cost: Cost) -> None:
        """Refuse."""
        raise WorkerError("a shift has no work item to which a cost could be booked")

    async def escalate(self, item: Item, severity: str, summary: str, needs: str) -> None:
        """Refuse."""
        raise WorkerError("a shift has no work item that could be escalated")

    def cancelled(self, item: Item) -> bool:
        """Nobody cancels a shift."""
        return False


UNHEARD: Final[Reporter] = _Unheard()
_SHIFT: Final = Item("", "shift")


class Context(Struct, frozen=True):
    """What a run may know: who it is for, the time (Unix seconds), a seed that is the agent's own, its deadline."""

    agent: str
    subsidiary: str
    role: str
    seed: int
    now: float
    item: Item = _SHIFT
    deadline: datetime | None = None
    """When the item has lost its use; the run is stopped then. None for a shift."""
    reporter: Reporter = UNHEARD

    @property
    def cancelled(self) -> bool:
        """Whether the item was cancelled: a long run looks, and ends early."""
        return self.reporter.cancelled(self.item)

    @property
    def rng(self) -> random.Random:
        """Random numbers that are the same for the same agent and item, on every host and at every attempt."""
        return random.Random(f"{self.seed}/{self.item.id}")

    async def progress(self, pct: float, note: str = "") -> None:
        """Tell how far the item is, 0 to 100; sent at most once in five seconds."""
        await self.reporter.progress(self.item, pct, note)

    async def cost(self, cost: Cost) -> None:
        """Book a cost. Returns when it is stored; raises `WorkerError` or a fault of the bus when it is not."""
        await self.reporter.cost(self.item, cost)

    async def escalate(self, summary: str, *, needs: str = "", severity: str = "medium") -> None:
        """Ask above for a decision about the item. Returns when the question is stored; raises as `cost`."""
        await self.reporter.escalate(self.item, severity, summary, needs)


class Output(Struct, frozen=True):
    """What a run gives: how many items it finished, for a shift the agent's claim of its measures, for an item its
    result (any JSON value)."""

    done: int = 0
    kpis: dict[str, float] = {}
    okrs: dict[str, str | float] = {}
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
