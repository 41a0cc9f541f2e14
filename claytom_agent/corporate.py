"""What the seats of the parent company do: the first of each body publishes its body's daily brief."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from claytom_agent.agents import Agent
from claytom_agent.blocks import Build
from claytom_agent.client import Outgoing, event_headers, iso
from claytom_agent.messages import DutyAnswer, ce_type, encode
from claytom_agent.presence import PresenceHead
from claytom_agent.subjects import corporate_topic

STREAM: Final = "CT_CORP"


def brief_builder(head: PresenceHead, seats: Sequence[Agent], day: str) -> Build:
    """Prepare the brief of a body for a day (`2026-01-31`): who sits, in which state, with which duty."""
    body, first, ts = head.division.partition(".")[2], seats[0], iso()
    identity = f"brief-{body}-{day}"
    content = encode(
        {
            "ts": ts,
            "id": identity,
            "body": body,
            "seat": first.key,
            "duty": first.duty,
            "seats": len(seats),
            "counts": dict(Counter(agent.state for agent in seats)),
            "duties": {str(agent.key): agent.duty for agent in seats},
        }
    )

    def build(number: int) -> Outgoing:
        headers = event_headers(
            ce_type=ce_type("corporate.brief"),
            source=first.subject,
            id=identity,
            time=ts,
            epoch=head.epoch,
            seq=f"{head.division}.{head.epoch}.{number}",
            generation=first.generation,
        )
        return Outgoing(corporate_topic("broadcast", body), content, headers)

    return build


def duty_answer(agent: Agent) -> DutyAnswer:
    """Answer `duty.ask`: the seat, its body and what it is for."""
    return DutyAnswer(str(agent.key), agent.duty, agent.group.role, agent.generation)
