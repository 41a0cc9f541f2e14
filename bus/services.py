"""Writing to the bus from a transaction: the outbox row stands or falls with the change that it tells of."""

from base64 import b64encode
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from typing import Any
from uuid import uuid4

import msgspec
from django.db import connection, transaction
from django.utils import timezone

from bus import counters
from bus.feeds import Raw, header, parse_headers
from bus.models import HandledMessage, OutboxMessage, QuarantinedMessage
from bus.throttle import Throttle
from claytom_agent.subjects import corporate_topic, is_slug

MAX_BODY = 262_144  # bytes (protocol.md 2); the server would take 1 MiB
MAX_KEPT_BODY = 32_768  # bytes of a refused message that are kept
QUARANTINED = "org.claytom.message.quarantined.v1"

# A broken sender repeats the same mistake thousands of times a second. Its first examples are kept, all are
# counted; so a flood of refusals can neither fill the disk nor slow the good messages down.
_same_refusals = Throttle(burst=50, per_second=1)  # of one source, stage and rule
_all_refusals = Throttle(burst=2000, per_second=20)


@dataclass(frozen=True, slots=True)
class Message:
    """A message to send: its subject, CloudEvents type and source, body (JSON-able) and message id."""

    subject: str
    type: str
    source: str
    body: Any
    dedup: str = ""  # message id, deterministic where the act is; random when empty
    headers: Mapping[str, str] = field(default_factory=dict)


def publish(
    *,
    subject: str,
    type: str,
    source: str,
    body: Any,
    dedup: str = "",
    headers: Mapping[str, str] | None = None,
) -> OutboxMessage:
    """Put one message into the outbox of the caller's transaction (see `publish_many`)."""
    message = Message(subject=subject, type=type, source=source, body=body, dedup=dedup, headers=headers or {})
    return publish_many(messages=[message])[0]


def publish_many(*, messages: Iterable[Message]) -> list[OutboxMessage]:
    """Put messages into the outbox of the caller's transaction; the relay sends them after the commit.

    A message whose id is already known is not put in again, so that a repeated act sends once. Must run
    inside `transaction.atomic()` (RuntimeError otherwise). Raises ValueError for a body over 256 KiB.
    """
    if not connection.in_atomic_block:
        raise RuntimeError("An outgoing message is written in its change's own transaction: open atomic() first.")
    rows = [_row(message) for message in messages]
    return OutboxMessage.objects.bulk_create(rows, batch_size=1000, ignore_conflicts=True)


