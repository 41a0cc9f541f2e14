"""Which free divisions a host shall claim: a pure function of what all hosts can see.

Every host sorts the same divisions and the same hosts and deals them out in turn, so hosts that start
together share evenly without talking, and the five divisions of a subsidiary fall on different hosts. The limits
are soft: what nobody took after a grace period is taken by anyone who has room. Nobody takes what is held.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

DIVISIONS_OF_A_SUBSIDIARY: Final = 5


class HostCard(msgspec.Struct, frozen=True):
    """How a host announces itself under `hosts.<id>` in the lease bucket."""

    host: str
    run: str
    capacity: int
    full: bool = False
    subsidiaries: list[str] = []

    def serves(self, unit: str) -> bool:
        """Whether the host takes divisions of this subsidiary; an empty list means all."""
        return not self.subsidiaries or unit in self.subsidiaries


@dataclass(frozen=True, slots=True)
class FreeDivision:
    """A division that nobody holds: since when (monotonic seconds), and who held it last."""

    key: str
    since: float
    last_host: str | None


def choose(
    me: HostCard,
    hosts: Iterable[HostCard],
    divisions: Collection[str],
    free: Iterable[FreeDivision],
    owned: Mapping[str, int],
    *,
    now: float,
    grace_s: float,
) -> tuple[list[str], float | None]:
    """Return the divisions to claim now, and the time at which to ask again if some must wait (else None).

    `owned` counts the divisions that this host holds or is claiming, by subsidiary; `divisions` is every
    division that exists. `now` and the times in `free` are seconds of the same monotonic clock.
    """
    cards = sorted({card.host: card for card in (*hosts, me)}.values(), key=lambda card: card.host)
    position = {key: index for index, key in enumerate(sorted(divisions))}
    counts = dict(owned)
    room = me.capacity - sum(counts.values())
    wanted: list[str] = []
    again: float | None = None
    ordered = sorted(free, key=lambda division: (division.since, division.key))
    for division in ordered:
        unit = division.key.partition(".")[0]
        if not me.serves(unit) or room <= 0:
            continue
        others = [c for c in cards if c.host != me.host and _takes(c, unit, division)]
        if others and now < division.since + grace_s:
            able = sorted([*others, me], key=lambda card: card.host)
            limit = -(-DIVISIONS_OF_A_SUBSIDIARY // len(able))
            turn = able[position.get(division.key, 0) % len(able)].host
            if turn != me.host or me.host == division.last_host or counts.get(unit, 0) >= limit:
                due = division.since + grace_s
                again = due if again is None else min(again, due)
                continue
        wanted.append(division.key)
        counts[unit] = counts.get(unit, 0) + 1
        room -= 1
    return wanted, again


def _takes(card: HostCard, unit: str, division: FreeDivision) -> bool:
    # The host that just lost or gave the division is not waited for.
    return not card.full and card.serves(unit) and card.host != division.last_host
