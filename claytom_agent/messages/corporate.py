"""Up and down the holding: escalations, broadcasts, directives, the council, the quarantine's news."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from claytom_agent.messages.scalars import Aware, Count, Id, Line, Name, Sha256, Slug, Subject, Text, WorkId

Level = Literal["L1", "L2", "L3", "L4"]
Severity = Literal["low", "medium", "high", "critical"]


class EscalationRaise(msgspec.Struct, frozen=True):
    """An agent needs its superior.

    `level` is the tier that is asked now (after L4 the holding itself); `chain` lists who was asked before.
    """

    ts: Aware
    id: Id
    agent: Subject
    level: Level
    severity: Severity
    summary: Line
    needs: Line = ""
    chain: Annotated[list[Subject], Meta(max_length=10)] = []
    work_id: WorkId | UnsetType = UNSET


class EscalationResolve(msgspec.Struct, frozen=True):
    """The decision about an escalation, and new input for the work if it needed that."""

    id: Id
    decision: Line
    actor: Name = ""
    input: Any = None


class Broadcast(msgspec.Struct, frozen=True):
    """An announcement to everybody; hosts list its id in `seen` of their presence when `ack_required`."""

    id: Id
    title: Name
    text: Text
    effective_at: Aware
    ack_required: bool = False


class KeyResultChange(msgspec.Struct, frozen=True):
    """A new target of an objective's key result."""

    objective: str
    key_result: str
    target: float


class Directive(msgspec.Struct, frozen=True):
    """What a body of the parent company orders a subsidiary, by which resolution; `signature` is over the rest."""

    id: Id
    body: Slug
    resolution: Id
    text: Text
    effective_at: Aware
    okr_changes: Annotated[list[KeyResultChange], Meta(max_length=100)] = []
    signature: str = ""


class CouncilMotion(msgspec.Struct, frozen=True):
    """A motion before the executive council, open until `closes_at`."""

    id: Id
    title: Name
    text: Text
    options: Annotated[list[Name], Meta(min_length=2, max_length=20)]
    closes_at: Aware


class CouncilVote(msgspec.Struct, frozen=True):
    """The vote of a council seat; the last one before the motion closes counts."""

    motion: Id
    seat: Annotated[str, Meta(pattern=r"^c-[0-9]{3}\Z")]
    agent: Subject
    choice: Name
    reason: Line = ""


class Quarantined(msgspec.Struct, frozen=True):
    """A message was refused: its subject, headers, SHA-256 and size, the first bytes of its body (base64).

    `stage` is the check that it failed; `reason` says where and why.
    """

    subject: str
    headers: dict[str, str]
    sha256: Sha256
    size: Count
    body: str
    stage: str
    reason: str


class Brief(msgspec.Struct, frozen=True):
    """What a body of the parent company says of itself, once a day."""

    ts: Aware
    id: Id
    body: Slug
    seat: Slug
    duty: str
    seats: Count
    counts: dict[str, int]
    duties: dict[str, str]
