"""Agents with a connection of their own: an app above registers who answers for them.

ARP knows of them only that their seats are external: no host runs them, silence is told and not mended.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from bus.dispatch import Message

NOT_ENROLLED: Mapping[str, object] = {
    "code": "not-enrolled",
    "reason": "no seat is given to agents that come alone",
    "retry_after_s": 60,
}
MARK = "a-"
"""How the second part of a single agent's lease key begins; a division's is a number or the name of a body."""


class Door(Protocol):
    """What answers for single agents."""

    def welcome(self, message: Message) -> Mapping[str, object]:
        """Answer a hello."""
        ...

    def farewell(self, message: Message) -> Mapping[str, object]:
        """Answer a goodbye."""
        ...

    def observe(self, messages: Sequence[Message]) -> None:
        """Take presence of single agents, in the order received."""
        ...

    def silent(self, unit_id: int, now: datetime) -> Sequence[int]:
        """Return the external seats of the unit whose agents were not heard of lately."""
        ...


class _Nobody:
    """Before anybody has registered: there are no single agents."""

    def welcome(self, message: Message) -> Mapping[str, object]:
        return NOT_ENROLLED

    def farewell(self, message: Message) -> Mapping[str, object]:
        return NOT_ENROLLED

    def observe(self, messages: Sequence[Message]) -> None:
        return

    def silent(self, unit_id: int, now: datetime) -> Sequence[int]:
        return ()


_doors: list[Door] = [_Nobody()]


def register(door: Door) -> None:
    """Let `door` answer for single agents from now on."""
    _doors[:] = [door]


def door() -> Door:
    """Return what answers for single agents."""
    return _doors[0]
