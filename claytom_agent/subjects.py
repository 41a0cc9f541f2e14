"""Subjects, agent ids and division keys: parse and build, with errors that name the mistake.

The grammar is the whole contract between agents and the holding. Every subject has five tokens::

    org.claytom.<subsidiary>.<role>.<agentId>      the address of an agent
    org.claytom.<subsidiary>.metrics.<kind>        facts from agents and hosts
    org.claytom.<subsidiary>.command.<verb>        the control plane
    org.claytom.corporate.<body>.<seat>            a seat of the parent company, or a corporate topic
"""

import re
from dataclasses import dataclass
from typing import Final

ROOT: Final = "org.claytom"
CORPORATE: Final = "corporate"

ROLE_CODES: Final[dict[str, str]] = {
    "director": "di",
    "coordinator": "co",
    "specialist": "es",
    "innovator": "in",
    "operator": "op",
}
ROLES: Final[tuple[str, ...]] = tuple(ROLE_CODES)
CODE_ROLES: Final[dict[str, str]] = {code: role for role, code in ROLE_CODES.items()}

METRIC_KINDS: Final = frozenset(
    {"kpi", "presence", "state", "result", "progress", "cost", "training", "mentoring", "escalation", "error"}
)
HINT_VERBS: Final = frozenset(
    {"sync", "pause", "resume", "drain", "replace", "scale", "config", "report", "broadcast"}
)
REQUEST_VERBS: Final = frozenset({"hello", "goodbye", "pull-manifest", "vote"})
INGEST_VERBS: Final = frozenset({"receipt", "resend"})
COMMAND_VERBS: Final = HINT_VERBS | REQUEST_VERBS | INGEST_VERBS
CORPORATE_TOPICS: Final = frozenset({"council", "broadcast", "directive", "escalation", "quarantine"})

RESERVED_SLUGS: Final = frozenset({CORPORATE, "metrics", "command", "hosts", "any", "all"}) | frozenset(ROLES)
"""Words that no subsidiary may be called: they stand for something else in a subject or in a lease key."""
RESERVED_BODIES: Final = frozenset({"metrics", "command", "any", "all"}) | frozenset(ROLES) | CORPORATE_TOPICS
"""Words that no corporate body may be called."""

SLUG_PATTERN: Final = r"[a-z][a-z0-9-]{1,22}[a-z0-9]"
AGENT_ID_PATTERN: Final = r"(di|co|es|in|op)-([0-9]{4,7})-g([1-9][0-9]{0,5})"
_SLUG = re.compile(SLUG_PATTERN)
_AGENT_ID = re.compile(AGENT_ID_PATTERN)
_DIVISION = re.compile(r"[1-9][0-9]{0,3}")
_HOST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_SEAT_MARK = re.compile(rf"({SLUG_PATTERN})-g([1-9][0-9]{{0,5}})")
MAX_ORDINAL: Final = 9_999_999
MAX_GENERATION: Final = 999_999


class SubjectError(ValueError):
    """A subject, id or key that does not follow the grammar; the text says which part and why."""


def is_slug(text: str) -> bool:
    """Say whether `text` follows the one slug rule (a DNS label of 3 to 24 characters)."""
    return _SLUG.fullmatch(text) is not None


def check_subsidiary(slug: str) -> str:
    """Return `slug` if a subsidiary may bear it; raise `SubjectError` otherwise. `corporate` is not one."""
    if not is_slug(slug):
        raise SubjectError(f"subsidiary {slug!r} is not a slug ({SLUG_PATTERN})")
    if slug in RESERVED_SLUGS:
        raise SubjectError(f"subsidiary {slug!r} is a reserved word")
    return slug


def check_body(slug: str) -> str:
    """Return `slug` if a corporate body may bear it; raise `SubjectError` otherwise."""
    if not is_slug(slug):
        raise SubjectError(f"body {slug!r} is not a slug ({SLUG_PATTERN})")
    if slug in RESERVED_BODIES:
        raise SubjectError(f"body {slug!r} is a reserved word")
    return slug


def check_host_id(host: str) -> str:
    """Return `host` if it can be one token of a key and of a subject; raise `SubjectError` otherwise."""
    if _HOST_ID.fullmatch(host) is None:
        raise SubjectError(f"host id {host!r} must be 1 to 63 of A-Z a-z 0-9 _ - and begin with a letter or digit")
    return host


@dataclass(frozen=True, slots=True)
class AgentId:
    """The last token of an agent's address: role code, seat ordinal in the subsidiary, generation."""

    code: str
    ordinal: int
    generation: int

    @property
    def role(self) -> str:
        """The role that the code stands for."""
        return CODE_ROLES[self.code]

    def __str__(self) -> str:
        return format_agent_id(self.code, self.ordinal, self.generation)


def format_agent_id(code: str, ordinal: int, generation: int) -> str:
    """Build `<code>-<ordinal, 4 digits or more>-g<generation>`; raise `SubjectError` outside the ranges."""
    if code not in CODE_ROLES:
        raise SubjectError(f"role code {code!r} is none of {', '.join(CODE_ROLES)}")
    if not 1 <= ordinal <= MAX_ORDINAL:
        raise SubjectError(f"seat {ordinal} is outside 1..{MAX_ORDINAL}")
    if not 1 <= generation <= MAX_GENERATION:
        raise SubjectError(f"generation {generation} is outside 1..{MAX_GENERATION}")
    return f"{code}-{ordinal:04d}-g{generation}"


