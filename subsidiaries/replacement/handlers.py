"""What hosts tell ARP: presence (a feed of the ingest), state changes, hello and goodbye."""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import UnsetType

from bus import counters
from bus.dispatch import Message, decode_message, handler, responder
from bus.feeds import Feed, Raw, register
from bus.services import Rejected, quarantine
from claytom_agent.messages import AgentState, Goodbye, Hello, Presence
from subsidiaries.replacement import observing, services

NOT_ENROLLED: Final = {
    "code": "not-enrolled",
    "reason": "no seat is given to agents that come alone",
    "retry_after_s": 60,
}

_roster = observing.Roster()  # one per process: seats are permanent


def take_presence(raws: Sequence[Raw]) -> None:
    """Apply a batch of presence reports."""
    decoded = [decode_message(raw) for raw in raws]
    rejected = [item for item in decoded if isinstance(item, Rejected)]
    reports = [item.body for item in decoded if not isinstance(item, Rejected) and isinstance(item.body, Presence)]
    if rejected:
        quarantine(rejected=rejected)
    outcome = observing.observe(reports=reports, roster=_roster)
    counters.add("claytom_presence_total", outcome.taken)
    counters.add("claytom_presence_stale_total", outcome.stale)
    counters.add("claytom_presence_unknown_division_total", outcome.unknown)


register(Feed(stream="CT_PRESENCE", consumer="portal-presence", handle=take_presence, batch=400))


@handler("org.claytom.agent.state.v1")
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
    """Answer a host that has taken a division. Single agents have no seat to come to yet."""
    body = message.body
    assert isinstance(body, Hello)  # noqa: S101 - the dispatcher decodes by type
    if isinstance(body.shard, UnsetType):
        return NOT_ENROLLED
    return services.welcome(division=body.shard.division, host=body.host, epoch=body.epoch)


@responder("goodbye")
def farewell(message: Message) -> Mapping[str, object]:
    """Note that a host has given a division back."""
    body = message.body
    assert isinstance(body, Goodbye)  # noqa: S101 - the dispatcher decodes by type
    if isinstance(body.shard, UnsetType):
        return NOT_ENROLLED
    services.farewell(division=body.shard.division, epoch=body.epoch)
    return {"ok": True}
