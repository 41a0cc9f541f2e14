"""Who may publish and subscribe what, as data (protocol.md 9).

One `Permissions` for each scope: a kind of process, or a kind and a unit. They become the templates of an account's
scoped signing keys; `{{name()}}` and `{{tag(role)}}` are filled in by the server from the user's JWT. What is not
listed is refused.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from claytom_agent.login import inbox_prefix
from claytom_agent.subjects import CORPORATE, HINT_VERBS, INGEST_VERBS, REQUEST_VERBS, ROLES

UNIT, AGENT, HOST = "unit", "agent", "host"
BUS, INGEST, WEB, WORKER, CONSOLE = "bus", "ingest", "web", "worker", "console"
FASTPATH, CLAIMS = "fastpath", "claims"
PORTAL_KINDS: Final = (BUS, INGEST, WEB, WORKER)
"""The portal's processes that speak NATS, each with what it needs and no more."""
SYSTEM_KINDS: Final = (FASTPATH, CLAIMS)
"""Users of the system account."""

_NAME, _ROLE = "{{name()}}", "{{tag(role)}}"
_TOLD: Final = tuple(sorted(HINT_VERBS | INGEST_VERBS))
"""Commands that go out to hosts and agents; requests to the portal are for the portal's eyes."""
_BUCKETS: Final = ("CT_LEASES", "CT_SEATS")
_INGESTED: Final = ("CT_KPI", "CT_PRESENCE")


@dataclass(frozen=True, slots=True)
class Permissions:
    """Subjects, with wildcards; `answers` lets a receiver answer a request once, within a minute."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    answers: bool = False
    not_publish: tuple[str, ...] = ()
    not_subscribe: tuple[str, ...] = ()


def _acks(stream: str, consumer: str) -> tuple[str, str]:
    """Acknowledgements of a consumer, in the first version and in the one with domain and account."""
    return f"$JS.ACK.{stream}.{consumer}.>", f"$JS.ACK.*.*.{stream}.{consumer}.>"


def _queue(unit: str, role: str) -> tuple[str, ...]:
    """Work from the queue of one role."""
    consumer = f"{unit}-{role}"
    return (
        f"$JS.API.CONSUMER.INFO.CT_WORK.{consumer}",
        f"$JS.API.CONSUMER.MSG.NEXT.CT_WORK.{consumer}",
        *_acks("CT_WORK", consumer),
    )


def subsidiary(unit: str) -> Permissions:
    """A host's line of one subsidiary: everything of that subsidiary that is not the portal's to say."""
    root = f"org.claytom.{unit}"
    return Permissions(
        publish=(
            f"{root}.metrics.*",
            *(f"{root}.{role}.*" for role in ROLES),
            *(f"{root}.command.{verb}" for verb in sorted(REQUEST_VERBS)),
            f"org.claytom.corporate.escalation.{unit}",
            f"$KV.CT_LEASES.{unit}.*",
            *(subject for role in ROLES for subject in _queue(unit, role)),
        ),
        subscribe=(
            *(f"{root}.{role}.*" for role in ROLES),
            *(f"{root}.command.{verb}" for verb in _TOLD),
            "org.claytom.corporate.broadcast.*",
            "org.claytom.corporate.council.*",
            f"org.claytom.corporate.directive.{unit}",
            f"{inbox_prefix(UNIT, unit)}.>",
        ),
        answers=True,
    )


def corporate() -> Permissions:
    """A host's line of the parent company: its bodies and their seats, the topics, its own metrics.

    Escalations are read and not made here, quarantine is the portal's, and so are commands.
    """
    root = f"org.claytom.{CORPORATE}"
    return Permissions(
        publish=(f"{root}.*.*", f"$KV.CT_LEASES.{CORPORATE}.*"),
        not_publish=(
            *(f"{root}.command.{verb}" for verb in _TOLD),
            f"{root}.escalation.*",
            f"{root}.quarantine.*",
        ),
        subscribe=(f"{root}.*.*", f"{inbox_prefix(UNIT, CORPORATE)}.>"),
        not_subscribe=(*(f"{root}.command.{verb}" for verb in sorted(REQUEST_VERBS)), f"{root}.quarantine.*"),
        answers=True,
    )


def agent(unit: str) -> Permissions:
    """A single agent outside of any host: its own address, its unit's facts, the work of its role.

    A seat of the parent company has its body as role; there is no work queue for it.
    """
    root = f"org.claytom.{unit}"
    return Permissions(
        publish=(
            f"{root}.metrics.*",
            f"{root}.command.hello",
            f"{root}.command.goodbye",
            *(() if unit == CORPORATE else _queue(unit, _ROLE)),
        ),
        subscribe=(
            f"{root}.{_ROLE}.{_NAME}",
            f"{root}.{_ROLE}.all",
            *(f"{root}.command.{verb}" for verb in _TOLD),
            "org.claytom.corporate.broadcast.*",
            f"{inbox_prefix(AGENT, unit, _ROLE, _NAME)}.>",
        ),
        answers=True,
    )


def _host() -> Permissions:
    """What spans units: who runs what (read), and the cards with which hosts announce themselves."""
    return Permissions(
        publish=(
            "$KV.CT_LEASES.hosts.*",
            "$JS.API.INFO",
            *(f"$JS.API.STREAM.INFO.KV_{bucket}" for bucket in _BUCKETS),
            *(f"$JS.API.STREAM.MSG.GET.KV_{bucket}" for bucket in _BUCKETS),
            *(f"$JS.API.CONSUMER.CREATE.KV_{bucket}" for bucket in _BUCKETS),
        ),
        subscribe=(f"{inbox_prefix(HOST, name=_NAME)}.>",),
    )


def _bus() -> Permissions:
    """The portal's voice: what the outbox holds, streams and their consumers, answers to requests."""
    return Permissions(
        publish=(
            "org.claytom.*.metrics.*",  # replays of what was quarantined
            *(f"org.claytom.*.{role}.*" for role in ROLES),
            *(f"org.claytom.*.command.{verb}" for verb in _TOLD),
            "org.claytom.corporate.*.*",
            *(f"$KV.{bucket}.>" for bucket in _BUCKETS),
            "$JS.API.>",
            "$JS.ACK.>",
        ),
        not_publish=tuple(f"org.claytom.*.command.{verb}" for verb in sorted(REQUEST_VERBS)),
        subscribe=(
            *(f"org.claytom.*.command.{verb}" for verb in sorted(REQUEST_VERBS)),
            "$JS.EVENT.ADVISORY.>",
            f"{inbox_prefix(BUS, name=_NAME)}.>",
        ),
        answers=True,
    )


