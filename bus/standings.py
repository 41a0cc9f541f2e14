"""A batch of events before its handlers see it: which are new, and whose senders may speak."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db.backends.utils import CursorWrapper

from bus.feeds import Raw, header
from bus.fencing import UNTYPED, Fenced, report
from bus.leases import BOOK, Claim, Verdict
from bus.marks import MAX_DIGITS, Mark, Marks, SeqError, seq_of
from bus.services import Rejected
from claytom_agent.messages import BY_CE_TYPE
from claytom_agent.subjects import AgentAddress, SubjectError, parse_address


@dataclass(slots=True)
class Arrival:
    """What numbers and epoch of a message say: whether it came for the first time, and whether it is fenced off."""

    raw: Raw
    claim: Claim | None = None
    mark: Mark | None = None
    number: int = 0
    new: bool = True
    stale: bool = False


def admit(cursor: CursorWrapper, raws: Sequence[Raw]) -> tuple[list[Arrival], list[Rejected]]:
    """Note numbered messages as received, in the caller's transaction, and report what is fenced off.

    Returns an arrival for each message, and the refusals of those whose number cannot be one.
    """
    marks = Marks(raws[0].stream if raws else "")
    arrivals, refused = [], []
    for raw in raws:
        arrival = Arrival(raw)
        arrivals.append(arrival)
        try:
            _read(arrival, marks)
        except SeqError as error:
            arrival.new = False
            refused.append(Rejected(raw, "semantic", str(error), "seq-malformed"))
    verdicts = BOOK.judge({arrival.claim for arrival in arrivals if arrival.claim})  # before any lock
    marks.lock(cursor)
    for arrival in arrivals:
        if arrival.mark is not None and arrival.mark.admit(arrival.number, arrival.number + 1):
            arrival.new = False
        if arrival.claim is not None:
            arrival.stale = _is_stale(arrival, verdicts[arrival.claim])
    marks.extend(cursor)
    report(_fenced(arrivals, verdicts))
    return arrivals, refused


def _read(arrival: Arrival, marks: Marks) -> None:
    """Find who the sender says to speak for: the division of its number, or itself as a single agent."""
    raw = arrival.raw
    if seq := seq_of(raw.headers):
        arrival.mark, _, arrival.number = marks.find(seq, raw.subject)
        arrival.claim = Claim(arrival.mark.division, arrival.mark.epoch)
        return
    epoch = header(raw.headers, b"Claytom-Epoch")
    if not epoch.isdigit() or len(epoch) > MAX_DIGITS:
        return
    try:
        address = parse_address(header(raw.headers, b"ce-source"))
    except SubjectError:
        return
    if isinstance(address, AgentAddress):
        arrival.claim = Claim(f"{address.subsidiary}.a-{address.id}", int(epoch))


def _is_stale(arrival: Arrival, verdict: Verdict) -> bool:
    if arrival.mark is None and verdict.current is None:
        return False  # a single agent that holds no lease has nothing that another could have taken over
    # By the time at which the stream stored it: the portal may have been down while the host changed.
    return not verdict.counts(datetime.fromtimestamp(arrival.raw.stored_ns / 1e9, UTC))


def _fenced(arrivals: Sequence[Arrival], verdicts: dict[Claim, Verdict]) -> Iterator[Fenced]:
    for arrival in arrivals:
        if not arrival.stale or not arrival.new or arrival.claim is None:
            continue
        headers, verdict = arrival.raw.headers, verdicts[arrival.claim]
        kind = BY_CE_TYPE.get(header(headers, b"ce-type"))
        yield Fenced(
            division=arrival.claim.division,
            epoch=arrival.claim.epoch,
            host=verdict.host,
            verdict=verdict,
            type=kind.name if kind is not None else UNTYPED,
            count=1,
            made_at=made_at(arrival.raw),
        )


def made_at(raw: Raw) -> datetime:
    """Return when a message says to have been made; without such a time, when the stream stored it."""
    try:
        return datetime.fromisoformat(header(raw.headers, b"ce-time")).astimezone(UTC)
    except ValueError:
        return datetime.fromtimestamp(raw.stored_ns / 1e9, UTC)
