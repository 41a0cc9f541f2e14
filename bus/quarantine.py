"""Messages that are refused: kept with the reason, told of, and later sent again or thrown away by somebody."""

from base64 import b64encode
from collections import Counter as Sums
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

from django.db import connection, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import services as audit
from bus import counters
from bus.feeds import Raw, header, parse_headers
from bus.models import HandledMessage, OutboxMessage, QuarantinedMessage
from bus.outbox import Message, publish_many
from bus.streams import stream_of
from bus.suspects import Blame, blamed, count_refusals, unit_of
from bus.throttle import Throttle
from bus.units import known_units
from claytom_agent.subjects import corporate_topic

MAX_KEPT_BODY: Final = 32_768  # bytes of a refused message that are kept
QUARANTINED: Final = "org.claytom.message.quarantined.v1"
REQUESTS: Final = "request"  # in the place of the stream: a request that was refused
REPLAY: Final = "Claytom-Replay"  # the header of a message that is sent again: its number in the quarantine
REPLAY_LINE: Final = f"\r\n{REPLAY}:".encode()
REPLAYS: Final = "replay"  # the consumer in whose name it is noted that a replay has had its effect
KEPT_FOR: Final = timedelta(days=90)
FORGOTTEN_AFTER: Final = timedelta(days=365)
TRANSPORT: Final = "Nats-"  # headers of the way that a message took; the next way has its own
MESSAGE_ID: Final = "Nats-Msg-Id"
Identity = tuple[str, int, str]

