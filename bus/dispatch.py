"""From messages to services: `@handler` for events, `@responder` for requests to the portal.

Handlers live in the `handlers` module of each app. A handler gets the messages of its type that arrived
together, in order, inside one transaction with the note that their ids are handled: so a redelivered
message changes nothing, and a failure leaves no half effect.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import msgspec
from django.db import connection, transaction

from bus import standings
from bus.feeds import Feed, Raw, parse_headers, register
from bus.meaning import fault_of, placed
from bus.models import HandledMessage
from bus.rows import insert_rows
from bus.services import MAX_BODY, Rejected, quarantine, take_replays
from claytom_agent.messages import BY_CE_TYPE, decode


@dataclass(frozen=True, slots=True)
class Message:
    """A decoded message. `body` is the struct that the registry names for its type."""

    type: str
    source: str
    subject: str
    id: str
    headers: Mapping[str, str]
    body: msgspec.Struct
    raw: Raw
    stale: bool = False
    """Whether the sender had no right to speak for its division: kept where its kind is kept, changes nothing."""

    @property
    def epoch(self) -> int:
        """The fencing epoch that the message carries; 0 when it carries none."""
        value = self.headers.get("Claytom-Epoch", "")
        return int(value) if value.isdigit() else 0

    @property
    def generation(self) -> int:
        """The generation that a corporate seat's message carries; 0 when it carries none."""
        value = self.headers.get("Claytom-Generation", "")
        return int(value) if value.isdigit() else 0


skim = msgspec.json.Decoder(msgspec.Raw).decode  # reads all of a text and keeps nothing
Handler = Callable[[Sequence[Message]], None]
Responder = Callable[[Sequence[Message]], Sequence[Mapping[str, object]]]
_handlers: dict[str, Handler] = {}
_takes_stale: set[str] = set()
_needs_epoch: set[str] = set()
_responders: dict[str, Responder] = {}


def handler(type: str, *, stale: bool = False, epoch: bool = False) -> Callable[[Handler], Handler]:
    """Register the function that takes the messages of a CloudEvents type. Raises ValueError for a second one.

    With `stale` it also gets messages of senders that have lost their division, marked so: it keeps them and
    lets them change nothing. With `epoch` a message that carries none is refused.
    """

    def add(function: Handler) -> Handler:
        if type in _handlers:
            raise ValueError(f"{type} has a handler already: {_handlers[type].__module__}.")
        _handlers[type] = function
        if stale:
            _takes_stale.add(type)
        if epoch:
            _needs_epoch.add(type)
        return function

    return add


def responder(verb: str) -> Callable[[Responder], Responder]:
    """Register the function that answers requests on `org.claytom.<sub>.command.<verb>`.

    It gets those that arrived together and returns an answer to each, in order. If it raises, each is tried alone.
    """

    def add(function: Responder) -> Responder:
        if verb in _responders:
            raise ValueError(f"{verb} has a responder already: {_responders[verb].__module__}.")
        _responders[verb] = function
        return function

    return add


def responders() -> Mapping[str, Responder]:
    """Return the registered responders, by verb."""
    return dict(_responders)


class _FaultError(ValueError):
    """Why a message is refused: stage, sentence, and rule."""

    def __init__(self, stage: str, reason: str, rule: str) -> None:
        super().__init__(stage, reason, rule)
        self.stage, self.reason, self.rule = stage, reason, rule


def decode_message(raw: Raw) -> Message | Rejected:
    """Decode one message, checking size, UTF-8 and JSON, type, schema and meaning in this order (protocol.md 6)."""
    try:
        return _decode(raw)
    except _FaultError as fault:
        return Rejected(raw, fault.stage, fault.reason, fault.rule)


