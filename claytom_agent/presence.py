"""Presence: what a host says of a division's agents, and the report of a state that ARP must know of."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from claytom_agent.agents import Agent
from claytom_agent.client import Outgoing, event_headers, iso
from claytom_agent.messages import RefusedManifest, State, ce_type, encode
from claytom_agent.spool import Build
from claytom_agent.subjects import metrics

STATE_STREAM: Final = "CT_EVENTS"
REPORTED_STATES: Final = frozenset({"failed", "stuck", "restarting"})
COUNTED_STATES: Final[tuple[State, ...]] = ("idle", "busy", "paused", "stuck", "failed", "starting")
Entry = tuple[str, State, int, int]


@dataclass(frozen=True, slots=True)
class PresenceHead:
    """What every presence of a division repeats."""

    unit: str
    host: str
    division: str
    epoch: int


def entries(agents: Iterable[Agent], now: float) -> list[Entry]:
    """List agents as (id, state, items done, milliseconds since their run last moved)."""
    return [(agent.id, agent.state, agent.done, max(0, int((now - agent.tick) * 1000))) for agent in agents]


def count_states(agents: Iterable[Agent]) -> dict[str, int]:
    """Count agents by state; the usual states are there even with nobody in them."""
    counts: dict[str, int] = dict.fromkeys(COUNTED_STATES, 0)
    counts.update(Counter(agent.state for agent in agents))
    return counts


def presence_message(
    head: PresenceHead,
    counts: dict[str, int],
    listed: list[Entry],
    *,
    sequence: int,
    generation: int,
    full: bool,
    degraded: bool,
    refused: RefusedManifest | None = None,
) -> Outgoing:
    """Build `host.presence`; `listed` is everyone if `full`, else those that changed."""
    ts = iso()
    body = {
        "ts": ts,
        "subsidiary": head.unit,
        "host": head.host,
        "division": head.division,
        "epoch": head.epoch,
        "observed_generation": generation,
        "total": sum(counts.values()),
        "counts": counts,
        "full": full,
        "agents": listed,
    }
    if degraded:
        body["degraded"] = True
    if refused is not None:
        body["refused"] = refused
    headers = event_headers(
        ce_type=ce_type("host.presence"),
        source=f"host/{head.host}",
        id=f"pr-{head.division}-{head.epoch}-{sequence}",
        time=ts,
        epoch=head.epoch,
        dedup=False,
    )
    return Outgoing(metrics(head.unit, "presence"), encode(body), headers)


def state_builder(head: PresenceHead, agent: Agent, before: State, after: State, reason: str) -> Build:
    """Prepare `agent.state` for a transition that has just happened."""
    ts, source, unit = iso(), agent.subject, agent.group.unit
    identity, generation = agent.id, agent.header_generation
    body = encode(
        {
            "ts": ts,
            "agent": source,
            "from": before,
            "to": after,
            "reason": reason[:500],
            "restarts": agent.restarts,
        }
    )

    def build(number: int) -> Outgoing:
        headers = event_headers(
            ce_type=ce_type("agent.state"),
            source=source,
            id=f"st-{identity}-{head.epoch}-{number}",
            time=ts,
            epoch=head.epoch,
            seq=f"{head.division}.{head.epoch}.{number}",
            generation=generation,
        )
        return Outgoing(metrics(unit, "state"), body, headers)

    return build
