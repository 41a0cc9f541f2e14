"""What the registry says of a message: the columns of its table, and whether a subject fits."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import msgspec

from claytom_agent.subjects import CORPORATE, ROLES, ROOT, SLUG_PATTERN

Party = Literal["agent", "host", "portal", "subordinate", "superior", "body", "seat"]
"""Who speaks or is spoken to. Superiors, subordinates and bodies are agents, or the portal in their place."""
Delivery = Literal["core", "jetstream", "request"]

ADDRESS: Final = "{sub}.{role}.{agent}"
"""An agent's address; `{sub}`, `{role}` and the like stand for one token."""
SEAT: Final = "corporate.{body}.{seat}"
ADDRESSES: Final = (ADDRESS, SEAT)

_TOKENS: Final[Mapping[str, str]] = {
    "sub": rf"(?:{CORPORATE}|{SLUG_PATTERN})",
    "role": "|".join(ROLES),
    "agent": r"(?:di|co|es|in|op)-[0-9]{4,7}-g[1-9][0-9]{0,5}",
    "body": SLUG_PATTERN,
    "seat": SLUG_PATTERN,
}
_OTHER: Final = r"[A-Za-z0-9_-]+"


@dataclass(frozen=True)
class MessageType:
    """One message: what it is called, looks like, and where and how it travels."""

    number: int
    """Its row in the protocol's table; 0 for those beyond it."""
    name: str
    body: type[msgspec.Struct]
    sender: Party
    receiver: Party
    subjects: tuple[str, ...]
    """Where it is published, without `org.claytom.`; `{name}` is one token."""
    delivery: Delivery
    key: str
    """What makes two of them one: the template of the message id, or what the receiver compares."""
    rule: str
    """Acknowledgement, deadline and what to do when they do not come."""
    answers: tuple[type[msgspec.Struct], ...] = ()
    attributed: bool = True
    """Whether `ce-type` and `ce-source` are mandatory. Only a KPI sample is complete without them."""

    @property
    def ce_type(self) -> str:
        """The CloudEvents type."""
        return f"{ROOT}.{self.name}.v1"

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(rf"org\.claytom\.{_expression(subject)}" for subject in self.subjects))

    def fits(self, subject: str) -> bool:
        """Say whether the message may be published on this subject."""
        return self._pattern.fullmatch(subject) is not None


def _expression(template: str) -> str:
    parts = re.split(r"\{(\w+)\}", template)
    return "".join(
        f"(?:{_TOKENS.get(part, _OTHER)})" if index % 2 else re.escape(part) for index, part in enumerate(parts)
    )
