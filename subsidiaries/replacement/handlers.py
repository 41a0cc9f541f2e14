"""What hosts tell ARP: presence (a feed of the ingest), state changes, hello and goodbye."""

from collections.abc import Mapping, Sequence

from django.db import transaction
from msgspec import UnsetType

from bus import counters
from bus.dispatch import Message, decode_message, handler, responder
from bus.feeds import Feed, Raw, register
from bus.fencing import on_fenced
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


register(Feed(stream="CT_PRESENCE", consumer="portal-presence", handle=take_presence, batch=400))


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
def welcome(message: Message) -> Mapping[str, object]:
    """Answer a host that has taken a division, or an agent that comes alone."""
    body = message.body
    assert isinstance(body, Hello)  # noqa: S101 - the dispatcher decodes by type
    if isinstance(body.shard, UnsetType):
        return singles.door().welcome(message)
    return services.welcome(division=body.shard.division, host=body.host, epoch=body.epoch)


@responder("goodbye")
def farewell(message: Message) -> Mapping[str, object]:
    """Note that a host has given a division back, or that an agent leaves."""
    body = message.body
    assert isinstance(body, Goodbye)  # noqa: S101 - the dispatcher decodes by type
    if isinstance(body.shard, UnsetType):
        return singles.door().farewell(message)
    services.farewell(division=body.shard.division, epoch=body.epoch)
    return {"ok": True}
