"""Messages that consumers gave up: found in advisories, kept in the quarantine, then taken from the queue.

An exhausted item stays in the queue and nobody gets it any more; only an advisory tells of it, once. So an
advisory becomes a row before it is acknowledged, and each row is worked off from the database: fetch the
message, commit it into the quarantine, delete it by its sequence, note that. Whoever dies in between goes on
there; twice is as once. In a stream that is no queue the message stays: other consumers have a claim to it, and
the stream ages it out.
"""

import asyncio
import logging
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from django.db import transaction
from django.utils import timezone

from bus import counters
from bus.feeds import Raw
from bus.models import FailedDelivery, OutboxMessage
from bus.quarantine import Rejected, quarantine
from bus.streams import ROLES, STREAMS, WORK, stream_of
from claytom_agent.client import Bus, BusError, NoAnswerError

log = logging.getLogger("bus.exhausted")

MOST: Final = 100  # rows worked off in one go
STREAM_NOT_FOUND, NO_MESSAGE_FOUND = 10059, 10037
RELAY_NOTES: Final = timedelta(seconds=60)  # an agent may give an item up before the relay has noted its sequence
RETENTION: Final[Mapping[str, str]] = {stream["name"]: stream["retention"] for stream in STREAMS}
Kind, State = FailedDelivery.Kind, FailedDelivery.State


class Advisory(msgspec.Struct):
    """What the server says of a message that a consumer gave up."""

    type: str
    timestamp: datetime
    stream: str
    consumer: str
    stream_seq: int
    deliveries: int = 0
    reason: str = ""


_read = msgspec.json.Decoder(Advisory).decode
KINDS: Final = {
    "io.nats.jetstream.advisory.v1.max_deliver": Kind.EXHAUSTED,
    "io.nats.jetstream.advisory.v1.terminated": Kind.TERMINATED,
}