def parse_agent_id(text: str) -> AgentId:
    """Parse `op-0042-g3`; raise `SubjectError` with the reason. Each id has exactly one spelling."""
    match = _AGENT_ID.fullmatch(text)
    if match is None:
        raise SubjectError(f"agent id {text!r} does not match {AGENT_ID_PATTERN}")
    code, ordinal, generation = match.groups()
    if len(ordinal) > 4 and ordinal[0] == "0":
        raise SubjectError(f"agent id {text!r} pads its seat beyond four digits")
    if int(ordinal) == 0:
        raise SubjectError(f"agent id {text!r} names seat 0; seats begin at 1")
    return AgentId(code, int(ordinal), int(generation))


@dataclass(frozen=True, slots=True)
class AgentAddress:
    """The full subject of an agent, its identity over the whole holding."""

    subsidiary: str
    role: str
    id: AgentId

    def __str__(self) -> str:
        return f"{ROOT}.{self.subsidiary}.{self.role}.{self.id}"


@dataclass(frozen=True, slots=True)
class SeatAddress:
    """The address of a seat of the parent company; its generation travels in a header."""

    body: str
    seat: str

    def __str__(self) -> str:
        return f"{ROOT}.{CORPORATE}.{self.body}.{self.seat}"


def split_subject(subject: str) -> list[str]:
    """Split into the five tokens; raise `SubjectError` if the root or the count differs."""
    tokens = subject.split(".")
    if len(tokens) != 5:
        raise SubjectError(f"subject {subject!r} has {len(tokens)} tokens, not five")
    if tokens[0] != "org" or tokens[1] != "claytom":
        raise SubjectError(f"subject {subject!r} does not begin with {ROOT}")
    return tokens


def parse_address(subject: str) -> AgentAddress | SeatAddress:
    """Parse the address of an agent or of a corporate seat; raise `SubjectError` for any other subject."""
    _, _, unit, place, last = split_subject(subject)
    if unit == CORPORATE:
        check_body(place)
        if not is_slug(last):
            raise SubjectError(f"seat {last!r} of {subject!r} is not a slug ({SLUG_PATTERN})")
        return SeatAddress(place, last)
    check_subsidiary(unit)
    if place not in ROLE_CODES:
        raise SubjectError(f"role {place!r} of {subject!r} is none of {', '.join(ROLES)}")
    agent = parse_agent_id(last)
    if agent.role != place:
        raise SubjectError(f"agent id {last!r} has the code of a {agent.role}, its subject says {place}")
    return AgentAddress(unit, place, agent)


def agent_subject(subsidiary: str, role: str, agent_id: str) -> str:
    """Join an agent's address without checking; for callers that hold checked parts."""
    return f"{ROOT}.{subsidiary}.{role}.{agent_id}"


def metrics(unit: str, kind: str) -> str:
    """Build `org.claytom.<unit>.metrics.<kind>`; raise `SubjectError` for a kind that does not exist."""
    if kind not in METRIC_KINDS:
        raise SubjectError(f"metrics kind {kind!r} does not exist")
    return f"{ROOT}.{unit}.metrics.{kind}"


def command(unit: str, verb: str) -> str:
    """Build `org.claytom.<unit>.command.<verb>`; raise `SubjectError` for a verb that does not exist."""
    if verb not in COMMAND_VERBS:
        raise SubjectError(f"command {verb!r} does not exist")
    return f"{ROOT}.{unit}.command.{verb}"


def corporate_topic(topic: str, last: str) -> str:
    """Build `org.claytom.corporate.<topic>.<last>`; raise `SubjectError` for a topic that does not exist."""
    if topic not in CORPORATE_TOPICS:
        raise SubjectError(f"corporate topic {topic!r} does not exist")
    return f"{ROOT}.{CORPORATE}.{topic}.{last}"


@dataclass(frozen=True, slots=True)
class DivisionKey:
    """What one lease covers: `<subsidiary>.<n>`, or `corporate.<body>` for the seats of a body."""

    unit: str
    division: str

    @property
    def corporate(self) -> bool:
        """Whether the division is a body of the parent company."""
        return self.unit == CORPORATE

    def __str__(self) -> str:
        return f"{self.unit}.{self.division}"


def parse_division_key(text: str) -> DivisionKey:
    """Parse `pricing.1` or `corporate.c-suite`; raise `SubjectError` with the reason."""
    unit, dot, division = text.partition(".")
    if not dot:
        raise SubjectError(f"division key {text!r} has no dot")
    if unit == CORPORATE:
        return DivisionKey(unit, check_body(division))
    check_subsidiary(unit)
    if _DIVISION.fullmatch(division) is None:
        raise SubjectError(f"division {division!r} of key {text!r} is not a number from 1")
    return DivisionKey(unit, division)


def parse_seat_mark(text: str) -> tuple[str, int]:
    """Parse a corporate agent's id in a presence list, `ceo-g1`, into seat and generation."""
    match = _SEAT_MARK.fullmatch(text)
    if match is None:
        raise SubjectError(f"corporate agent id {text!r} is not <seat>-g<generation>")
    return match.group(1), int(match.group(2))
