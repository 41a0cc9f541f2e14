"""What enrolled agents send, handed on by ARP."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from bus.dispatch import Message
from subsidiaries.enrolment import services
from subsidiaries.replacement import singles


class Door:
    """Answers for single agents."""

    def welcome(self, message: Message) -> Mapping[str, object]:
        """Answer a hello."""
        return services.welcome(message=message)

    def farewell(self, message: Message) -> Mapping[str, object]:
        """Answer a goodbye."""
        return services.farewell(message=message)

    def observe(self, messages: Sequence[Message]) -> None:
        """Take presence."""
        services.observe(messages=messages)

    def silent(self, unit_id: int, now: datetime) -> Sequence[int]:
        """Return the seats whose agents are not heard of."""
        return services.silent(unit_id=unit_id, now=now)


singles.register(Door())
