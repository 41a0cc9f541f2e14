"""The outbox: a message is a row of the transaction that decided it, and stands or falls with it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import msgspec
from django.db import connection
from django.utils import timezone

from bus.models import OutboxMessage
from bus.rows import insert_rows

MAX_BODY = 262_144  # bytes (protocol.md 2); the server would take 1 MiB


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
    return insert_rows(rows, known=True)


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
