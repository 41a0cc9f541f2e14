"""The streams and key-value buckets of protocol.md 7, as data: nothing here needs Django or a connection.

Subjects are literal at tokens 4 and 5, since wildcard families overlap and JetStream refuses overlapping
streams. Times are nanoseconds, sizes bytes, as in the JetStream API.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

SECOND = 1_000_000_000
MIB = 1 << 20
GIB = 1 << 30
ROLES = ("director", "coordinator", "specialist", "innovator", "operator")
EVENT_KINDS = ("state", "result", "progress", "cost", "training", "mentoring", "escalation", "error")
CONTROL_VERBS = ("sync", "replace", "scale", "pause", "resume", "drain", "config", "broadcast")
CORPORATE_TOPICS = ("council", "broadcast", "directive", "escalation", "quarantine")


def _stream(name: str, subjects: list[str], **settings: Any) -> dict[str, Any]:
    return {
        "name": name,
        "subjects": subjects,
        "retention": "limits",
        "storage": "file",
        "num_replicas": 1,
        "max_consumers": -1,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": 0,
        "max_msg_size": -1,
        "max_msgs_per_subject": -1,
        "discard": "old",
        "duplicate_window": 120 * SECOND,
        "allow_direct": True,
        **settings,
    }


STREAMS: tuple[dict[str, Any], ...] = (
    _stream(
        "CT_KPI",
        ["org.claytom.*.metrics.kpi"],
        compression="s2",
        allow_atomic=True,
        max_age=2 * 3600 * SECOND,
        max_bytes=4 * GIB,
        max_msg_size=16 * 1024,
    ),
    _stream(
        "CT_PRESENCE",
        ["org.claytom.*.metrics.presence"],
        storage="memory",
        max_age=900 * SECOND,
        max_bytes=256 * MIB,
        max_msg_size=512 * 1024,
        duplicate_window=SECOND,  # presence carries no message id: there is nothing to deduplicate
    ),
    _stream(
        "CT_EVENTS",
        [f"org.claytom.*.metrics.{kind}" for kind in EVENT_KINDS],
        compression="s2",
        allow_atomic=True,
        max_age=3 * 86_400 * SECOND,
        max_bytes=8 * GIB,
        discard="new",
        duplicate_window=600 * SECOND,
        deny_delete=True,
        deny_purge=True,
    ),
    _stream(
        "CT_WORK",
        [f"org.claytom.*.{role}.any" for role in ROLES],
        retention="workqueue",
        compression="s2",
        max_age=7 * 86_400 * SECOND,
        max_msgs_per_subject=20_000,
        discard="new",
        discard_new_per_subject=True,
        duplicate_window=600 * SECOND,
    ),
    _stream(
        "CT_CONTROL",
        [f"org.claytom.*.command.{verb}" for verb in CONTROL_VERBS],
        allow_atomic=True,
        max_age=86_400 * SECOND,
        duplicate_window=600 * SECOND,
    ),
    _stream(
        "CT_CORP",
        [f"org.claytom.corporate.{topic}.*" for topic in CORPORATE_TOPICS],
        max_age=90 * 86_400 * SECOND,
        duplicate_window=600 * SECOND,
    ),
    _stream(
        "CT_ADVISORIES",
        [
            "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>",
            "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>",
        ],
        max_age=3 * 86_400 * SECOND,
        max_bytes=256 * MIB,  # a consumer that gives up on everything must not fill the disk with saying so
    ),
    _stream(
        "KV_CT_LEASES",
        ["$KV.CT_LEASES.>"],
        max_msgs_per_subject=1,
        max_age=10 * SECOND,
        duplicate_window=10 * SECOND,
        allow_msg_ttl=True,
        subject_delete_marker_ttl=10 * SECOND,
        allow_rollup_hdrs=True,
        deny_delete=True,
        discard="new",
    ),
    _stream(
        "KV_CT_SEATS",
        ["$KV.CT_SEATS.>"],
        allow_atomic=True,  # a command about everybody is 181 manifests: one sync, not 181
        max_msgs_per_subject=5,
        allow_rollup_hdrs=True,
        deny_delete=True,
        discard="new",
    ),
)


def _consumer(stream: str, name: str, **settings: Any) -> dict[str, Any]:
    return {
        "stream": stream,
        "config": {
            "durable_name": name,
            "deliver_policy": "all",
            "ack_policy": "all",
            "ack_wait": 30 * SECOND,
            "max_deliver": -1,
            "max_ack_pending": 40_000,
            "replay_policy": "instant",
            **settings,
        },
    }


# AckPolicy "all": one acknowledgement after the commit covers the whole batch (protocol.md 0, fact 5).
CONSUMERS: tuple[dict[str, Any], ...] = (
    _consumer("CT_KPI", "portal-kpi"),
    _consumer("CT_PRESENCE", "portal-presence"),
    _consumer("CT_EVENTS", "portal-events"),
    _consumer("CT_CORP", "portal-corp"),
    _consumer("CT_ADVISORIES", "portal-advisories"),
)

WORK = "CT_WORK"
# The first pause is also the time to acknowledge: a longer task says "+WPI" every few seconds. After the fifth
# delivery the item stays in the queue, and only an advisory tells (`bus.exhausted`).
WORK_BACKOFF = [15 * SECOND, 30 * SECOND, 120 * SECOND, 600 * SECOND]


def work_consumer(subsidiary: str, role: str) -> dict[str, Any]:
    """Return the durable from which all agents of a role of a subsidiary pull their work, one subject each."""
    return _consumer(
        WORK,
        f"{subsidiary}-{role}",
        filter_subject=f"org.claytom.{subsidiary}.{role}.any",
        ack_policy="explicit",
        ack_wait=WORK_BACKOFF[0],
        backoff=WORK_BACKOFF,
        max_deliver=5,
        max_ack_pending=2000,
    )


def consumers(subsidiaries: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Return all consumers: those of the portal, and one for each role of each of these subsidiaries."""
    queues = [work_consumer(subsidiary, role) for subsidiary in subsidiaries for role in ROLES]
    return [*CONSUMERS, *queues]


@lru_cache(maxsize=4096)
def stream_of(subject: str) -> dict[str, Any] | None:
    """Return the stream that captures `subject`, or None for a subject of core NATS."""
    tokens = subject.split(".")
    for stream in STREAMS:
        if any(_matches(pattern.split("."), tokens) for pattern in stream["subjects"]):
            return stream
    return None


def _matches(pattern: list[str], tokens: list[str]) -> bool:
    if pattern[-1] == ">":
        pattern, tokens = pattern[:-1], tokens[: len(pattern) - 1] if len(tokens) >= len(pattern) else []
    return len(pattern) == len(tokens) and all(
        wanted in ("*", token) for wanted, token in zip(pattern, tokens, strict=True)
    )
