"""Training, its exams, and mentoring."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from claytom_agent.messages.scalars import Aware, Id, Line, Percent, Ref, Sha256, Slug, Subject, Text

Domain = Literal["cognitive", "innovation", "quality", "security"]
"""The four mentoring domains."""


class TrainingEnrol(msgspec.Struct, frozen=True):
    """An agent is to learn a module: which artefact, from whom, until when."""

    session: Id
    module: Slug
    artefact: Ref
    trainer: Subject
    due: Aware


class TrainingExam(msgspec.Struct, frozen=True):
    """The exam of a session: unseen items, and the mark (percent) that passes."""

    session: Id
    module: Slug
    items: Annotated[list[Any], Meta(min_length=1, max_length=100)]
    pass_mark: Percent
    due: Aware


class TrainingResult(msgspec.Struct, frozen=True):
    """How a session went, as the agent claims it; the portal marks the answers again."""

    ts: Aware
    session: Id
    agent: Subject
    module: Slug
    started: Aware
    ended: Aware
    score_claimed: Percent
    artefact_sha256: Sha256
    answers: Annotated[list[Any], Meta(max_length=100)] = []


class MentoringSession(msgspec.Struct, frozen=True):
    """One turn of a mentoring session; the portal carries it between two subsidiaries, to each side in turn."""

    session: Id
    turn: Annotated[int, Meta(ge=1)]
    domain: Domain
    mentor: Subject
    mentee: Subject
    agenda: Line
    question: Text = ""


class MentoringReply(msgspec.Struct, frozen=True):
    """What the side that was asked says in this turn."""

    status: Literal["accepted", "rejected"]
    text: Text = ""
    code: str = ""


class MentoringRecord(msgspec.Struct, frozen=True):
    """What came of a session: minutes spent, what was agreed, and how the mentee rates it (1 to 5)."""

    ts: Aware
    session: Id
    domain: Domain
    mentor: Subject
    mentee: Subject
    minutes: Annotated[float, Meta(ge=0, le=1440)]
    actions: Annotated[list[Line], Meta(max_length=50)] = []
    rating: Annotated[int, Meta(ge=1, le=5)] | UnsetType = UNSET