def note_advisories(raws: Sequence[Raw]) -> None:
    """Keep what a batch of advisories tells of the declared streams; what cannot be one goes to quarantine."""
    rows: list[FailedDelivery] = []
    rejected: list[Rejected] = []
    for raw in raws:
        try:
            told = _read(raw.body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            rejected.append(Rejected(raw, "schema", str(error), "advisory"))
            continue
        kind = KINDS.get(told.type)
        if kind is not None and told.stream in RETENTION and 0 < told.stream_seq < 1 << 62:
            rows.append(
                FailedDelivery(
                    stream=told.stream,
                    consumer=told.consumer[:60],
                    stream_seq=told.stream_seq,
                    kind=kind,
                    deliveries=min(max(told.deliveries, 0), 1 << 30),
                    reason=told.reason.replace("\0", "\ufffd")[:400],
                    advised_at=told.timestamp,
                )
            )
    with transaction.atomic():
        FailedDelivery.objects.bulk_create(rows, ignore_conflicts=True)
        if rejected:
            quarantine(rejected=rejected)
    for row in rows:
        counters.add("claytom_failed_deliveries_total", stream=row.stream, kind=str(row.kind))


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as a stream holds it."""

    raw: Raw
    at: datetime


def settle_once(bus: Bus, loop: asyncio.AbstractEventLoop) -> int:
    """Work off what the advisories told; return how many rows went on. Runs in a thread; `bus` lives in `loop`."""

    def call(verb: str, body: Mapping[str, Any]) -> dict[str, Any]:
        request = bus.request(f"$JS.API.{verb}", msgspec.json.encode(body), timeout_s=5.0)
        reply = asyncio.run_coroutine_threadsafe(request, loop).result(timeout=10)
        answer: dict[str, Any] = msgspec.json.decode(reply.data)
        return answer

    moved = 0
    for row in FailedDelivery.objects.filter(state__in=(State.FOUND, State.KEPT)).order_by("id")[:MOST]:
        try:
            moved += _settle(row, call)
        except (BusError, NoAnswerError, LookupError) as error:
            log.warning("message %s of %s waits: %s", row.stream_seq, row.stream, error)
    return moved


def _settle(row: FailedDelivery, call: Any) -> bool:
    """Take a row as far as it goes now; return whether it moved."""
    if row.state == State.FOUND and not _keep(row, _fetch(row, call)):
        return False
    if row.state == State.KEPT:
        if row.kind == Kind.EXHAUSTED and RETENTION.get(row.stream) == "workqueue":
            error = call(f"STREAM.MSG.DELETE.{row.stream}", {"seq": row.stream_seq, "no_erase": True}).get("error")
            if error and _fetch(row, call) is not None:  # gone is what we want, by whomever
                raise BusError(error.get("err_code", 0), error.get("description", ""))
        row.state = State.DONE
        row.save(update_fields=["state"])
    return True


def _fetch(row: FailedDelivery, call: Any) -> Stored | None:
    """Return the message that the advisory was about; None when the stream has it no more."""
    answer = call(f"STREAM.MSG.GET.{row.stream}", {"seq": row.stream_seq})
    if error := answer.get("error"):
        if error.get("err_code") in (NO_MESSAGE_FOUND, STREAM_NOT_FOUND):
            return None
        raise BusError(error.get("err_code", 0), error.get("description", ""))
    message = answer["message"]
    at = msgspec.convert(message["time"], datetime)
    raw = Raw(
        message["subject"].encode(),
        b64decode(message.get("hdrs", "")),
        b64decode(message.get("data", "")),
        row.stream_seq,
        row.stream,
        int(at.timestamp() * 1e9),
    )
    # A stream that was made anew counts from 1 again: a younger message is another one.
    return Stored(raw, at) if at <= row.advised_at else None


def _keep(row: FailedDelivery, stored: Stored | None) -> bool:
    """Commit the message into the quarantine; return False when more may be known of it in a moment."""
    where = f"{row.stream}/{row.consumer}"
    if row.kind == Kind.EXHAUSTED:
        if stored is None:  # acknowledged late, or aged out: whoever acknowledged has done the work
            row.state = State.GONE
            row.save(update_fields=["state"])
            return True
        reason = f"delivered {row.deliveries} times to {where} and not acknowledged"
        refusal = Rejected(stored.raw, "delivery", reason, "deliveries-exhausted", blameless=True)
    else:
        raw = stored.raw if stored else _sent(row)
        if raw is None and timezone.now() - row.advised_at < RELAY_NOTES:
            return False
        reason = f"terminated by a receiver of {where}: {row.reason or 'without a reason'}"
        if raw is None:
            raw = Raw(_subject(row).encode(), b"", b"", row.stream_seq, row.stream)
            refusal = Rejected(raw, "delivery", reason, "terminated", lost=True, blameless=True)
        else:
            refusal = Rejected(raw, "delivery", reason, "terminated", blameless=True)
    with transaction.atomic():
        quarantine(rejected=[refusal], limited=False)
        row.state = State.KEPT
        row.save(update_fields=["state"])
    return True


def _sent(row: FailedDelivery) -> Raw | None:
    """Return an item that is gone from the queue as the portal had sent it; None when it was sent by others."""
    for sent in OutboxMessage.objects.filter(stream_seq=row.stream_seq).order_by("-id"):
        stream = stream_of(sent.subject)
        if stream is not None and stream["name"] == row.stream and sent.created_at <= row.advised_at:
            lines = "".join(f"{name}: {value}\r\n" for name, value in sent.headers.items())
            headers = f"NATS/1.0\r\n{lines}\r\n".encode()
            return Raw(sent.subject.encode(), headers, bytes(sent.payload), row.stream_seq, row.stream)
    return None


def _subject(row: FailedDelivery) -> str:
    """Return the subject of an item of which only its consumer is known."""
    unit, _, role = row.consumer.rpartition("-")
    return f"org.claytom.{unit}.{role}.any" if row.stream == WORK and role in ROLES else ""
