"""What a spool has to send, in batches: one batch is one write to the disk of the server."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from claytom_agent.blocks import Block, Stage
from claytom_agent.client import MAX_BATCH, Outgoing

SAMPLES_STREAM: Final = "CT_KPI"
RECEIPTED: Final = frozenset({SAMPLES_STREAM, "CT_EVENTS"})
"""Streams whose messages the portal receipts; of the others the stream's acknowledgement is the end."""
ATOMIC_STREAMS: Final = RECEIPTED
"""The streams of the protocol that take atomic batches."""


@dataclass(slots=True)
class Piece:
    """Messages of a block on their way: those from `start` up to `stop`, counted within the block."""

    block: Block
    start: int
    stop: int
    again: int = 0
    """How often they were sent again; not 0: the stream may know their ids and not have them."""

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(slots=True)
class Parcel:
    """What one batch of a stream carries."""

    unit: str
    """Whose connection takes it."""
    stream: str
    pieces: list[Piece]
    tries: int = 0

    def __len__(self) -> int:
        return sum(map(len, self.pieces))


class Parcels(deque[Parcel]):
    """The parcels that wait."""

    def next(self, together: Callable[[str, str], bool]) -> Parcel:
        """Take the first parcel, filled up with what waits behind it for the same stream and connection.

        `together` tells whether two units have one connection. What was received meanwhile is left out, so that
        nothing may be left of it.
        """
        parcel = self.popleft()
        parcel.pieces = [piece for piece in parcel.pieces if piece.block.stage < Stage.RECEIVED]
        if parcel.tries or parcel.stream not in ATOMIC_STREAMS:
            return parcel
        while self:
            following = self[0]
            space = MAX_BATCH - len(parcel)
            if following.tries or not space or following.stream != parcel.stream:
                break
            if following.unit != parcel.unit and not together(following.unit, parcel.unit):
                break
            piece = following.pieces[0]  # only what was tried has more
            if piece.block.stage == Stage.RECEIVED:
                self.popleft()
            elif len(piece) <= space:
                self.popleft()
                parcel.pieces.append(piece)
            else:
                middle = piece.start + space
                parcel.pieces.append(Piece(piece.block, piece.start, middle, piece.again))
                following.pieces = [Piece(piece.block, middle, piece.stop, piece.again)]
        return parcel


def renamed(message: Outgoing, again: int) -> Outgoing:
    """Give a message an id that the stream does not know. `ce-id` stays what it is."""
    name = message.headers.get("Nats-Msg-Id") or message.headers.get("ce-id", "")
    return Outgoing(message.subject, message.body, {**message.headers, "Nats-Msg-Id": f"{name}~{again}"})