def _row(message: Message) -> OutboxMessage:
    payload = msgspec.json.encode(message.body)
    if len(payload) > MAX_BODY:
        raise ValueError(f"{message.subject}: {len(payload)} bytes; a body has at most {MAX_BODY}.")
    dedup = message.dedup or str(uuid4())
    headers = {
        "ce-specversion": "1.0",
        "ce-id": dedup,
        "ce-type": message.type,
        "ce-source": message.source,
        "ce-time": timezone.now().isoformat(timespec="milliseconds"),
        "Content-Type": "application/json",
        "Nats-Msg-Id": dedup,
        **message.headers,
    }
    return OutboxMessage(subject=message.subject, headers=headers, payload=payload, dedup=dedup)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A message that is refused: at which stage, for which reason, by which rule (a word of a fixed set)."""

    raw: Raw
    stage: str
    reason: str  # may quote the message, so it is never a counter's label
    rule: str = ""

    @property
    def source(self) -> str:
        """Who says to have sent it."""
        return header(self.raw.headers, b"ce-source")[:255]


def quarantine(*, rejected: Sequence[Rejected], limited: bool = True) -> int:
    """Keep refused messages, tell of each on `corporate.quarantine.<unit>`, and return how many were kept.

    Runs in the caller's transaction (RuntimeError outside one): the caller acknowledges the messages after
    it. A message that is delivered again is kept, told of and counted once. All refusals are counted
    (`claytom_rejected_total`); with `limited`, those beyond a rate per (source, stage, rule) are only counted.
    """
    if not connection.in_atomic_block:
        raise RuntimeError("A refusal is written in the transaction that handles the batch: open atomic() first.")
    known = _known_refusals(rejected)
    fresh = {_identity(refusal): refusal for refusal in rejected if _identity(refusal) not in known}
    kept = [refusal for refusal in fresh.values() if not limited or _has_room(refusal)]
    QuarantinedMessage.objects.bulk_create([_quarantined(refusal) for refusal in kept], ignore_conflicts=True)
    publish_many(messages=[_tell(refusal) for refusal in kept])
    transaction.on_commit(lambda: _count(fresh.values(), len(fresh) - len(kept)))
    return len(kept)


def _identity(refusal: Rejected) -> tuple[str, int, str]:
    return refusal.raw.stream, refusal.raw.seq, sha256(refusal.raw.body).hexdigest()


def _known_refusals(rejected: Sequence[Rejected]) -> set[tuple[str, int, str]]:
    sequences: dict[str, list[int]] = defaultdict(list)
    for refusal in rejected:
        sequences[refusal.raw.stream].append(refusal.raw.seq)
    rows = QuarantinedMessage.objects.values_list("stream", "stream_seq", "sha256")
    return {
        row for stream, numbers in sequences.items() for row in rows.filter(stream=stream, stream_seq__in=numbers)
    }


def _has_room(refusal: Rejected) -> bool:
    return _same_refusals.admit((refusal.source, refusal.stage, refusal.rule)) and _all_refusals.admit(())


def _text(value: bytes | str, length: int) -> str:
    """Decode for a column: PostgreSQL stores no NUL characters."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return text.replace("\0", "\ufffd")[:length]


def _quarantined(refusal: Rejected) -> QuarantinedMessage:
    raw = refusal.raw
    return QuarantinedMessage(
        stream=raw.stream,
        stream_seq=raw.seq,
        subject=_text(raw.subject, 255),
        source=_text(refusal.source, 255),
        headers={_text(name, 100): _text(value, 1000) for name, value in parse_headers(raw.headers).items()},
        sha256=sha256(raw.body).hexdigest(),
        size=len(raw.body),
        body=raw.body[:MAX_KEPT_BODY],
        stage=refusal.stage,
        reason=_text(refusal.reason, 500),
    )


def _tell(refusal: Rejected) -> Message:
    row = _quarantined(refusal)
    tokens = row.subject.split(".")
    unit = tokens[2] if len(tokens) > 2 and is_slug(tokens[2]) else "unknown"
    return Message(
        subject=corporate_topic("quarantine", unit),
        type=QUARANTINED,
        source="portal/quarantine",
        body={
            "subject": row.subject,
            "headers": row.headers,
            "sha256": row.sha256,
            "size": row.size,
            "body": b64encode(row.body).decode(),
            "stage": row.stage,
            "reason": row.reason,
        },
        dedup=f"q-{row.stream}-{row.stream_seq}",
    )


def _count(refusals: Iterable[Rejected], dropped: int) -> None:
    for refusal in refusals:
        counters.add("claytom_rejected_total", stream=refusal.raw.stream, stage=refusal.stage, rule=refusal.rule)
    if dropped:
        counters.add("claytom_rejected_unkept_total", dropped)


def retain(*, sent_for: timedelta, handled_for: timedelta) -> tuple[int, int]:
    """Delete messages sent, and ids handled, longer ago than that; return how many of each.

    `handled_for` must exceed the longest time a stream keeps a message, since a redelivered message whose
    id is forgotten would be handled twice.
    """
    now = timezone.now()
    sent, _ = OutboxMessage.objects.filter(sent_at__lt=now - sent_for).delete()
    handled, _ = HandledMessage.objects.filter(handled_at__lt=now - handled_for).delete()
    return sent, handled
