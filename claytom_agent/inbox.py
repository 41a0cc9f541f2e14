"""The directed messages of a division's agents: each is taken once, and answered the same when it comes again.

What was decided about a message is kept until a minute after its deadline: the portal asks again until it has an
answer, and a message that comes with the welcome may come by itself as well. A division that moves to another host
begins with an empty memory; across that, receivers are idempotent by the message's own keys (protocol, 8).
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import msgspec

from claytom_agent.agents import LIVE_STATES, Agent
from claytom_agent.messages import (
    Answer,
    EscalationRaise,
    EscalationResolve,
    OpenMessage,
    WorkCancel,
    WorkItem,
    ce_type,
    decode,
    encode,
)

log = logging.getLogger("claytom_agent.inbox")

MOST: Final = 10_000
"""Messages remembered for a division; beyond that new ones are asked to come later."""
AFTER_S: Final = 60.0
WITHOUT_DEADLINE_S: Final = 600.0
_REFUSED: Final = {
    ce_type("training.enrol"): "the agents of this host are not trained by message",
    ce_type("training.exam"): "the agents of this host sit no exams",
    ce_type("mentoring.session"): "the agents of this host hold no mentoring sessions",
}


@dataclass(frozen=True, slots=True)
class Actions:
    """What a division does with a message once it is understood; each returns the answer."""

    offer: Callable[[Agent, WorkItem], Answer]
    cancel: Callable[[Agent, WorkCancel], Answer]
    resolve: Callable[[Agent, EscalationResolve], Answer]


@dataclass(slots=True)
class Inbox:
    """Takes directed messages for the agents under one epoch."""

    epoch: int
    actions: Actions
    _decided: dict[str, tuple[bytes, float]] = field(default_factory=dict)

    def knows(self, kind: str) -> bool:
        """Whether this type of message is taken here."""
        return kind in _REFUSED or kind in _TAKEN

    def take(self, agent: Agent, kind: str, data: bytes, headers: Mapping[str, str]) -> bytes:
        """Answer a message that came to the agent's address."""
        id = headers.get("ce-id") or headers.get("Nats-Msg-Id", "")
        epoch = headers.get("Claytom-Epoch", "")
        deadline = _moment(headers.get("Claytom-Deadline", ""))
        return self._answer(agent, kind, id, data, int(epoch) if epoch.isdigit() else None, deadline)

    def told_again(self, agent: Agent, message: OpenMessage) -> None:
        """Take a message that came with the welcome; the portal asks for the answer by itself."""
        if self.knows(message.type):
            epoch = None if message.epoch is msgspec.UNSET else message.epoch
            self._answer(agent, message.type, message.id, encode(message.body), epoch, message.deadline)

    def _answer(
        self, agent: Agent, kind: str, id: str, data: bytes, epoch: int | None, deadline: datetime | None
    ) -> bytes:
        now = time.time()
        known = self._decided.get(f"{agent.id} {id}")
        if known is not None:
            return known[0]
        answer = self._decide(agent, kind, id, data, epoch, deadline)
        encoded = encode(answer)
        if id and kind != RAISE and not answer.retry_after_s:
            until = deadline.timestamp() + AFTER_S if deadline else now + WITHOUT_DEADLINE_S
            self._decided[f"{agent.id} {id}"] = (encoded, until)
        return encoded

    def _decide(  # noqa: PLR0911 - each refusal has its own word
        self, agent: Agent, kind: str, id: str, data: bytes, epoch: int | None, deadline: datetime | None
    ) -> Answer:
        if deadline is not None and deadline <= datetime.now(UTC):
            return Answer("rejected", "expired", "its deadline is over")
        if kind in _REFUSED:
            return Answer("rejected", "skill", _REFUSED[kind])
        if kind != RAISE and not id:
            return Answer("rejected", "no-id", "without the header ce-id a repetition cannot be told")
        if kind != RAISE and epoch not in (None, self.epoch):
            return Answer("rejected", "stale", f"the agent runs under epoch {self.epoch}")
        if len(self._decided) >= MOST and not self._forget():
            return Answer("rejected", "busy", "too many messages at once", 5.0)
        try:
            return _TAKEN[kind](self, agent, data)
        except msgspec.DecodeError as error:
            return Answer("rejected", "schema", str(error)[:500])

    def _forget(self) -> bool:
        now = time.time()
        for key in [key for key, (_, until) in self._decided.items() if until < now]:
            del self._decided[key]
        return len(self._decided) < MOST

    def _offer(self, agent: Agent, data: bytes) -> Answer:
        return self.actions.offer(agent, decode(WorkItem, data))

    def _cancel(self, agent: Agent, data: bytes) -> Answer:
        return self.actions.cancel(agent, decode(WorkCancel, data))

    def _resolve(self, agent: Agent, data: bytes) -> Answer:
        return self.actions.resolve(agent, decode(EscalationResolve, data))

    def _raise(self, agent: Agent, data: bytes) -> Answer:
        """A superior takes what its reports ask for, if it is there to see to it."""
        decode(EscalationRaise, data)
        if agent.desired != "run" or agent.state not in LIVE_STATES or agent.state == "paused":
            return Answer("rejected", "unavailable", f"{agent.id} is {agent.state}")
        return Answer("taken")


RAISE: Final = ce_type("escalation.raise")
_TAKEN: Final[Mapping[str, Callable[[Inbox, Agent, bytes], Answer]]] = {
    ce_type("work.offer"): Inbox._offer,
    ce_type("work.cancel"): Inbox._cancel,
    ce_type("escalation.resolve"): Inbox._resolve,
    RAISE: Inbox._raise,
}


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else None
