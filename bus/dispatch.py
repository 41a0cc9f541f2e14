"""From messages to services: `@handler` for events, `@responder` for requests to the portal.

Handlers live in the `handlers` module of each app. A handler gets the messages of its type that arrived
together, in order, inside one transaction with the note that their ids are handled: so a redelivered
message changes nothing, and a failure leaves no half effect.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import msgspec
from django.db import transaction

from bus.feeds import Feed, Raw, parse_headers, register
from bus.meaning import fault_of, placed
from bus.models import HandledMessage
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
Responder = Callable[[Message], Mapping[str, object]]
_handlers: dict[str, Handler] = {}
_responders: dict[str, Responder] = {}


def handler(type: str) -> Callable[[Handler], Handler]:
    """Register the function that takes the messages of a CloudEvents type. Raises ValueError for a second one."""

    def add(function: Handler) -> Handler:
        if type in _handlers:
            raise ValueError(f"{type} has a handler already: {_handlers[type].__module__}.")
        _handlers[type] = function
        return function

    return add


def responder(verb: str) -> Callable[[Responder], Responder]:
    """Register the function that answers requests on `org.claytom.<sub>.command.<verb>`."""

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
    return Message(kind.ce_type, headers["ce-source"], subject, headers.get("Nats-Msg-Id", ""), headers, body, raw)


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


def dispatch(raws: Sequence[Raw]) -> None:
    """Hand a batch of a stream to the handlers, in order; what cannot be decoded goes to quarantine."""
    decoded = [(raw, decode_message(raw)) for raw in raws]
    rejected = [item for _, item in decoded if isinstance(item, Rejected)]
    messages = [item for _, item in decoded if isinstance(item, Message) and item.type in _handlers]
    with transaction.atomic():
        if rejected:
            quarantine(rejected=rejected)
        for type, group in groupby(_unhandled(messages), key=lambda message: message.type):
            _handlers[type](list(group))


def _unhandled(messages: Sequence[Message]) -> Iterator[Message]:
    """Note the messages' ids as handled, and return those that were not yet.

    A message without id always is; and one that was sent again from the quarantine, once.
    """
    replayed = take_replays([message.raw for message in messages])
    named = {message.id: message for message in messages if message.id}
    known = set(
        HandledMessage.objects.filter(consumer=CONSUMER, message_id__in=named).values_list("message_id", flat=True)
    )
    HandledMessage.objects.bulk_create(
        [HandledMessage(consumer=CONSUMER, message_id=id) for id in named if id not in known],
        ignore_conflicts=True,
    )
    seen: set[str] = set()
    for message in messages:
        if message.raw.seq not in replayed and (message.id in known or message.id in seen):
            continue
        if message.id:
            seen.add(message.id)
        yield message


CONSUMER = "portal-events"
register(Feed(stream="CT_EVENTS", consumer=CONSUMER, handle=dispatch, batch=500, process="bus"))
