"""What hosts tell ARP: presence (a feed of the ingest), state changes, hello and goodbye."""

from collections.abc import Mapping, Sequence

from django.db import transaction
from msgspec import UnsetType

from bus import counters
from bus.dispatch import Message, decode_message, handler, responder
from bus.feeds import Feed, Raw, register
from bus.fencing import on_fenced
from bus.leases import Claim
from bus.services import Rejected, quarantine
from claytom_agent.messages import AgentState, Goodbye, Hello, Presence
from subsidiaries.replacement import fencing, observing, services, singles

_roster = observing.Roster()  # one per process: seats are permanent


def take_presence(raws: Sequence[Raw]) -> None:
    """Apply a batch of presence reports."""
    decoded = [decode_message(raw) for raw in raws]
    rejected = [item for item in decoded if isinstance(item, Rejected)]
    told = [item for item in decoded if not isinstance(item, Rejected) and isinstance(item.body, Presence)]
    alone = [item for item in told if _is_single(item)]
    reports = [item.body for item in told if isinstance(item.body, Presence) and not _is_single(item)]
    if rejected:
        with transaction.atomic():
            quarantine(rejected=rejected)
    if alone:
        singles.door().observe(alone)
    outcome = observing.observe(reports=reports, roster=_roster)
    counters.add("claytom_presence_total", outcome.taken)
    counters.add("claytom_presence_stale_total", outcome.stale)
    counters.add("claytom_presence_unknown_division_total", outcome.unknown)


def _is_single(message: Message) -> bool:
    """Whether it is the presence of an agent with a connection of its own."""
    body = message.body
    return isinstance(body, Presence) and body.division.partition(".")[2].startswith(singles.MARK)


# Hosts report each division by itself: what comes within a tenth of a second costs one transaction.
register(Feed(stream="CT_PRESENCE", consumer="portal-presence", handle=take_presence, batch=400, linger=0.1))


on_fenced(fencing.note_fenced)


@handler("org.claytom.agent.state.v1", epoch=True)
def take_states(messages: Sequence[Message]) -> None:
    """Note state changes, and replace what failed at once."""
    reports = [
        observing.StateReport(message.body, message.epoch, message.generation)
        for message in messages
        if isinstance(message.body, AgentState)
    ]
    services.replace_reported(reports=reports)


@responder("hello")
def welcome(messages: Sequence[Message]) -> list[Mapping[str, object]]:
    """Answer hosts that have taken divisions, and agents that come alone."""
    claims = {}
    for message in messages:
        body = message.body
        assert isinstance(body, Hello)  # noqa: S101 - the dispatcher decodes by type
        if not isinstance(body.shard, UnsetType):
            claims[id(message)] = Claim(body.shard.division, body.epoch, body.host)
    terms = services.welcome(claims=claims.values())
    return [
        terms[claims[id(message)]] if id(message) in claims else singles.door().welcome(message)
        for message in messages
    ]


@responder("goodbye")
def farewell(messages: Sequence[Message]) -> list[Mapping[str, object]]:
    """Note that hosts have given divisions back, or that agents leave."""
    return [_part(message) for message in messages]


def _part(message: Message) -> Mapping[str, object]:
    body = message.body
    assert isinstance(body, Goodbye)  # noqa: S101 - the dispatcher decodes by type
    if isinstance(body.shard, UnsetType):
        return singles.door().farewell(message)
    services.farewell(division=body.shard.division, epoch=body.epoch)
    return {"ok": True}
