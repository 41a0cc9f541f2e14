"""The control plane: orders, manifests, reports, settings, receipts."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from claytom_agent.messages.scalars import Aware, Count, Id, LeaseKey, Line, Name, Range, Sha256, Stream, Subject

Setting = str | bool | int | float


class Order(msgspec.Struct, frozen=True):
    """What a pause, resume, drain or retirement is about. All that is given must agree; nothing given means all.

    `divisions` are lease keys, `agents` full subjects. `generation` is the manifest that holds the order: the
    manifest is the truth, this message only makes it known sooner. `until` ends the order by itself. A drain
    names in `epochs` the tenures that are meant: a host that has taken a division since keeps it.
    """

    divisions: list[LeaseKey] = []
    roles: list[str] = []
    agents: list[Subject] = []
    host: str | None = None
    reason: Line = ""
    id: Id | UnsetType = UNSET
    actor: Name = ""
    until: Aware | UnsetType = UNSET
    generation: Count = 0
    epochs: dict[LeaseKey, Count] = {}


class Replace(msgspec.Struct, frozen=True):
    """A seat of a division has a new agent; the manifest says the same."""

    division: LeaseKey
    generation: Count
    seat: Name = ""
    old: Subject | UnsetType = UNSET
    new: Subject | UnsetType = UNSET
    reason: Line = ""
    deadline: Aware | UnsetType = UNSET


class ManifestSync(msgspec.Struct, frozen=True):
    """A division's manifest changed: read it from the bucket `CT_SEATS`."""

    division: LeaseKey
    generation: Count
    sha256: Sha256 | UnsetType = UNSET


class ReportRequest(msgspec.Struct, frozen=True):
    """Send full presence within two seconds; an empty list means every division of the subsidiary."""

    divisions: list[LeaseKey] = []


class HostConfig(msgspec.Struct, frozen=True):
    """Settings for hosts; a lower version than the one in force changes nothing.

    Faults are for hosts started with `--chaos` only; others ignore them. `fail` makes agents crash; `silence_s`
    keeps presence back for so many seconds, of the divisions in `silence` (empty: of all of the subsidiary);
    `corrupt` lists the blueprint versions (`operator/3`) whose agents crash from their start on, from now until the
    next list: those that run already are left alone.
    """

    fail: list[str] = []
    silence_s: Annotated[float, Meta(ge=0, le=3600)] = 0
    silence: list[LeaseKey] = []
    corrupt: list[str] | UnsetType = UNSET
    version: Count = 0
    settings: Annotated[dict[str, Setting], Meta(max_length=50)] = {}


class IngestReceipt(msgspec.Struct, frozen=True):
    """The database has these messages: the sender may forget them.

    All numbers up to `through`, and those in `ranges` above it.
    """

    division: LeaseKey
    epoch: Count
    stream: Stream
    through: Count
    ranges: list[Range] = []


class IngestResend(msgspec.Struct, frozen=True):
    """These numbers never came: publish them again with the same ids."""

    division: LeaseKey
    epoch: Count
    stream: Stream
    ranges: Annotated[list[Range], Meta(min_length=1, max_length=1000)]