def _decode(raw: Raw) -> Message:
    if len(raw.body) > MAX_BODY:
        raise _FaultError("size", f"{len(raw.body)} bytes; a body has at most {MAX_BODY}", "size")
    if reason := _not_json(raw.body):
        raise _FaultError("json", reason, "not-json")
    headers = parse_headers(raw.headers)
    kind = BY_CE_TYPE.get(headers.get("ce-type", ""))
    if kind is None:
        raise _FaultError("type", f"unknown ce-type {headers.get('ce-type', '')[:100]!r}", "type-unknown")
    if not headers.get("ce-source"):
        raise _FaultError("type", "the header ce-source is missing", "source-missing")
    try:
        body = decode(kind.body, raw.body)
    except msgspec.ValidationError as error:
        raise _FaultError("schema", placed(error), "schema") from None
    subject = raw.subject.decode("utf-8", "replace")
    if wrong := fault_of(kind, subject, headers, body):
        raise _FaultError("semantic", wrong[1], wrong[0])
    # What is sent again may travel under another message id, since the stream knows the first one.
    return Message(kind.ce_type, headers["ce-source"], subject, _identity(headers), headers, body, raw)


def _not_json(body: bytes) -> str:
    """Return why a body is not JSON text in UTF-8, empty when it is: also in fields that its type does not know."""
    try:
        str(body, "utf-8")
        skim(body)
    except UnicodeDecodeError as error:
        return f"not UTF-8: byte {error.object[error.start]:#04x} (byte {error.start})"
    except (msgspec.DecodeError, RecursionError) as error:
        return str(error)
    return ""


def _identity(headers: Mapping[str, str]) -> str:
    sent_as = headers.get("Nats-Msg-Id", "")
    return (headers.get("ce-id") or sent_as)[:200] if sent_as else ""


def dispatch(raws: Sequence[Raw]) -> None:
    """Hand a batch of a stream to the handlers, in order; what cannot be decoded goes to quarantine.

    In the same transaction the numbers of the messages are noted as received, also of those refused. What comes too
    late, or from a sender that has lost its division, is noted by its id and goes no further, unless its handler
    takes it: the holder of the division may still say the same under the same id, so that is noted apart.
    """
    decoded = [_checked(decode_message(raw)) for raw in raws]
    with transaction.atomic(), connection.cursor() as cursor:
        arrived, misnumbered = standings.admit(cursor, raws)
        replayed = take_replays(raws)  # received before, as what was refused
        rejected = [item for item in decoded if isinstance(item, Rejected)] + misnumbered
        if rejected:
            quarantine(rejected=rejected)
        messages = [
            replace(item, stale=arrival.stale)
            for item, arrival in zip(decoded, arrived, strict=True)
            if isinstance(item, Message) and item.type in _handlers
            if arrival.new or arrival.raw.seq in replayed
        ]
        late = [message for message in messages if message.stale and message.type not in _takes_stale]
        note_handled(late, consumer=LATE)
        timely = [message for message in messages if not message.stale or message.type in _takes_stale]
        fresh = unhandled(timely, consumer=CONSUMER, replayed=replayed)
        for type, group in groupby(fresh, key=lambda message: message.type):
            _handlers[type](list(group))


def _checked(item: Message | Rejected) -> Message | Rejected:
    if isinstance(item, Message) and item.type in _needs_epoch and not item.epoch:
        return Rejected(item.raw, "epoch", "the header Claytom-Epoch is missing", "epoch-missing")
    return item


def unhandled(messages: Sequence[Message], *, consumer: str, replayed: Collection[int] = ()) -> Iterator[Message]:
    """Note the messages' ids as handled by the consumer, in the caller's transaction; return those that were not.

    A message without an id never was; nor was one of those `replayed`, by their sequences.
    """
    known = note_handled(messages, consumer=consumer)
    seen: set[str] = set()
    for message in messages:
        if message.raw.seq not in replayed and (message.id in known or message.id in seen):
            continue
        if message.id:
            seen.add(message.id)
        yield message


def note_handled(messages: Sequence[Message], *, consumer: str) -> set[str]:
    """Note the messages' ids as handled by the consumer, in the caller's transaction; return those that were."""
    named = dict.fromkeys(message.id for message in messages if message.id)
    if not named:
        return set()
    before = HandledMessage.objects.filter(consumer=consumer, message_id__in=named)
    known = set(before.values_list("message_id", flat=True))
    insert_rows((HandledMessage(consumer=consumer, message_id=id) for id in named if id not in known), known=True)
    return known


CONSUMER = "portal-events"
LATE = f"{CONSUMER}-late"
register(Feed(stream="CT_EVENTS", consumer=CONSUMER, handle=dispatch, batch=500, process="bus"))
