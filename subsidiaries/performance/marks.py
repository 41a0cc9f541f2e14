"""What was received already: runs of numbered samples, and the keys of the others.

The numbers of hosts are `bus.marks`: a duplicate is known without an index on the samples. A sample without a
number is known by a digest: of its source and body if it names a source (the body holds its `ts`, so a
repetition is the same and the next sample is not), else of its place in the stream, since two agents that do
not say who they are may well send equal bodies.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from uuid import UUID

from django.db.backends.utils import CursorWrapper

from bus.feeds import Raw
from bus.leases import Claim, Verdict
from bus.marks import Mark, Marks
from subsidiaries.performance.senders import Source

REMEMBER = """
    insert into performance_samplekey (key, at)
    select key, %s from unnest(%s::uuid[]) as t(key) order by key
    on conflict do nothing
    returning key
"""

Arrival = tuple[Raw, Source, bool]
"""A message, what it says of its sender, and whether its headers name the type where ours do."""


@dataclass(slots=True)
class Run:
    """Messages that came one after another, numbered without a gap: what a host sends of a division at once.

    Everything about numbers and fencing is decided once for a run. Messages without a number are a run for
    each epoch that they name, with neither mark nor numbers.
    """

    epoch: int | None
    prefix: bytes = b""  # of its numbers: division and epoch
    subject: bytes = b""
    mark: Mark | None = None
    first: int = 0
    arrivals: list[Arrival] = field(default_factory=list)
    stale: bool = False
    verdict: Verdict | None = None

    @property
    def claim(self) -> Claim | None:
        """Whom its sender says to speak for; None without numbers."""
        return Claim(self.mark.division, self.mark.epoch) if self.mark is not None else None

    def drop(self, numbers: Iterable[int]) -> None:
        """Leave out the messages of these numbers."""
        places = {number - self.first for number in numbers}
        self.arrivals = [arrival for place, arrival in enumerate(self.arrivals) if place not in places]

    def admit(self, verdicts: Mapping[Claim, Verdict]) -> None:
        """Note the run as received, drop of it what was received before, and see whether it is fenced off."""
        if self.mark is None or (claim := self.claim) is None:
            return
        if known := self.mark.admit(self.first, self.first + len(self.arrivals)):
            self.drop(known)
        self.verdict = verdicts[claim]
        if self.arrivals and not self.verdict.holds:
            # By the time at which the stream stored it: the database may have been down while the host changed.
            stored = datetime.fromtimestamp(self.arrivals[0][0].stored_ns / 1e9, UTC)
            self.stale = not self.verdict.counts(stored)


def begin(marks: Marks, seq: bytes, subject: bytes) -> Run:
    """Return an empty run that begins with the number that a `Claytom-Seq` names. Raises SeqError."""
    mark, prefix, number = marks.find(seq, subject)
    return Run(mark.epoch, prefix, subject, mark, number)


def sample_key(raw: Raw, source: bytes) -> UUID:
    """Return what identifies a sample that carries no `Claytom-Seq`."""
    identity = source + b"\n" + raw.body if source else b"%b %d %d" % (raw.stream.encode(), raw.seq, raw.stored_ns)
    return UUID(bytes=blake2b(identity, digest_size=16).digest())


def remember(cursor: CursorWrapper, keys: Iterable[UUID], at: datetime) -> set[UUID]:
    """Note keys as handled; return those that were not yet."""
    cursor.execute(REMEMBER, [at, list(keys)])
    return {key for (key,) in cursor.fetchall()}
