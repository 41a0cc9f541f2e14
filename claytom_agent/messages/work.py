"""Work items, what becomes of them, and what they cost."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from claytom_agent.messages.scalars import (
    Aware,
    Count,
    Currency,
    Id,
    Line,
    Micros,
    Name,
    Percent,
    Ref,
    Subject,
    Word,
    WorkId,
)

WorkState = Literal["queued", "working", "input_required", "completed", "failed", "rejected", "canceled", "expired"]
FinalState = Literal["completed", "failed", "rejected", "canceled", "input_required"]


class AttemptPolicy(msgspec.Struct, frozen=True):
    """How often an item may be tried, and how long to wait between two tries (seconds)."""

    max_attempts: Annotated[int, Meta(ge=1, le=100)] = 5
    backoff_s: Annotated[float, Meta(ge=0)] = 15.0


class WorkItem(msgspec.Struct, frozen=True):
    """An item of work. It may reach an agent twice, so what is done outside must be keyed by its id.

    The input is in `input`, or in the object store by `input_ref`. `priority` is 0 (last) to 9 (first);
    `start_to_close_s` how long one try may take; `context_id` ties items of one matter together; `parent`
    names the item that this one corrects.
    """

    id: WorkId
    kind: Word
    deadline: Aware
    input: Any = None
    input_ref: Ref | UnsetType = UNSET
    priority: Annotated[int, Meta(ge=0, le=9)] = 5
    start_to_close_s: Annotated[float, Meta(gt=0)] | UnsetType = UNSET
    context_id: Id | UnsetType = UNSET
    attempt_policy: AttemptPolicy | UnsetType = UNSET
    parent: WorkId | UnsetType = UNSET


class WorkCancel(msgspec.Struct, frozen=True):
    """Please stop this item; what is done already may still be sent as its result."""

    id: WorkId
    reason: Line = ""


class WorkProgress(msgspec.Struct, frozen=True):
    """How far an item is; at most one message in five seconds."""

    ts: Aware
    work_id: WorkId
    agent: Subject
    state: WorkState
    pct: Percent | UnsetType = UNSET
    note: Line = ""


class WorkError(msgspec.Struct, frozen=True):
    """Why an item failed: a word for programs, a sentence for people."""

    code: Word
    message: Line = ""


class WorkResult(msgspec.Struct, frozen=True):
    """What came of an item. The first result of an item counts, later ones change nothing.

    The output is in `output`, or in the object store by `output_ref`; times are milliseconds.
    """

    ts: Aware
    work_id: WorkId
    agent: Subject
    status: FinalState
    output: Any = None
    output_ref: Ref | UnsetType = UNSET
    attempt: Annotated[int, Meta(ge=1)] = 1
    cpu_ms: Count = 0
    wall_ms: Count = 0
    error: WorkError | UnsetType = UNSET


class UsageCost(msgspec.Struct, frozen=True):
    """What one call cost. A call that was repeated costs twice and is told twice, each under its own id.

    `cost_micros` is in millionths of `currency`; `provider` may be `cpu` for own computing.
    """

    ts: Aware
    agent: Subject
    call: Id
    provider: Name
    cost_micros: Micros
    currency: Currency
    model: Name = ""
    input_tokens: Count = 0
    cached_input_tokens: Count = 0
    output_tokens: Count = 0
    cpu_ms: Count = 0
    work_id: WorkId | UnsetType = UNSET
