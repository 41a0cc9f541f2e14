"""What hosts tell ARP: presence (a feed of the ingest), state changes, hello and goodbye."""

from collections.abc import Mapping, Sequence

from bus import counters
from bus.dispatch import Message, decode_message, handler, responder
from bus.feeds import Feed, Raw, register
from bus.services import Rejected, quarantine
from claytom_agent.messages import AgentState, Goodbye, Hello, Presence
from subsidiaries.replacement import observing, services

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
    """Answer a host that has taken a division."""
    assert isinstance(message.body, Hello)  # noqa: S101 - the dispatcher decodes by type
    return services.welcome(division=message.body.shard.division, host=message.body.host, epoch=message.body.epoch)


@responder("goodbye")
def farewell(message: Message) -> Mapping[str, object]:
    """Note that a host has given a division back."""
    assert isinstance(message.body, Goodbye)  # noqa: S101 - the dispatcher decodes by type
    services.farewell(division=message.body.shard.division, epoch=message.body.epoch)
    return {"ok": True}