def _ingest() -> Permissions:
    """Pull two streams, say what was committed, ask for what is missing, look up who holds which lease."""
    return Permissions(
        publish=(
            "$JS.API.STREAM.INFO.KV_CT_LEASES",
            "$JS.API.STREAM.MSG.GET.KV_CT_LEASES",
            *(
                f"$JS.API.CONSUMER.{verb}.{stream}.*"
                for stream in _INGESTED
                for verb in ("INFO", "RESET", "MSG.NEXT")
            ),
            *(subject for stream in _INGESTED for subject in _acks(stream, "*")),
            *(f"org.claytom.*.command.{verb}" for verb in sorted(INGEST_VERBS)),
        ),
        subscribe=(f"{inbox_prefix(INGEST, name=_NAME)}.>",),
    )


def _reader(kind: str) -> Permissions:
    """See how full streams are and how far behind consumers; change nothing, read no message."""
    return Permissions(
        publish=(
            "$JS.API.INFO",
            "$JS.API.STREAM.LIST",
            "$JS.API.STREAM.INFO.*",
            "$JS.API.CONSUMER.LIST.*",
            "$JS.API.CONSUMER.INFO.*.*",
        ),
        subscribe=(f"{inbox_prefix(kind, name=_NAME)}.>",),
    )


def _fastpath(account: str) -> Permissions:
    """Hear which connections of the account come and go."""
    events = tuple(f"$SYS.ACCOUNT.{account}.{event}" for event in ("CONNECT", "DISCONNECT"))
    return Permissions(publish=(), subscribe=(*events, f"{inbox_prefix(FASTPATH, name=_NAME)}.>"))


def _claims() -> Permissions:
    """Hand changed claims of an account to the server."""
    return Permissions(publish=("$SYS.REQ.CLAIMS.UPDATE",), subscribe=(f"{inbox_prefix(CLAIMS, name=_NAME)}.>",))


_OF_KIND: Final[dict[str, Callable[[], Permissions]]] = {
    HOST: _host,
    BUS: _bus,
    INGEST: _ingest,
    WEB: lambda: _reader(WEB),
    WORKER: lambda: _reader(WORKER),
    # An operator at a terminal, who could read the keys too. No process runs with it.
    CONSOLE: lambda: Permissions(publish=(">",), subscribe=(">",)),
    CLAIMS: _claims,
}


def of_scope(kind: str, unit: str, account: str) -> Permissions:
    """Return what a scope permits; `account` is the public key of the account CLAYTOM. Raises KeyError."""
    if kind == UNIT:
        return corporate() if unit == CORPORATE else subsidiary(unit)
    if kind == AGENT:
        return agent(unit)
    return _fastpath(account) if kind == FASTPATH else _OF_KIND[kind]()
