"""What a schema cannot say of a message: that subject, source and body speak of the same unit, and fit its type."""

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from claytom_agent.messages import MessageType
from claytom_agent.subjects import CORPORATE, CORPORATE_TOPICS, SubjectError, check_host_id, parse_address

MAX_ID: Final = 200  # characters of a message id, which is kept to know the message again
MAX_DIGITS: Final = 18  # a larger number does not fit into a bigint
NUMBERS: Final = ("Claytom-Epoch", "Claytom-Generation")
OF_THE_PORTAL: Final = "portal/"
OF_A_HOST: Final = "host/"
EITHER: Final = frozenset({"body", "superior", "subordinate"})
"""Senders in whose place the portal may speak."""

Fault = tuple[str, str]
"""A rule (a word of a fixed set) and the sentence that says what is wrong, with the place where there is one."""


def placed(error: msgspec.ValidationError) -> str:
    """Return what a schema misses, with the place; msgspec names none when it is the whole body."""
    text = str(error)
    return text if " - at `" in text else f"{text} - at `$`"


def fault_of(kind: MessageType, subject: str, headers: Mapping[str, str], body: msgspec.Struct) -> Fault | None:
    """Return what is wrong with the meaning of a message whose schema is right, or None."""
    return next(_faults(kind, subject, headers, body), None)


def _faults(kind: MessageType, subject: str, headers: Mapping[str, str], body: msgspec.Struct) -> Iterator[Fault]:
    if not kind.fits(subject):
        yield "subject-type", f"{kind.name} does not travel on {subject[:200]!r}"
        return
    yield from _source_faults(kind, headers["ce-source"], _unit(subject), body)
    yield from _body_faults(body, _unit(subject))
    for name in NUMBERS:
        value = headers.get(name)
        if value is not None and not (value.isascii() and value.isdigit() and len(value) <= MAX_DIGITS):
            yield "number-malformed", f"{name} {value[:40]!r} is not a number from 0"
    if len(headers.get("Nats-Msg-Id", "")) > MAX_ID:
        yield "id-too-long", f"a Nats-Msg-Id has at most {MAX_ID} characters"


def _unit(subject: str) -> str:
    """Return the unit that a subject that fits its type speaks of; empty when it speaks of none in particular."""
    _, _, unit, place, last = subject.split(".")
    if unit != CORPORATE or place not in CORPORATE_TOPICS:
        return unit
    return last if place in ("escalation", "quarantine", "directive") else ""


def _source_faults(kind: MessageType, source: str, unit: str, body: msgspec.Struct) -> Iterator[Fault]:
    portals = source.startswith(OF_THE_PORTAL)
    if kind.sender in EITHER:
        if portals:
            return
    elif portals is not (kind.sender == "portal"):
        yield "source-party", f"{kind.name} is sent by {_party(kind)}, not by {source[:200]!r}"
        return
    if portals:
        return
    try:
        if source.startswith(OF_A_HOST):
            check_host_id(source.removeprefix(OF_A_HOST))
            return
        parse_address(source)
    except SubjectError as error:
        yield "source-malformed", f"ce-source: {str(error)[:300]}"
        return
    if unit and source.split(".")[2] != unit:
        yield "source-unit", f"{source[:200]!r} is of another unit than the subject"
    named = getattr(body, "agent", None)
    if isinstance(named, str) and kind.sender in ("agent", "subordinate") and named != source:
        yield "agent-mismatch", f"{named[:120]!r} is not the ce-source - at `$.agent`"


def _party(kind: MessageType) -> str:
    return "the portal" if kind.sender == "portal" else f"an agent or host ({kind.sender})"


def _body_faults(body: msgspec.Struct, unit: str) -> Iterator[Fault]:
    """Yield where the body names another unit than the subject."""
    if not unit:
        return
    named = getattr(body, "subsidiary", None)
    if isinstance(named, str) and named != unit:
        yield "subsidiary-mismatch", f"{named[:80]!r} is not the subject's unit - at `$.subsidiary`"
    division = getattr(body, "division", None)
    if isinstance(division, str) and division.partition(".")[0] != unit:
        yield "division-unit", f"{division[:80]!r} is of another unit - at `$.division`"
    shard = getattr(body, "shard", None)
    key = getattr(shard, "division", None)
    if isinstance(key, str) and key.partition(".")[0] != unit:
        yield "division-unit", f"{key[:80]!r} is of another unit - at `$.shard.division`"
    agent = getattr(body, "agent", None)
    if isinstance(agent, str):
        try:
            parse_address(agent)
        except SubjectError as error:
            yield "agent-malformed", f"{str(error)[:300]} - at `$.agent`"
            return
        if agent.split(".")[2] != unit:
            yield "agent-unit", f"{agent[:120]!r} is of another unit - at `$.agent`"
