"""One agent as its host holds it, and the rules by which a failing one is restarted or given up."""

import random
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from claytom_agent.manifest import SeatGroup
from claytom_agent.messages import Desired, State
from claytom_agent.subjects import CORPORATE, ROOT
from claytom_agent.workers.base import Worker


@dataclass(frozen=True, slots=True)
class AgentGroup:
    """What the agents of one seat group share."""

    unit: str
    role: str
    code: str
    worker: Worker


class Agent:
    """An incumbent of a seat in one generation. Plain slots: 52,500 of them live in one process."""

    __slots__ = (
        "broken",
        "crashes",
        "desired",
        "done",
        "duty",
        "generation",
        "group",
        "key",
        "ran",
        "restarts",
        "seed",
        "state",
        "subject",
        "tick",
    )

    def __init__(self, key: int | str, group: AgentGroup, generation: int, desired: Desired, duty: str) -> None:
        self.key = key
        self.group = group
        self.generation = generation
        self.desired = desired
        self.duty = duty
        self.subject = _subject(key, group, generation)
        """The address, which is the identity over the whole holding."""
        self.state: State = "starting"
        self.tick = 0.0
        """When the agent's own run last moved (monotonic seconds)."""
        self.done = 0
        self.ran = False
        """Whether a run of this agent has ever succeeded."""
        self.restarts = 0
        self.crashes: list[float] | None = None
        self.broken = False
        """Told to fail at every run (fault injection)."""
        self.seed = int.from_bytes(blake2b(self.subject.encode(), digest_size=8).digest())

    @property
    def id(self) -> str:
        """As in presence lists: `op-0042-g3`, or `ceo-g1` for a corporate seat."""
        name = self.subject.rpartition(".")[2]
        return f"{name}-g{self.generation}" if isinstance(self.key, str) else name

    @property
    def header_generation(self) -> int | None:
        """The generation for the header `Claytom-Generation`; the id of other agents tells it itself."""
        return self.generation if isinstance(self.key, str) else None


def _subject(key: int | str, group: AgentGroup, generation: int) -> str:
    if isinstance(key, str):
        return f"{ROOT}.{CORPORATE}.{group.role}.{key}"
    return f"{ROOT}.{group.unit}.{group.role}.{group.code}-{key:04d}-g{generation}"


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Restarts back off with full jitter; too many in a while and the agent is left to ARP (seconds)."""

    base: float = 0.2
    ceiling: float = 30.0
    intensity: int = 3
    window: float = 60.0
    degraded_share: float = 0.2
    degraded_window: float = 300.0

    def delay(self, attempt: int) -> float:
        """A random wait before restart number `attempt` (from 1)."""
        return random.uniform(0.0, min(self.ceiling, self.base * 2 ** min(attempt - 1, 20)))

    def crashed(self, agent: Agent, now: float) -> bool:
        """Note a crash; say whether the agent may be restarted."""
        agent.crashes = [at for at in agent.crashes or () if now - at < self.window]
        agent.crashes.append(now)
        return len(agent.crashes) < self.intensity


LIVE_STATES: Final = frozenset({"idle", "busy", "paused"})


def make_group(unit: str, seats: SeatGroup, worker: Worker) -> AgentGroup:
    """Make the shared part of a seat group's agents."""
    return AgentGroup(unit, seats.role, seats.code, worker)
