"""From messages to services: `@handler` for events, `@responder` for requests to the portal.

Handlers live in the `handlers` module of each app. A handler gets the messages of its type that arrived
together, in order, inside one transaction with the note that their ids are handled: so a redelivered
message changes nothing, and a failure leaves no half effect.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import msgspec
from django.db import connection, transaction

from bus import standings
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


Handler = Callable[[Sequence[Message]], None]
Responder = Callable[[Message], Mapping[str, object]]
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
        # What is sent again may travel under another message id, since the stream knows the first one.
        id=_identity(headers),
        headers=headers,
        body=body,
        raw=raw,
    )


def _identity(headers: Mapping[str, str]) -> str:
    sent_as = headers.get("Nats-Msg-Id", "")
    return (headers.get("ce-id") or sent_as)[:200] if sent_as else ""


def dispatch(raws: Sequence[Raw]) -> None:
    """Hand a batch of a stream to the handlers, in order; what cannot be decoded goes to quarantine.

    In the same transaction the numbers of the messages are noted as received, also of those refused.
    """
    decoded = [_checked(decode_message(raw)) for raw in raws]
    with transaction.atomic(), connection.cursor() as cursor:
        arrived, misnumbered = standings.admit(cursor, raws)
        rejected = [item for item in decoded if isinstance(item, Rejected)] + misnumbered
        if rejected:
            quarantine(rejected=rejected)
        messages = [
            replace(item, stale=arrival.stale)
            for item, arrival in zip(decoded, arrived, strict=True)
            if isinstance(item, Message) and item.type in _handlers and arrival.new
            if not arrival.stale or item.type in _takes_stale
        ]
        for type, group in groupby(unhandled(messages, consumer=CONSUMER), key=lambda message: message.type):
            _handlers[type](list(group))


def _checked(item: Message | Rejected) -> Message | Rejected:
    if isinstance(item, Message) and item.type in _needs_epoch and not item.epoch:
        return Rejected(item.raw, "epoch", "the header Claytom-Epoch is missing", "epoch-missing")
    return item


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
