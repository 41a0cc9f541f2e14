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
from bus.models import HandledMessage
from bus.services import MAX_BODY, Rejected, quarantine
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


def decode_message(raw: Raw) -> Message | Rejected:
    """Decode one message, checking size, JSON, type and schema in this order (protocol.md 6)."""
    if len(raw.body) > MAX_BODY:
        return Rejected(raw, "size", f"{len(raw.body)} bytes; a body has at most {MAX_BODY}", "size")
    headers = parse_headers(raw.headers)
    kind = BY_CE_TYPE.get(headers.get("ce-type", ""))
    if kind is None:
        return Rejected(raw, "type", f"unknown ce-type {headers.get('ce-type', '')[:100]!r}", "type-unknown")
    if not headers.get("ce-source"):
        return Rejected(raw, "type", "the header ce-source is missing", "source-missing")
    try:
        body = decode(kind.body, raw.body)
    except msgspec.ValidationError as error:
        return Rejected(raw, "schema", str(error), "schema")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Rejected(raw, "json", str(error), "not-json")
    return Message(
        type=kind.ce_type,
        source=headers["ce-source"],
        subject=raw.subject.decode("utf-8", "replace"),
        id=headers.get("Nats-Msg-Id", ""),
        headers=headers,
        body=body,
        raw=raw,
    )


def dispatch(raws: Sequence[Raw]) -> None:
    """Hand a batch of a stream to the handlers, in order; what cannot be decoded goes to quarantine."""
    decoded = [(raw, decode_message(raw)) for raw in raws]
    rejected = [item for _, item in decoded if isinstance(item, Rejected)]
    messages = [item for _, item in decoded if isinstance(item, Message) and item.type in _handlers]
    with transaction.atomic():
        if rejected:
            quarantine(rejected=rejected)
        for type, group in groupby(unhandled(messages, consumer=CONSUMER), key=lambda message: message.type):
            _handlers[type](list(group))


def unhandled(messages: Sequence[Message], *, consumer: str) -> Iterator[Message]:
    """Note the messages' ids as handled by the consumer, in the caller's transaction; return those that were not.

    A message without an id never was.
    """
    named = {message.id: message for message in messages if message.id}
    known = set(
        HandledMessage.objects.filter(consumer=consumer, message_id__in=named).values_list("message_id", flat=True)
    )
    HandledMessage.objects.bulk_create(
        [HandledMessage(consumer=consumer, message_id=id) for id in named if id not in known],
        ignore_conflicts=True,
    )
    seen: set[str] = set()
    for message in messages:
        if message.id in known or message.id in seen:
            continue
        if message.id:
            seen.add(message.id)
        yield message


CONSUMER = "portal-events"
register(Feed(stream="CT_EVENTS", consumer=CONSUMER, handle=dispatch, batch=500, process="bus"))
