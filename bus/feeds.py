"""High-volume streams as batches: the registry of what the `ingest` process pulls.

An app registers a feed in its `handlers` module. The ingest process pulls a batch, calls `handle` in a
thread, and acknowledges the whole batch when `handle` returns: so `handle` commits before it returns,
and refuses single bad messages by itself (`bus.services.quarantine`) instead of raising.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from msgspec import Struct


class Raw(Struct, frozen=True, gc=False):  # a Struct is made five times faster than a frozen dataclass
    """A message as it came from the stream, undecoded."""

    subject: bytes
    headers: bytes  # the raw header block, from NATS/1.0 on; b"" when there is none
    body: bytes
    seq: int  # sequence in the stream
    stream: str = ""
    stored_ns: int = 0  # when the stream stored it; with `seq` unique even if the stream is made anew


@dataclass(frozen=True, slots=True)
class Feed:
    """A stream's durable consumer and the functions that take its batches, all called in one thread.

    `start` is called before the first batch; `tick` about once a second between batches, also when nothing
    arrives, and once before the process stops. Both may fail without harm to the messages.
    """

    stream: str
    consumer: str
    handle: Callable[[Sequence[Raw]], None]
    batch: int = 500  # messages per transaction; at most a quarter of the consumer's max_ack_pending
    start: Callable[[], None] | None = None
    tick: Callable[[], None] | None = None
    linger: float = 0.02  # seconds to wait for more when a batch is not full: one commit for a host's burst
    process: str = "ingest"  # which process pulls it: ingest, or bus for events


_feeds: list[Feed] = []


def register(feed: Feed) -> None:
    """Add a feed to those that the ingest process pulls. Raises ValueError if its consumer has one already."""
    if any(known.consumer == feed.consumer for known in _feeds):
        raise ValueError(f"The consumer {feed.consumer} has a feed already.")
    _feeds.append(feed)


def registered(process: str = "ingest") -> tuple[Feed, ...]:
    """Return the registered feeds of a process (`ingest` or `bus`)."""
    return tuple(feed for feed in _feeds if feed.process == process)


def header(headers: bytes, name: bytes) -> str:
    """Return the value of the header `name` in a raw block (names are case-sensitive here), or ""."""
    start = headers.find(b"\r\n" + name + b":")
    if start < 0:
        return ""
    start += len(name) + 3
    return headers[start : headers.index(b"\r\n", start)].strip().decode("utf-8", "replace")


def parse_headers(headers: bytes) -> dict[str, str]:
    """Return all headers of a raw block; of a repeated one, the last value."""
    lines = headers.decode("utf-8", "replace").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if ":" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}
