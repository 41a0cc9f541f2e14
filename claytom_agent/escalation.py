"""Escalation upward: from an agent to its superior, from there to the next tier, at last to the holding.

Who is whose superior follows from the organisation's rule and the manifest, so a host needs nobody to tell it: in
a division the operators and specialists answer to its coordinators, each of whom leads an equal run of them (the
manifest names those of seats opened later); the coordinators and the innovator answer to the director. Whoever does
not take it within 5 s is passed over. Each step is told on `metrics.escalation`; what nobody took goes to
`corporate.escalation.<unit>`, where people see it.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from claytom_agent.blocks import Build
from claytom_agent.client import Bus, BusError, Disconnected, NoAnswerError, NobodyThereError, Outgoing, iso
from claytom_agent.client import event_headers as headers_of
from claytom_agent.manifest import Manifest, SeatGroup
from claytom_agent.messages import Answer, EscalationRaise, Level, Severity, ce_type, decode, encode
from claytom_agent.presence import PresenceHead
from claytom_agent.subjects import agent_subject, corporate_topic, format_agent_id, metrics

log = logging.getLogger("claytom_agent.escalation")

ANSWER_S: Final = 5.0
AT_ONCE: Final = 8
"""Escalations of a division that ask at the same time; the others wait for their turn."""
TIERS: Final[dict[str, Level]] = {
    "operator": "L1",
    "specialist": "L2",
    "innovator": "L2",
    "coordinator": "L3",
    "director": "L4",
}
EVENTS: Final = "CT_EVENTS"
CORPORATE_STREAM: Final = "CT_CORP"
_FAULTS: Final = (BusError, Disconnected, NoAnswerError, NobodyThereError)


class Superior(NamedTuple):
    """Who is asked: the tier, and the address of the agent that holds the seat now."""

    level: Level
    address: str


def superiors(manifest: Manifest, seat: int | str) -> list[Superior]:
    """Return who is above the seat in its division, the nearest first; nobody above a director or a named seat."""
    groups = {group.role: group for group in manifest.seats}
    found: list[Superior] = []
    if isinstance(seat, str):
        return found
    role = next((role for role, group in groups.items() if seat in _ordinals(group)), None)
    coordinators = _ordinals(groups["coordinator"]) if "coordinator" in groups else []
    if role in ("operator", "specialist") and coordinators:
        leader = _leader(manifest, _ordinals(groups[role]), seat, coordinators)
        found.append(_superior(manifest, groups["coordinator"], leader))
    if role not in (None, "director") and "director" in groups:
        found += [_superior(manifest, groups["director"], one) for one in _ordinals(groups["director"])[:1]]
    return found


def _leader(manifest: Manifest, seats: list[int], seat: int, coordinators: list[int]) -> int:
    """Return the coordinator of a seat: whom the manifest names, else the leader of its run of the first seats."""
    named = manifest.superiors
    if (said := named.get(str(seat))) in coordinators:
        return said
    first = [one for one in seats if str(one) not in named or one == seat]
    return coordinators[first.index(seat) * len(coordinators) // len(first)]


def _ordinals(group: SeatGroup) -> list[int]:
    return [ordinal for first, last in sorted(group.ordinals) for ordinal in range(first, last + 1)]


def _superior(manifest: Manifest, group: SeatGroup, ordinal: int) -> Superior:
    agent = format_agent_id(group.code, ordinal, manifest.generations.get(str(ordinal), 1))
    return Superior(TIERS[group.role], agent_subject(manifest.subsidiary, group.role, agent))


@dataclass(frozen=True, slots=True)
class Matter:
    """What an agent needs its superior for. The id is the escalation's: the same id twice is one escalation."""

    id: str
    agent: str
    severity: Severity
    summary: str
    needs: str = ""
    matter: str = "staffing"
    """Whose it is at the holding: staffing, quality, training, finance, security or governance."""
    work_id: str = ""


@dataclass(slots=True)
class Escalator:
    """Raises the escalations of a division; `spool` keeps a stream's messages until they are stored."""

    bus: Bus
    head: PresenceHead
    spool: Callable[[str, list[Build]], bool]
    spawn: Callable[[Coroutine[Any, Any, None]], object]
    _known: set[str] = field(default_factory=set)
    _room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    def begin(self, matter: Matter, above: Sequence[Superior]) -> bool:
        """Raise an escalation in the background; False when it was raised under this epoch already."""
        if matter.id in self._known:
            return False
        self._known.add(matter.id)
        self.spawn(self._climb(matter, above))
        return True

    async def _climb(self, matter: Matter, above: Sequence[Superior]) -> None:
        async with self._room:
            asked: list[str] = []
            for superior in above:
                body = _body(matter, superior.level, asked)
                taken = await self._ask(superior, body)
                self._tell(
                    metrics(self.head.unit, "escalation"), EVENTS, body, superior.address if taken else UNSET
                )
                if taken:
                    return
                asked.append(superior.address)
            self._tell(corporate_topic("escalation", self.head.unit), CORPORATE_STREAM, _body(matter, "L4", asked))

    async def _ask(self, superior: Superior, body: EscalationRaise) -> bool:
        headers = headers_of(
            ce_type=ce_type("escalation.raise"),
            source=str(body.agent),
            id=f"esc-{body.id}-{body.level}",
            time=iso(),
            epoch=self.head.epoch,
            dedup=False,
        )
        try:
            reply = await self.bus.request(superior.address, encode(body), headers=headers, timeout_s=ANSWER_S)
            return decode(Answer, reply.data).status == "taken"
        except (*_FAULTS, msgspec.DecodeError) as error:
            log.info("escalation %s: %s does not take it: %s", body.id, superior.address, error)
            return False

    def _tell(self, subject: str, stream: str, body: EscalationRaise, taken_by: str | UnsetType = UNSET) -> None:
        content, ts = encode(msgspec.structs.replace(body, taken_by=taken_by)), iso()

        def build(number: int) -> Outgoing:
            headers = headers_of(
                ce_type=ce_type("escalation.raise"),
                source=str(body.agent),
                id=f"esc-{body.id}-{body.level}",
                time=ts,
                epoch=self.head.epoch,
                seq=f"{self.head.division}.{self.head.epoch}.{number}",
            )
            return Outgoing(subject, content, headers)

        if not self.spool(stream, [build]):
            log.error("escalation %s could not be kept: the spool is full", body.id)
            self._known.discard(body.id)


def _body(matter: Matter, level: Level, asked: Sequence[str]) -> EscalationRaise:
    return EscalationRaise(
        ts=datetime.now(UTC),
        id=matter.id,
        agent=matter.agent,
        level=level,
        severity=matter.severity,
        summary=matter.summary[:500],
        needs=matter.needs[:500],
        chain=list(asked),
        work_id=matter.work_id or UNSET,
        matter=matter.matter,
    )
