"""What became of messages whose sender may not speak for its division (any longer).

They are kept where their kind is kept, marked stale, and change nothing. What was made before the sender was
superseded is merely late: hosts deliver what they owe. What was made afterwards, or under an epoch that was never
given, comes from a host that should not be acting: whoever registers with `on_fenced` hears of it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from bus import counters
from bus.leases import Lease, Standing, Verdict

UNTYPED: Final = "other"


@dataclass(frozen=True, slots=True)
class Fenced:
    """Messages of one type that were fenced off: what was claimed, why it does not hold, when they were made."""

    division: str
    epoch: int
    host: str  # as it calls itself, or as the lease of that epoch calls it; "" when neither is known
    verdict: Verdict
    type: str  # name of the message type
    count: int
    made_at: datetime

    @property
    def late(self) -> bool:
        """Whether they were made while the sender still held the division."""
        current = self.verdict.current
        superseded = self.verdict.standing == Standing.SUPERSEDED
        return superseded and current is not None and self.made_at < current.acquired_at

    @property
    def current(self) -> Lease | None:
        """The lease in force."""
        return self.verdict.current


Listener = Callable[[Sequence[Fenced]], object]
_listeners: list[Listener] = []


def on_fenced(listener: Listener) -> Listener:
    """Register a function that is told what was fenced off, in the transaction that handles the messages."""
    _listeners.append(listener)
    return listener


def report(fenced: Iterable[Fenced]) -> None:
    """Count what was fenced off, and tell those who registered of what is not merely late."""
    acting = []
    for item in fenced:
        if item.late:
            counters.add("claytom_late_total", item.count, type=item.type)
        else:
            counters.add("claytom_fenced_total", item.count, type=item.type, standing=item.verdict.standing.value)
            acting.append(item)
    if acting:
        for listener in _listeners:
            listener(_together(acting))


def _together(items: Iterable[Fenced]) -> list[Fenced]:
    """Add up what differs only in number and time; in a fixed order, so that writers do not wait in circles."""
    sums: dict[tuple[str, int, str, str], list[Fenced]] = defaultdict(list)
    for item in items:
        sums[item.division, item.epoch, item.host, item.type].append(item)
    return [
        Fenced(*key[:3], group[-1].verdict, key[3], sum(x.count for x in group), max(x.made_at for x in group))
        for key, group in sorted(sums.items())
    ]