# A broken sender repeats the same mistake thousands of times a second. Its first examples are kept, all are
# counted; so a flood of refusals can neither fill the disk nor slow the good messages down.
_same_refusals = Throttle(burst=50, per_second=1)  # of one source, stage and rule
_all_refusals = Throttle(burst=2000, per_second=20)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A message that is refused: at which stage, for which reason, by which rule (a word of a fixed set)."""

    raw: Raw
    stage: str
    reason: str  # may quote the message, so it is never a counter's label
    rule: str = ""
    lost: bool = False  # whether its bytes are no longer to be had
    blameless: bool = False  # whether its source has no part in it

    @property
    def source(self) -> str:
        """Who says to have sent it."""
        return header(self.raw.headers, b"ce-source")[:255]


class RefusedActError(ValueError):
    """A replay or discard that is refused; the sentence names the cause and what helps."""


def quarantine(*, rejected: Sequence[Rejected], limited: bool = True) -> int:
    """Keep refused messages, tell of each on `corporate.quarantine.<unit>`, and return how many were kept.

    Runs in the caller's transaction (RuntimeError outside one): the caller acknowledges the messages after
    it. A message that is delivered again is kept, told of and counted once. All refusals are counted
    (`claytom_rejected_total`), also towards the suspicion of their source; with `limited`, those beyond a rate per
    (source, stage, rule) are only counted.
    """
    if not connection.in_atomic_block:
        raise RuntimeError("A refusal is written in the transaction that handles the batch: open atomic() first.")
    known = _known_refusals(rejected)
    fresh = {_identity(refusal): refusal for refusal in rejected if _identity(refusal) not in known}
    kept = [refusal for refusal in fresh.values() if not limited or _has_room(refusal)]
    ids = {unit.slug: unit.id for unit in known_units()} if kept else {}
    rows = [_quarantined(refusal, ids) for refusal in kept]
    QuarantinedMessage.objects.bulk_create(rows, ignore_conflicts=True)
    publish_many(messages=[_tell(row) for row in rows])
    count_refusals(_blames(fresh.values()))
    transaction.on_commit(lambda: _count(fresh.values(), len(fresh) - len(kept)))
    return len(kept)


def _identity(refusal: Rejected) -> Identity:
    return refusal.raw.stream, refusal.raw.seq, sha256(refusal.raw.body).hexdigest()


def _known_refusals(rejected: Sequence[Rejected]) -> set[Identity]:
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


def _quarantined(refusal: Rejected, ids: dict[str, int]) -> QuarantinedMessage:
    raw = refusal.raw
    subject = _text(raw.subject, 255)
    headers = {_text(name, 100): _text(value, 1000) for name, value in parse_headers(raw.headers).items()}
    return QuarantinedMessage(
        stream=raw.stream,
        stream_seq=raw.seq,
        unit_id=ids.get(unit_of(subject)),
        subject=subject,
        source=_text(refusal.source, 255),
        headers=headers,
        sha256=sha256(raw.body).hexdigest(),
        size=len(raw.body),
        body=raw.body[:MAX_KEPT_BODY],
        whole=not refusal.lost and _is_whole(raw, subject, headers),
        stage=refusal.stage,
        rule=_text(refusal.rule, 60),
        reason=_text(refusal.reason, 500),
    )


def _is_whole(raw: Raw, subject: str, headers: dict[str, str]) -> bool:
    """Return whether what is kept is what came, but for spaces around the values of headers."""
    lines = [line.partition(b":") for line in raw.headers.split(b"\r\n")[1:] if line]
    kept = [(name.encode(), value.encode()) for name, value in headers.items()]
    return (
        len(raw.body) <= MAX_KEPT_BODY
        and subject.encode() == raw.subject
        and kept == [(name.strip(), value.strip()) for name, _, value in lines]
    )


def _tell(row: QuarantinedMessage) -> Message:
    return Message(
        subject=corporate_topic("quarantine", unit_of(row.subject) or "unknown"),
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


def _blames(refusals: Iterable[Rejected]) -> list[Blame]:
    last: dict[tuple[str, str], Rejected] = {}
    sums: Sums[tuple[str, str]] = Sums()
    for refusal in refusals:
        if not refusal.blameless:
            whose = blamed(_text(refusal.raw.subject, 255), _text(refusal.source, 255))
            sums[whose] += 1
            last[whose] = refusal
    return [
        Blame(source, unit, n, one.stage, _text(one.rule, 60), _text(one.reason, 500))
        for (source, unit), n in sums.items()
        for one in [last[source, unit]]
    ]


def _count(refusals: Iterable[Rejected], dropped: int) -> None:
    for refusal in refusals:
        counters.add("claytom_rejected_total", stream=refusal.raw.stream, stage=refusal.stage, rule=refusal.rule)
    if dropped:
        counters.add("claytom_rejected_unkept_total", dropped)


# --- what somebody does with them --------------------------------------------------------------------------
def why_not_replayed(message: QuarantinedMessage) -> str:
    """Return why a message cannot be sent again, as a sentence; empty when it can."""
    if message.state != QuarantinedMessage.State.HELD:
        return _("Only a message that is held can be decided about; this one is: %(state)s.") % {
            "state": message.get_state_display()
        }
    if message.stream == REQUESTS:
        return _("It was a request, and whoever asked no longer waits: it is for them to ask again.")
    if not message.whole:
        if message.size > MAX_KEPT_BODY:
            return _(
                "It had %(size)d bytes, of which the first %(kept)d are kept: what is cut cannot be sent again."
            ) % {
                "size": message.size,
                "kept": MAX_KEPT_BODY,
            }
        return _("Not all of it is kept, so what would be sent again would be another message.")
    if stream_of(message.subject) is None:
        return _("No stream takes messages on its subject any more.")
    return ""


def replay(*, number: int, actor: str) -> QuarantinedMessage:
    """Send a held message again: same subject, headers, message id and body; return it.

    The stream may still know the message id, and a receiver may have handled it: the relay tries until the stream
    stores it, and the header `Claytom-Replay` lets it have its effect once more. Raises RefusedActError.
    """
    with transaction.atomic():
        message = _held(number)
        if reason := why_not_replayed(message):
            raise RefusedActError(reason)
        headers = {
            name: value
            for name, value in message.headers.items()
            if name == MESSAGE_ID or not name.startswith((TRANSPORT, REPLAY))
        }
        message.replay = OutboxMessage.objects.create(
            subject=message.subject,
            headers={**headers, REPLAY: str(number)},
            payload=bytes(message.body),
            dedup=f"replay-{number}",
            insist=True,
        )
        _decide(message, QuarantinedMessage.State.REPLAYED, actor, "")
    return message


def discard(*, number: int, actor: str, reason: str) -> QuarantinedMessage:
    """Throw a held message away, for a reason; return it. Its bytes stay to be seen until it expires.

    Raises RefusedActError.
    """
    reason = reason.strip()
    if not reason:
        raise RefusedActError(_("Say why it is thrown away: the ledger keeps the reason."))
    if "\0" in reason or len(reason) > 500:
        raise RefusedActError(_("A reason has at most 500 characters, none of them a control character."))
    with transaction.atomic():
        message = _held(number)
        if message.state != QuarantinedMessage.State.HELD:
            raise RefusedActError(why_not_replayed(message))
        _decide(message, QuarantinedMessage.State.DISCARDED, actor, reason)
    return message


def _held(number: int) -> QuarantinedMessage:
    message = QuarantinedMessage.objects.select_for_update().filter(pk=number).first()
    if message is None:
        raise RefusedActError(_("There is no quarantined message %(number)d.") % {"number": number})
    return message


def _decide(message: QuarantinedMessage, state: QuarantinedMessage.State, actor: str, note: str) -> None:
    before = {"state": str(message.state), "sha256": message.sha256}
    message.state, message.decided_by, message.note, message.decided_at = state, actor, note, timezone.now()
    message.save(update_fields=["state", "decided_by", "note", "decided_at", "replay"])
    audit.record(
        actor=actor,
        action="quarantine.replay" if state == QuarantinedMessage.State.REPLAYED else "quarantine.discard",
        object=f"quarantine/{message.pk}",
        before=before,
        after={"state": str(state), "sha256": message.sha256},
        details={
            "stream": message.stream,
            "seq": message.stream_seq,
            "subject": message.subject,
            "stage": message.stage,
            "reason": note,
        },
    )
    transaction.on_commit(lambda: counters.add("claytom_quarantine_decided_total", state=str(state)))


def expire(*, now: datetime) -> int:
    """Wipe bodies and headers of messages of over ninety days ago; those still held are then expired.

    Return how many were wiped. What is left, the reason and the digest, goes a year later.
    """
    with transaction.atomic():
        old = QuarantinedMessage.objects.filter(received_at__lt=now - KEPT_FOR)
        held = old.filter(state=QuarantinedMessage.State.HELD).update(
            state=QuarantinedMessage.State.EXPIRED, decided_at=now, decided_by="portal/quarantine"
        )
        wiped = old.exclude(body=b"", headers={}).update(body=b"", headers={}, whole=False)
        gone, _all = old.filter(received_at__lt=now - KEPT_FOR - FORGOTTEN_AFTER).delete()
        if held or wiped or gone:
            audit.record(
                actor="portal/quarantine",
                action="quarantine.expire",
                object="quarantine",
                details={"expired": held, "wiped": wiped, "forgotten": gone},
            )
    return wiped


# --- receiving what is sent again --------------------------------------------------------------------------
def take_replays(raws: Collection[Raw]) -> set[int]:
    """Return the sequences of those that were sent again from the quarantine, and note that they have their effect.

    In the caller's transaction. Such a message is handled whatever is known of its id or number, but only once;
    the header alone proves nothing: subject and body must be those of a message that somebody replayed.
    """
    claimed = {raw.seq: (_number(raw), raw) for raw in raws if REPLAY_LINE in raw.headers}
    if not claimed:
        return set()
    numbers = [number for number, _raw in claimed.values()]
    rows = QuarantinedMessage.objects.filter(pk__in=numbers, state=QuarantinedMessage.State.REPLAYED)
    true = {pk: (subject.encode(), digest) for pk, subject, digest in rows.values_list("pk", "subject", "sha256")}
    proven = {
        seq: number
        for seq, (number, raw) in claimed.items()
        if true.get(number) == (raw.subject, sha256(raw.body).hexdigest())
    }
    done = set(
        HandledMessage.objects.filter(
            consumer=REPLAYS, message_id__in=[str(number) for number in proven.values()]
        ).values_list("message_id", flat=True)
    )
    fresh: dict[int, int] = {}
    for seq, number in proven.items():
        if str(number) not in done:
            fresh.setdefault(number, seq)
    HandledMessage.objects.bulk_create(
        [HandledMessage(consumer=REPLAYS, message_id=str(number)) for number in fresh], ignore_conflicts=True
    )
    return set(fresh.values())


def _number(raw: Raw) -> int:
    digits = header(raw.headers, REPLAY.encode())
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 18 else 0
