"""Who a single agent is, and the head of every message that it sends."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Self

from claytom_agent.client import Outgoing, event_headers, iso
from claytom_agent.messages import State, ce_type
from claytom_agent.subjects import AgentAddress, SubjectError, parse_address


@dataclass(slots=True)
class Identity:
    """The address of an agent with a connection of its own, and the epoch under which it speaks now."""

    subject: str
    unit: str
    role: str
    id: str
    epoch: int = 0
    """0 until the portal has granted one."""

    @classmethod
    def of(cls, subject: str) -> Self:
        """Read the address of an agent of a subsidiary; raise `SubjectError` for any other subject."""
        address = parse_address(subject)
        if not isinstance(address, AgentAddress):
            raise SubjectError(
                f"{subject!r} is a seat of the parent company; only seats of subsidiaries are given out"
            )
        return cls(subject, address.subsidiary, address.role, str(address.id))

    @property
    def lease(self) -> str:
        """The key under which the portal grants the epoch; the `division` of the agent's presence."""
        return f"{self.unit}.a-{self.id}"

    @property
    def host(self) -> str:
        """What stands for a host in presence and pong: an agent with its own connection is its own host."""
        return f"a-{self.id}"

    @property
    def seed(self) -> int:
        """A number that is the agent's own."""
        return int.from_bytes(blake2b(self.subject.encode(), digest_size=8).digest())

    def headers(self, name: str, id: str, *, dedup: bool = True) -> dict[str, str]:
        """Build the headers of a message of the registry."""
        return event_headers(
            ce_type=ce_type(name),
            source=self.subject,
            id=id,
            time=iso(),
            epoch=self.epoch,
            dedup=dedup,
        )

    def message(self, name: str, subject: str, id: str, body: bytes, *, dedup: bool = True) -> Outgoing:
        """Build a message of the registry."""
        return Outgoing(subject, body, self.headers(name, id, dedup=dedup))


@dataclass(slots=True)
class Condition:
    """What an agent is doing and shall do."""

    state: State = "starting"
    paused: bool = False
    draining: bool = False
    done: int = 0
    """Items finished since the process began."""
    completed: int = 0
    """Of these, the ones that were completed rather than failed, rejected or cancelled."""
    in_time: int = 0
    """Of these, the ones that were finished before their deadline."""
    running: int = 0
    """Items at work now."""

    def settle(self) -> None:
        """Bring the state to what the agent is doing."""
        if self.state == "retired":
            return
        if self.draining:
            self.state = "draining"
        elif self.paused:
            self.state = "paused"
        else:
            self.state = "busy" if self.running else "idle"
