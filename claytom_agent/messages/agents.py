"""What agents and hosts say of themselves, and what they are answered."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from claytom_agent.messages.scalars import (
    Aware,
    Count,
    Id,
    Line,
    Micros,
    Name,
    Positive,
    Slug,
    State,
    Subject,
    Word,
)
from claytom_agent.subjects import AGENT_ID_PATTERN


class Shard(msgspec.Struct, frozen=True):
    """Which division a host speaks for (its lease key), and how many agents it has."""

    division: str
    agents: Count


class AgentCard(msgspec.Struct, frozen=True):
    """Who a single agent is: the last token of its address, its role, and what it calls itself."""

    id: Annotated[str, Meta(pattern=rf"^{AGENT_ID_PATTERN}\Z")]
    role: Slug
    name: Name = ""
    version: Name = ""


class WorkerCard(msgspec.Struct, frozen=True):
    """What does the work: a kind (`sim`, `callable`, `openai`, `process` or another), its language, its SDK."""

    kind: Word
    lang: Name = ""
    sdk: Name = ""


class Resume(msgspec.Struct, frozen=True):
    """What an agent remembers of an earlier run: the last epoch that it was given."""

    last_epoch: Count = 0


class Hello(msgspec.Struct, frozen=True):
    """A host took a division, or a single agent came, and asks for its terms.

    A host gives `shard`, `host` and the `epoch` of its lease. A single agent gives `agent` and no epoch:
    the answer grants it one.
    """

    protocol: str
    shard: Shard | UnsetType = UNSET
    host: Name = ""
    epoch: Count = 0
    resume: Resume = Resume()
    agent: AgentCard | UnsetType = UNSET
    skills: Annotated[list[Word], Meta(max_length=100)] = []
    worker: WorkerCard | UnsetType = UNSET
    capacity: Annotated[int, Meta(ge=1, le=10_000)] = 1

    def __post_init__(self) -> None:
        if (self.shard is UNSET) is (self.agent is UNSET):
            raise ValueError("Expected exactly one of `shard` and `agent`")


class Budget(msgspec.Struct, frozen=True):
    """What may be spent a day: money in millionths of the currency, tokens, runs. What is not said is unlimited."""

    cost_micros: Micros | UnsetType = UNSET
    currency: str = "EUR"
    tokens: Count | UnsetType = UNSET
    runs: Count | UnsetType = UNSET


class OpenMessage(msgspec.Struct, frozen=True):
    """A directed message that is still open: sent again with the welcome, to be answered as if it came alone."""

    id: Id
    type: str
    address: Subject
    deadline: Aware
    body: dict[str, Any]


class Welcome(msgspec.Struct, frozen=True):
    """The terms: the epoch to speak under, how often to report (seconds), the budget, and the open messages.

    `manifest_generation` is what a host's division should run at least; `blueprint_rev` the version of the
    recipe that a single agent holds.
    """

    epoch: Count
    manifest_generation: Count = 0
    kpi_interval_s: Annotated[float, Meta(ge=1)] | UnsetType = UNSET
    presence_interval_s: Annotated[float, Meta(gt=0)] | UnsetType = UNSET
    seat: str = ""
    blueprint_rev: Count = 0
    budget: Budget | UnsetType = UNSET
    open: list[OpenMessage] = []


class Refused(msgspec.Struct, frozen=True):
    """A request that the portal refuses: a word for programs, a sentence for people, and when to ask again (s)."""

    code: str
    retry_after_s: Positive = 5.0
    reason: str = ""


class Goodbye(msgspec.Struct, frozen=True):
    """A host gives a division back, or a single agent leaves."""

    shard: Shard | UnsetType = UNSET
    host: Name = ""
    epoch: Count = 0
    reason: Line = ""
    agent: Subject | UnsetType = UNSET

    def __post_init__(self) -> None:
        if (self.shard is UNSET) is (self.agent is UNSET):
            raise ValueError("Expected exactly one of `shard` and `agent`")


class Done(msgspec.Struct, frozen=True):
    """The portal took note."""

    ok: bool = True


class Answer(msgspec.Struct, frozen=True):
    """How an agent answers a directed message.

    `code` says why it is rejected: `busy`, `skill`, `budget`, `stale` (another epoch), `expired`, `unknown-type`,
    `no-such-agent`, or a word of its own; `reason` says it for people.
    """

    status: Literal["accepted", "rejected", "taken"]
    code: str = ""
    reason: Line = ""
    retry_after_s: Positive = 0.0


class RefusedManifest(msgspec.Struct, frozen=True):
    """A manifest that a host cannot run: its generation (0: not even that can be read), and why."""

    generation: Count
    reason: Line


class Presence(msgspec.Struct, frozen=True):
    """The states of one division's agents: all of them if `full`, else those that changed.

    An entry of `agents` is (id, state, items done, milliseconds since the agent's run loop last moved).
    `division` is the lease key; `observed_generation` the manifest that is run; `sent` the highest
    `Claytom-Seq` number of this epoch by stream; `seen` the broadcasts that were acknowledged; `refused` is there
    while the host cannot run what the newest manifest says.
    """

    ts: Aware
    subsidiary: str
    host: str
    division: str
    epoch: Count
    observed_generation: Count
    total: Count
    counts: dict[str, int]
    full: bool
    agents: list[tuple[str, State, int, int]]
    degraded: bool = False
    sent: dict[str, Count] = {}
    seen: list[Id] = []
    refused: RefusedManifest | UnsetType = UNSET


class AgentState(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """An agent came into or out of `failed`, `stuck` or `restarting`."""

    ts: Aware
    agent: str
    from_: State
    to: State
    reason: Line
    restarts: Count


class Ping(msgspec.Struct, frozen=True):
    """Are you there? No content."""


class Pong(msgspec.Struct, frozen=True):
    """Yes: who answers, in which state, under which epoch, on which host."""

    agent: str
    state: State
    epoch: Count
    host: str


class DutyAnswer(msgspec.Struct, frozen=True):
    """What a corporate seat is for."""

    seat: str
    duty: str
    body: str
    generation: int
