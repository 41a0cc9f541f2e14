"""What a spool keeps of each (division, epoch, stream): numbers, blocks of messages, and how far each one is."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import msgspec

from claytom_agent.client import Outgoing
from claytom_agent.journal import Journal, Place

Build = Callable[[int], Outgoing]
"""Makes the message that gets the given number."""

Key = tuple[str, int, str]
"""Division, epoch, stream."""

Range = tuple[int, int]
"""First and last number."""


class Stage(IntEnum):
    """How safe a message is."""

    WRITTEN = 0
    """In the journal: it survives the end of the process."""
    KEPT = 1
    """On the disk of the host: it survives a power cut. From here on it is promised."""
    STORED = 2
    """The stream has acknowledged it."""
    RECEIVED = 3
    """The portal has committed it; the host may forget it."""


class Written(msgspec.Struct, array_like=True, tag="block", frozen=True, gc=False):
    """A record of the journal: messages with consecutive numbers, as (subject, body, headers)."""

    division: str
    epoch: int
    stream: str
    first: int
    messages: list[tuple[str, bytes, dict[str, str]]]


class Freed(msgspec.Struct, array_like=True, tag="freed", frozen=True, gc=False):
    """A record of the journal: numbers of which the portal has said that it has them."""

    division: str
    epoch: int
    stream: str
    ranges: list[Range]


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Written | Freed).decode


@dataclass(slots=True, eq=False)
class Block:
    """Messages that were added together. `add` returns it, and whoever added them may ask it how safe they are."""

    key: Key
    first: int
    last: int
    place: Place | None
    size: int
    """Bytes in the journal."""
    messages: Sequence[Outgoing] | None
    """None when they have to be read from the journal."""
    unstored: int
    stage: Stage = Stage.WRITTEN
    sent_again: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __len__(self) -> int:
        return self.last - self.first + 1

    def reach(self, stage: Stage) -> None:
        """Note a stage, and wake those who wait for it."""
        if stage > self.stage:
            self.stage = stage
            self._changed.set()
            self._changed = asyncio.Event()

    async def until(self, stage: Stage) -> None:
        """Wait until all its messages have reached a stage."""
        while self.stage < stage:
            await self._changed.wait()


@dataclass(slots=True, eq=False)
class Line:
    """The numbers of one key."""

    key: Key
    last: int = 0
    """The highest number given."""
    blocks: deque[Block] = field(default_factory=deque)
    """Those of which the portal lacks something, by number."""
    received: list[Range] = field(default_factory=list)
    ended: bool = False
    """Whether nothing will be added any more: its epoch is over."""
    probe_at: float = 0.0
    """When to ask after what was stored long ago and not received (monotonic)."""
    probes: int = 0

    def receive(self, ranges: Iterable[Range]) -> list[Block]:
        """Note numbers as received; return the blocks of which nothing is missing any more, and forget them."""
        before = self.received
        self.received = merge([*self.received, *ranges])
        if self.received == before:
            return []
        freed = [
            block for block in self.blocks if any(a <= block.first and block.last <= b for a, b in self.received)
        ]
        for block in freed:
            self.blocks.remove(block)
        if freed:
            self.probes = 0
        return freed

    def waiting_for_receipt(self) -> bool:
        """Whether everything here is stored, and something not received."""
        return bool(self.blocks) and all(block.stage == Stage.STORED for block in self.blocks)


def merge(ranges: Iterable[Range]) -> list[Range]:
    """Return the same numbers as the fewest ranges, in order."""
    merged: list[Range] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(last, merged[-1][1])
        else:
            merged.append((first, last))
    return merged


@dataclass(frozen=True, slots=True)
class Left:
    """Messages that a run of a host has left in its journal without a receipt."""

    key: Key
    first: int
    last: int
    place: Place
    payload: bytes


def read_left(journal: Journal) -> list[Left]:
    """Read what an opened journal holds; let go in it of what the portal has received."""
    written: dict[tuple[Key, int], Left] = {}
    freed: dict[Key, list[Range]] = {}
    done: list[Place] = []
    for place, payload in journal.replay():
        record = decode(payload)
        key = (record.division, record.epoch, record.stream)
        if isinstance(record, Freed):
            freed.setdefault(key, []).extend(record.ranges)
            done.append(place)
            continue
        if (key, record.first) in written:  # written anew, to let go of a segment
            done.append(written[key, record.first].place)
        written[key, record.first] = Left(
            key, record.first, record.first + len(record.messages) - 1, place, payload
        )
    left = []
    for item in written.values():
        if any(a <= item.first and item.last <= b for a, b in merge(freed.get(item.key, ()))):
            done.append(item.place)
        else:
            left.append(item)
    for place in done:
        journal.release(place)
    journal.tidy()
    return left
