"""The small types that message bodies are made of. Every limit here is one that a sender can rely on."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from claytom_agent.subjects import SLUG_PATTERN

Slug = Annotated[str, Meta(pattern=rf"^{SLUG_PATTERN}\Z")]
Aware = Annotated[datetime, Meta(tz=True)]
"""A time with its offset (RFC 3339)."""
Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[float, Meta(ge=0)]
Percent = Annotated[float, Meta(ge=0, le=100)]
Id = Annotated[str, Meta(min_length=1, max_length=120, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*\Z")]
"""An identifier that its sender chose; part of a message id, so without white space."""
WorkId = Annotated[str, Meta(pattern=r"^w-[a-z0-9-]{1,24}-[0-9a-z]{6,26}\Z")]
Word = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{1,31}\Z")]
"""A work kind, an error code, a skill."""
Name = Annotated[str, Meta(max_length=100)]
Line = Annotated[str, Meta(max_length=500)]
Text = Annotated[str, Meta(max_length=10_000)]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Micros = Annotated[int, Meta(ge=0, le=1_000_000_000_000)]
"""Millionths of a currency's unit."""
Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}\Z")]
Subject = Annotated[
    str, Meta(min_length=1, max_length=120, pattern=r"^org\.claytom\.[a-z0-9-]+\.[a-z0-9-]+\.[a-z0-9-]+\Z")
]
"""The address of an agent or of a corporate seat."""
LeaseKey = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-z0-9-]+\.[a-z0-9-]+\Z")]
"""`<subsidiary>.<n>` of a division, `corporate.<body>` of a body, `<subsidiary>.a-<agentId>` of a single agent."""
Stream = Annotated[str, Meta(pattern=r"^CT_[A-Z]{2,20}\Z")]
Range = tuple[Count, Count]
"""First and last number, both included."""

State = Literal["starting", "idle", "busy", "paused", "stuck", "restarting", "failed", "draining", "retired"]
Desired = Literal["run", "paused", "retired"]


class Ref(msgspec.Struct, frozen=True):
    """Where a content lies that is too large for a message: an object of the object store, by its hash.

    `size` is in bytes. Whoever fetches it compares the SHA-256 before using it.
    """

    bucket: Annotated[str, Meta(min_length=1, max_length=64)]
    name: Annotated[str, Meta(min_length=1, max_length=255)]
    sha256: Sha256
    size: Count
