"""High-volume streams as batches: the registry of what the `ingest` process pulls.

An app registers a feed in its `handlers` module. The ingest process pulls a batch, calls `handle` in a
thread, and acknowledges the whole batch when `handle` returns: so `handle` commits before it returns,
and refuses single bad messages by itself (`bus.services.quarantine`) instead of raising.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Raw:
    """A message as it came from the stream, undecoded."""

    subject: bytes
    headers: bytes  # the raw header block, from NATS/1.0 on; b"" when there is none
    body: bytes
    seq: int  # sequence in the stream


@dataclass(frozen=True, slots=True)
class Feed:
    """A stream's durable consumer and the function that takes its batches."""

    stream: str
    consumer: str
    handle: Callable[[Sequence[Raw]], None]
    batch: int = 500  # messages per transaction, at most


_feeds: list[Feed] = []


def register(feed: Feed) -> None:
    """Add a feed to those that the ingest process pulls. Raises ValueError if its consumer has one already."""
    if any(known.consumer == feed.consumer for known in _feeds):
        raise ValueError(f"The consumer {feed.consumer} has a feed already.")
    _feeds.append(feed)


def registered() -> tuple[Feed, ...]:
    """Return the registered feeds."""
    return tuple(_feeds)


def header(headers: bytes, name: bytes) -> str:
    """Return the value of the header `name` in a raw block (names are case-sensitive here), or ""."""
    start = headers.find(b"\r\n" + name + b":")
    if start < 0:
        return ""
    start += len(name) + 3
    return headers[start : headers.index(b"\r\n", start)].strip().decode("utf-8", "replace")
