"""The message types of `claytom/1`: one registry of typed structs, and what a schema cannot check.

Bodies are decoded and type-checked by one msgspec call. KPI samples are strict, because they are the brief's
standard JSON and a misspelt measure would be lost silently; in all other bodies unknown fields are ignored,
so that a newer sender can talk to an older receiver.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from claytom_agent.subjects import CODE_ROLES, CORPORATE, ROLE_CODES, SLUG_PATTERN, is_slug

PROTOCOL: Final = "claytom/1"
MAX_BODY_BYTES: Final = 256 * 1024
MAX_KPI_BYTES: Final = 16 * 1024
KPI_MAX_AGE: Final = timedelta(hours=24)
KPI_MAX_AHEAD: Final = timedelta(minutes=2)

Slug = Annotated[str, Meta(pattern=rf"^{SLUG_PATTERN}\Z")]
Aware = Annotated[datetime, Meta(tz=True)]
Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[float, Meta(ge=0)]
Percent = Annotated[float, Meta(ge=0, le=100)]
OkrKey = Annotated[str, Meta(pattern=r"^(O[1-9][0-9]?|(O[1-9][0-9]?\.)?KR[1-9][0-9]?)\Z")]
OkrText = Annotated[str, Meta(max_length=200)]
State = Literal["starting", "idle", "busy", "paused", "stuck", "restarting", "failed", "draining", "retired"]
Desired = Literal["run", "paused", "retired"]


class Kpis(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The five measures of the brief. Units: items a day, 0-100, percent, landings a month, hours a week."""

    throughput_per_day: Positive
    quality_score: Percent
    sla_met_pct: Percent
    innovation_landings_mo: Positive
    training_hours_w: Annotated[float, Meta(ge=0, le=168)]


