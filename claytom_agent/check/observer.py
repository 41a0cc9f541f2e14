"""What a check sees of an agent, by a credential of its own: everything that it publishes, with the time."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg

from claytom_agent.client import Bus, Headers, event_headers, iso
from claytom_agent.identity import Identity
from claytom_agent.messages import ce_type
from claytom_agent.subjects import ROOT

SOURCE: Final = "host/check"
STREAM: Final = "CT_WORK"


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """How long to look (seconds). The intervals are those that the agent was told by its welcome."""

    kpi_s: float = 60.0
    presence_s: float = 5.0
    work_s: float = 30.0
    inbox_prefix: str = "_INBOX_host"


class CheckBus(Bus):
    """A connection that remembers what the server refused it."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self.complaints: list[str] = []

    def complain(self, text: str) -> None:
        """Keep the complaint: a check says in its lines what its own credential may not do."""
        self.complaints.append(text)


@dataclass(frozen=True, slots=True)
class Seen:
    """A message as it passed, and when (monotonic seconds)."""

    at: float
    number: int
    """In the order of arrival, which is the order in which one agent sent."""
    subject: str
    headers: Headers
    data: bytes
    reply: str

    @property
    def source(self) -> str:
        """Who says to have sent it."""
        return self.headers.get("ce-source", "")

    @property
    def kind(self) -> str:
        """Its type."""
        return self.headers.get("ce-type", "")

    @property
    def epoch(self) -> int | None:
        """The epoch that it carries; None if it carries none."""
        text = self.headers.get("Claytom-Epoch", "")
        return int(text) if text.isdigit() else None

    def body(self) -> dict[str, Any]:
        """Its body as an object; empty if it is none."""
        try:
            return msgspec.json.decode(self.data, type=dict[str, Any])
        except msgspec.DecodeError:
            return {}


@dataclass(slots=True)
class Observer:
    """Listens to the agent's subsidiary and keeps what concerns the agent."""

    bus: CheckBus
    identity: Identity
    options: CheckOptions
    began: float = field(default_factory=time.monotonic)
    kpis: list[Seen] = field(default_factory=list)
    presences: list[Seen] = field(default_factory=list)
    hellos: list[Seen] = field(default_factory=list)
    results: list[Seen] = field(default_factory=list)
    told: list[Seen] = field(default_factory=list)
    """Costs, escalations and progress."""
    acks: list[Seen] = field(default_factory=list)
    sees_acks: bool = False
    _number: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def begin(self) -> None:
        """Subscribe; afterwards `sees_acks` says whether acknowledgements can be seen."""
        unit, role = self.identity.unit, self.identity.role
        await self.bus.subscribe(f"{ROOT}.{unit}.metrics.*", self._on_metrics)
        await self.bus.subscribe(f"{ROOT}.{unit}.command.hello", self._on_hello)
        await self.bus.flush()
        before = len(self.bus.complaints)
        await self.bus.subscribe(f"$JS.ACK.{STREAM}.{unit}-{role}.>", self._on_ack)
        await self.bus.flush()
        await asyncio.sleep(0.05)
        self.sees_acks = not any("$js.ack" in text.lower() for text in self.bus.complaints[before:])

    def _seen(self, message: Msg) -> Seen:
        self._number += 1
        self._news.set()
        headers = message.headers or {}
        return Seen(time.monotonic(), self._number, message.subject, headers, message.data, message.reply)

    async def _on_metrics(self, message: Msg) -> None:
        seen, identity = self._seen(message), self.identity
        kind = message.subject.rpartition(".")[2]
        if kind == "kpi":
            name = f"kpi-{identity.unit}-{identity.id}-"
            if seen.source == identity.subject or seen.headers.get("Nats-Msg-Id", "").startswith(name):
                self.kpis.append(seen)
        elif kind == "presence":
            body = seen.body()
            listed = any(isinstance(one, list) and one and one[0] == identity.id for one in body.get("agents", []))
            if seen.source == identity.subject or body.get("division") == identity.lease or listed:
                self.presences.append(seen)
        elif kind == "result":
            self.results.append(seen)
        elif seen.source == identity.subject:
            self.told.append(seen)

    async def _on_hello(self, message: Msg) -> None:
        seen = self._seen(message)
        card = seen.body().get("agent")
        if seen.source == self.identity.subject or (isinstance(card, dict) and card.get("id") == self.identity.id):
            self.hellos.append(seen)

    async def _on_ack(self, message: Msg) -> None:
        self.acks.append(self._seen(message))

    async def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until the condition holds, looking at every message; False when it does not in so many seconds."""
        end = time.monotonic() + seconds
        while not condition():
            self._news.clear()
            left = end - time.monotonic()
            if left <= 0:
                return False
            try:
                await asyncio.wait_for(self._news.wait(), min(left, 0.5))
            except TimeoutError:
                continue
        return True

    def headers(self, name: str, id: str, *, dedup: bool = False) -> dict[str, str]:
        """Build the headers of a message of the check."""
        return event_headers(ce_type=ce_type(name), source=SOURCE, id=id, time=iso(), dedup=dedup)

    def results_of(self, work_id: str) -> list[Seen]:
        """Return the results of an item, whoever sent them."""
        return [seen for seen in self.results if seen.body().get("work_id") == work_id]

    def acks_of(self, seq: int) -> list[Seen]:
        """Return the acknowledgements of the queue's message `seq` that end it or give it back."""
        return [seen for seen in self.acks if _sequence(seen.subject) == seq and not seen.data.startswith(b"+WPI")]


def _sequence(subject: str) -> int:
    """Read the stream's sequence from the subject of an acknowledgement."""
    tokens = subject.split(".")
    place = 5 if len(tokens) == 9 else 7
    return int(tokens[place]) if len(tokens) > place and tokens[place].isdigit() else 0