class KpiSample(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`kpi.sample`: the brief's standard JSON, unchanged. It is a claim of the agent, not a measurement."""

    ts: Aware
    subsidiary: Slug
    role: Slug
    kpis: Kpis
    okrs: dict[OkrKey, OkrText | float]


class RefusedManifest(msgspec.Struct, frozen=True):
    """A manifest that a host cannot run: its generation (0: not even that can be read), and why."""

    generation: Count
    reason: Annotated[str, Meta(max_length=300)]


class Presence(msgspec.Struct, frozen=True):
    """`host.presence`: the states of one division's agents; all of them if `full`, else the changed ones.

    An entry of `agents` is (id, state, items done, milliseconds since the agent's run loop last moved).
    `refused` is there while the host cannot do what the newest manifest says.
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
    refused: RefusedManifest | None = None


class AgentState(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """`agent.state`: a transition into or out of failed, stuck or restarting."""

    ts: Aware
    agent: str
    from_: State
    to: State
    reason: Annotated[str, Meta(max_length=500)]
    restarts: Count


class Shard(msgspec.Struct, frozen=True):
    """Which division a host speaks for, and how many agents it has."""

    division: str
    agents: Count


class Hello(msgspec.Struct, frozen=True):
    """`agent.hello`: a host took a division and asks for its terms."""

    protocol: str
    shard: Shard
    host: str
    epoch: Count
    resume: dict[str, Any] = {}


class Welcome(msgspec.Struct, frozen=True):
    """The portal's answer to `agent.hello`: the terms."""

    epoch: Count
    manifest_generation: Count
    kpi_interval_s: Annotated[float, Meta(ge=1)] | UnsetType = UNSET
    presence_interval_s: Annotated[float, Meta(gt=0)] | UnsetType = UNSET


class Refused(msgspec.Struct, frozen=True):
    """The portal's refusal of `agent.hello`: why, and when to ask again (seconds)."""

    code: str
    retry_after_s: Positive = 5.0


class Goodbye(msgspec.Struct, frozen=True):
    """`agent.goodbye`: a host gives a division back."""

    shard: Shard
    host: str
    epoch: Count
    reason: str


class Ping(msgspec.Struct, frozen=True):
    """`agent.ping`: no content."""


class Pong(msgspec.Struct, frozen=True):
    """The answer to `agent.ping`."""

    agent: str
    state: State
    epoch: Count
    host: str


class DutyAnswer(msgspec.Struct, frozen=True):
    """The answer of a corporate seat to `duty.ask`."""

    seat: str
    duty: str
    body: str
    generation: int


class ManifestSync(msgspec.Struct, frozen=True):
    """`manifest.sync`: a hint that a division's manifest changed."""

    division: str
    generation: Count


class Replace(msgspec.Struct, frozen=True):
    """`arp.replace`: a hint that a seat of a division got a new generation."""

    division: str
    generation: Count


class ReportRequest(msgspec.Struct, frozen=True):
    """`report.request`: ask for full presence; an empty list means every division of the subsidiary."""

    divisions: list[str] = []


class Scope(msgspec.Struct, frozen=True):
    """What a pause, resume, drain or retirement is about. All that is given must agree; `agents` are full subjects.

    To many it is a hint: what shall be is in the manifests. To one agent, at its address, `generation` is that of
    the manifest which will say the same. A drain names the `epochs` that are meant: a host with a later one stays.
    """

    divisions: list[str] = []
    roles: list[str] = []
    agents: list[str] = []
    host: str | None = None
    reason: str = ""
    command: Count = 0
    generation: Count = 0
    epochs: dict[str, Count] = {}
    actor: str = ""


class Obeyed(msgspec.Struct, frozen=True):
    """The answer of an agent that does as it was told at its address: its state, and the manifest it goes by."""

    accepted: bool
    state: State
    generation: Count


class HostConfig(msgspec.Struct, frozen=True):
    """`host.config`: the manifests have new settings; `fail` makes agents crash, on hosts with `--chaos` only."""

    fail: list[str] = []
    version: int = 0
    divisions: list[str] = []


class Brief(msgspec.Struct, frozen=True):
    """`corporate.brief`: what a body of the parent company says of itself, once a day."""

    ts: Aware
    id: str
    body: str
    seat: str
    duty: str
    seats: Count
    counts: dict[str, int]
    duties: dict[str, str]


Direction = Literal["agent-to-portal", "portal-to-agent", "portal-to-hosts"]
Family = Literal["address", "metrics", "command", "corporate"]
Delivery = Literal["core", "jetstream", "request"]


@dataclass(frozen=True, slots=True)
class MessageType:
    """One row of the registry: what a message is called, looks like, and where and how it travels."""

    name: str
    ce_type: str
    body: type[msgspec.Struct]
    direction: Direction
    family: Family
    token: str
    """Fifth token (kind, verb), or the corporate topic; `*` for an agent's address."""
    delivery: Delivery
    attributed: bool = True
    """Whether `ce-type` and `ce-source` are mandatory. Only a KPI sample is complete without them."""


def _types() -> tuple[MessageType, ...]:
    row = MessageType
    up: Direction = "agent-to-portal"
    hosts: Direction = "portal-to-hosts"
    agent: Direction = "portal-to-agent"
    name = "org.claytom"
    return (
        row("agent.hello", f"{name}.agent.hello.v1", Hello, up, "command", "hello", "request"),
        row("agent.goodbye", f"{name}.agent.goodbye.v1", Goodbye, up, "command", "goodbye", "request"),
        row("host.presence", f"{name}.host.presence.v1", Presence, up, "metrics", "presence", "core"),
        row("kpi.sample", f"{name}.kpi.sample.v1", KpiSample, up, "metrics", "kpi", "jetstream", False),
        row("agent.state", f"{name}.agent.state.v1", AgentState, up, "metrics", "state", "jetstream"),
        row("agent.pause", f"{name}.agent.pause.v1", Scope, hosts, "command", "pause", "jetstream"),
        row("agent.resume", f"{name}.agent.resume.v1", Scope, hosts, "command", "resume", "jetstream"),
        row("agent.drain", f"{name}.agent.drain.v1", Scope, hosts, "command", "drain", "jetstream"),
        row("agent.retire", f"{name}.agent.retire.v1", Scope, agent, "address", "*", "request"),
        row("arp.replace", f"{name}.arp.replace.v1", Replace, hosts, "command", "replace", "jetstream"),
        row("manifest.sync", f"{name}.manifest.sync.v1", ManifestSync, hosts, "command", "sync", "jetstream"),
        row("report.request", f"{name}.report.request.v1", ReportRequest, hosts, "command", "report", "core"),
        row("host.config", f"{name}.host.config.v1", HostConfig, hosts, "command", "config", "jetstream"),
        row("agent.ping", f"{name}.agent.ping.v1", Ping, agent, "address", "*", "request"),
        row("duty.ask", f"{name}.duty.ask.v1", Ping, agent, "corporate", "*", "request"),
        row("corporate.brief", f"{name}.corporate.brief.v1", Brief, up, "corporate", "broadcast", "jetstream"),
    )


MESSAGE_TYPES: Final[Mapping[str, MessageType]] = {kind.name: kind for kind in _types()}
BY_CE_TYPE: Final[Mapping[str, MessageType]] = {kind.ce_type: kind for kind in _types()}

T = TypeVar("T", bound=msgspec.Struct)

_encode = msgspec.json.Encoder().encode
_decoders: dict[type[msgspec.Struct], msgspec.json.Decoder[Any]] = {}
decode_kpi: Final = msgspec.json.Decoder(KpiSample).decode
"""Decode and type-check one KPI sample; the hot path of the ingest. Raises as `decode` does."""


def ce_type(name: str) -> str:
    """Return the `ce-type` of a message name of the registry; raise `KeyError` if there is none."""
    return MESSAGE_TYPES[name].ce_type


def encode(body: msgspec.Struct | Mapping[str, Any]) -> bytes:
    """Encode a body as JSON."""
    return _encode(body)


def decode(kind: type[T], data: bytes) -> T:
    """Decode and type-check; raise `msgspec.DecodeError` (not JSON) or `msgspec.ValidationError` (schema)."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    body: T = decoder.decode(data)
    return body


def decode_reason(error: Exception) -> str:
    """Name the stage at which decoding failed: `schema` (JSON of another shape) or `not-json`."""
    return "schema" if isinstance(error, msgspec.ValidationError) else "not-json"


_KPI_SOURCE = re.compile(
    rf"org\.claytom\.(?P<unit>{SLUG_PATTERN})\.(?P<role>{SLUG_PATTERN})\."
    rf"(?P<id>(?P<code>di|co|es|in|op)-[0-9]{{4,7}}-g[1-9][0-9]{{0,5}}|{SLUG_PATTERN})"
)


def validate_kpi(  # noqa: PLR0911 - each refusal has its own word
    subject_tokens: Sequence[str], source: str | None, body: KpiSample, now: datetime
) -> str | None:
    """Check what the schema of a KPI sample cannot; return a reason code, or None if the sample is good.

    `subject_tokens` is the subject split at its dots, `source` the header `ce-source` or None (a sample
    without it is good and unattributed), `now` an aware time. Codes: `subject`, `subsidiary-mismatch`,
    `role-unknown`, `ts-future`, `ts-old`, `not-finite`, `okr-type`, `source-malformed`, `source-mismatch`.
    """
    if len(subject_tokens) != 5 or subject_tokens[3] != "metrics" or subject_tokens[4] != "kpi":
        return "subject"
    unit = body.subsidiary
    if subject_tokens[2] != unit:
        return "subsidiary-mismatch"
    if (body.role in ROLE_CODES) is (unit == CORPORATE):
        return "role-unknown"
    age = now - body.ts
    if age > KPI_MAX_AGE:
        return "ts-old"
    if -age > KPI_MAX_AHEAD:
        return "ts-future"
    kpis = body.kpis
    if not math.isfinite(
        kpis.throughput_per_day
        + kpis.quality_score
        + kpis.sla_met_pct
        + kpis.innovation_landings_mo
        + kpis.training_hours_w
    ):
        return "not-finite"
    for key, value in body.okrs.items():
        if ("KR" in key) is isinstance(value, str):
            return "okr-type"
        if not isinstance(value, str) and not math.isfinite(value):
            return "not-finite"
    return None if source is None else _source_reason(source, body)


def _source_reason(source: str, body: KpiSample) -> str | None:
    match = _KPI_SOURCE.fullmatch(source)
    if match is None:
        return "source-malformed"
    code = match["code"]
    if body.subsidiary == CORPORATE:
        if not is_slug(match["id"]):
            return "source-malformed"
    elif code is None or CODE_ROLES[code] != match["role"]:
        return "source-malformed"
    if match["unit"] != body.subsidiary or match["role"] != body.role:
        return "source-mismatch"
    return None
