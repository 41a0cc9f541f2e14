"""A batch of KPI messages into the database: what is new, what is good, its rows, its sums.

Nothing here is done per row in the database except COPY. The path of a message is: headers, watermark,
decode, checks, sender, row, sums; about 7 us of one processor.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final
from uuid import UUID

import msgspec
from django.conf import settings
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from bus.feeds import Raw, header
from bus.fencing import Fenced, report
from bus.leases import BOOK
from bus.marks import MAX_DIGITS, Marks, SeqError
from bus.meaning import placed
from bus.services import Rejected, quarantine, take_replays
from bus.standings import made_at
from claytom_agent.messages import (
    KPI_MAX_AGE,
    KPI_MAX_AHEAD,
    MAX_KPI_BYTES,
    Aware,
    Kpis,
    KpiSample,
    OkrText,
    ce_type,
    decode_kpi,
    validate_kpi,
)
from subsidiaries.performance import rows
from subsidiaries.performance.latest import Last
from subsidiaries.performance.marks import Arrival, Run, begin, remember, sample_key
from subsidiaries.performance.senders import Directory, Sender, SenderError, Source

TYPE: Final = ce_type("kpi.sample")
TYPE_LINE: Final = b"\r\nce-type: " + TYPE.encode() + b"\r\n"
PIECE: Final = 500  # messages
SOURCE: Final = b"\r\nce-source:"
CORPORATE: Final = b".corporate."
MAX_VALUE: Final = 1e12  # a claim beyond is no measure of anything, and sums of such would overflow

ADD = """
    insert into performance_kpiminute as k (minute, unit_id, role, n, sum_throughput_per_day, sum_quality_score,
           sum_sla_met_pct, sum_innovation_landings_mo, sum_training_hours_w)
    select timestamptz '2000-01-01 00:00:00+00' + minute * interval '1 minute', unit_id, role, n, a, b, c, d, e
      from unnest(%s::bigint[], %s::bigint[], %s::text[], %s::int[], %s::float8[], %s::float8[], %s::float8[],
                  %s::float8[], %s::float8[]) as t(minute, unit_id, role, n, a, b, c, d, e)
     order by minute, unit_id, role
    on conflict (minute, unit_id, role) do update set
           n = k.n + excluded.n,
           sum_throughput_per_day = k.sum_throughput_per_day + excluded.sum_throughput_per_day,
           sum_quality_score = k.sum_quality_score + excluded.sum_quality_score,
           sum_sla_met_pct = k.sum_sla_met_pct + excluded.sum_sla_met_pct,
           sum_innovation_landings_mo = k.sum_innovation_landings_mo + excluded.sum_innovation_landings_mo,
           sum_training_hours_w = k.sum_training_hours_w + excluded.sum_training_hours_w
"""


@dataclass(slots=True)
class Outcome:
    """What became of a batch."""

    stored: int = 0
    duplicates: int = 0
    stale: int = 0  # stored, but neither summed nor a last value
    expired: int = 0  # summed, but older than raw samples are kept
    rejected: list[Rejected] = field(default_factory=list)
    last: list[Last] = field(default_factory=list)


class QuickSample(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A `KpiSample` whose names are not checked yet."""

    ts: Aware
    subsidiary: str
    role: str
    kpis: Kpis
    okrs: dict[str, OkrText | float]


decode_quickly: Final = msgspec.json.Decoder(QuickSample).decode
BACKSLASH, NUL = ord("\\"), b"\\u0000"
OKR_TYPES: Final[Mapping[str, type]] = {f"O{n}": str for n in range(1, 100)} | {
    f"KR{n}": float for n in range(1, 100)
}
"""The usual keys; `O1.KR1` and the like are left to the strict way."""


Doubtful = tuple[Run, Arrival]
"""A message that only a strict look can judge."""

Good = tuple[int, int, Sender, KpiSample | QuickSample]
"""An accepted message: sequence in the stream, time in microseconds since 2000, sender, body."""

Cell = tuple[int, tuple[int, str]]
"""What minutes are summed by: the minute since 2000; unit and role."""

NOWHERE: Final[Cell] = 0, (0, "")
NO_RUN: Final = Run(None)


class Intake:
    """Records batches, in the order in which they come. Holds what does not change between them."""

    def __init__(self) -> None:
        self._directory = Directory()

    def record(self, raws: Sequence[Raw], now: datetime) -> Outcome:
        """Store a batch in one transaction. A failure of the database is raised and leaves nothing behind."""
        batch = Batch(now, Outcome())
        with transaction.atomic(), connection.cursor() as cursor:
            runs = _arrivals(cursor, raws, now, batch.outcome)
            doubtful: list[Doubtful] = []
            with cursor.copy(rows.COPY) as copy:
                copy.write(rows.HEADER)
                for piece in _pieces(runs):
                    # The database parses a piece while the next one is packed.
                    copy.write(b"".join([self._pack(run, batch, doubtful) for run in piece]))
                copy.write(rows.TRAILER)
            if doubtful:  # apart, since a name not met before is looked up on this same connection
                packed = self._pack_doubtful(doubtful, batch)
                with cursor.copy(rows.COPY) as copy:
                    copy.write(rows.HEADER + packed + rows.TRAILER)
            batch.add_sums(cursor)
            if batch.outcome.rejected:
                quarantine(rejected=batch.outcome.rejected)
        return batch.outcome

    def _pack(self, run: Run, batch: "Batch", doubtful: list[Doubtful]) -> bytes:
        """Return the rows of a run's messages that are beyond doubt; add the others to `doubtful`."""
        oldest, newest, known = batch.oldest, batch.newest, self._directory.known
        good: list[Good] = []
        for arrival in run.arrivals:
            raw, source, typed = arrival
            sender = known(source)
            sample = quickly(raw, sender) if sender and typed else None
            if sample and sender and oldest <= (ts := rows.microseconds(sample.ts)) <= newest:
                good.append((raw.seq, ts, sender, sample))
            else:
                doubtful.append((run, arrival))
        return batch.pack(run, good)

    def _pack_doubtful(self, doubtful: Sequence[Doubtful], batch: "Batch") -> bytes:
        """Return the rows of the messages that prove good, and refuse the others."""
        packed: list[bytes] = []
        for run, (raw, source, _) in doubtful:
            try:
                sample = decode(raw, batch.now)
                sender = self._sender(source, sample)
            except RefusedError as refusal:
                batch.outcome.rejected.append(refusal.of(raw))
            else:
                packed.append(batch.pack(run, [(raw.seq, rows.microseconds(sample.ts), sender, sample)]))
        return b"".join(packed)

    def _sender(self, source: Source, sample: KpiSample) -> Sender:
        try:
            if not source[0]:
                return self._directory.anonymous(sample.subsidiary, sample.role)
            sender = self._directory.sender(source)
        except SenderError as error:
            raise RefusedError("semantic", error.rule, str(error)) from None
        if sender.unit != sample.subsidiary or sender.role != sample.role:
            raise RefusedError("semantic", "source-mismatch", f"{source[0][:200]!r} is another unit or role")
        return sender


def _pieces(runs: Sequence[Run]) -> Iterator[list[Run]]:
    """Yield the runs in pieces of some hundred messages."""
    piece: list[Run] = []
    size = 0
    for run in runs:
        piece.append(run)
        size += len(run.arrivals)
        if size >= PIECE:
            yield piece
            piece, size = [], 0
    yield piece


def quickly(raw: Raw, sender: Sender) -> QuickSample | None:
    """Decode a message that is beyond doubt but for its time; None for all others, which `decode` then judges.

    Says yes only where `decode` does. Most of a strict decode goes into regular expressions on names; here the
    names are compared with those of a sender that has passed them before.
    """
    body = raw.body
    if sender.subject != raw.subject or len(body) > MAX_KPI_BYTES or (BACKSLASH in body and NUL in body):
        return None
    try:
        sample = decode_quickly(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if sample.role != sender.role or sample.subsidiary != sender.unit:
        return None
    for key, value in sample.okrs.items():
        if type(value) is not OKR_TYPES.get(key):
            return None
    kpis = sample.kpis
    return sample if kpis.throughput_per_day + kpis.innovation_landings_mo <= MAX_VALUE else None


class Batch:
    """What the messages of one batch share while they become rows, and the minute sums of what it stores."""

    def __init__(self, now: datetime, outcome: Outcome) -> None:
        self.now = now
        self.outcome = outcome
        self.oldest = rows.microseconds(now - KPI_MAX_AGE)
        self.newest = rows.microseconds(now + KPI_MAX_AHEAD)
        self._received = rows.received(now)
        self._kept_from = rows.microseconds(now - timedelta(hours=settings.KPI_RETENTION_HOURS))
        self._sums: defaultdict[Cell, list[float]] = defaultdict(lambda: [0, 0.0, 0.0, 0.0, 0.0, 0.0])

    def pack(self, run: Run, good: Sequence[Good]) -> bytes:
        """Return good messages of a run as rows, without those that are too old to be kept; sum them up."""
        received, fence, pack = self._received, rows.fence(run.epoch, stale=run.stale), rows.row
        packed = [
            pack(ts, received, seq, sample.kpis, sample.okrs, fence, sender) for seq, ts, sender, sample in good
        ]
        if run.stale:
            self.outcome.stale += len(good)
        else:
            self._sum(good)
            self.outcome.last += [
                (sender.key, ts, row) for (_, ts, sender, _), row in zip(good, packed, strict=True) if sender.key
            ]
        kept_from = self._kept_from
        kept = [row for (_, ts, _, _), row in zip(good, packed, strict=True) if ts >= kept_from]
        self.outcome.stored += len(kept)
        self.outcome.expired += len(good) - len(kept)
        return b"".join(kept)

    def _sum(self, good: Sequence[Good]) -> None:
        of, total = NOWHERE, [0.0]
        for _, ts, sender, sample in good:
            cell = ts // rows.MINUTE, sender.cell
            if cell != of:
                total, of = self._sums[cell], cell
            kpis = sample.kpis
            total[0] += 1
            total[1] += kpis.throughput_per_day
            total[2] += kpis.quality_score
            total[3] += kpis.sla_met_pct
            total[4] += kpis.innovation_landings_mo
            total[5] += kpis.training_hours_w

    def add_sums(self, cursor: CursorWrapper) -> None:
        """Add the sums to the table."""
        if not self._sums:
            return
        minutes, units = [minute for minute, _ in self._sums], [unit for _, (unit, _) in self._sums]
        roles = [role for _, (_, role) in self._sums]
        columns = [list(column) for column in zip(*self._sums.values(), strict=True)]
        cursor.execute(ADD, [minutes, units, roles, *columns])


class RefusedError(ValueError):
    """A message that is refused: stage, rule (a word) and detail."""

    def __init__(self, stage: str, rule: str, detail: str = "") -> None:
        super().__init__(stage, rule, detail)
        self.stage, self.rule, self.detail = stage, rule, detail

    def of(self, raw: Raw) -> Rejected:
        """Return the refusal of `raw`, for the quarantine."""
        reason = f"{self.rule}: {self.detail}" if self.detail else self.rule
        return Rejected(raw, self.stage, reason, self.rule)


def decode(raw: Raw, now: datetime) -> KpiSample:
    """Decode and check one message in the order of protocol.md 6. Raises RefusedError."""
    data = raw.body
    if len(data) > MAX_KPI_BYTES:
        raise RefusedError("size", "too-large", f"{len(data)} bytes; a sample has at most {MAX_KPI_BYTES}")
    try:
        body = decode_kpi(data)
    except msgspec.ValidationError as error:
        _require_type(raw)  # which comes before the schema
        raise RefusedError("schema", "schema", placed(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RefusedError("json", "not-json", str(error)) from None
    _require_type(raw)
    if rule := validate_kpi(_tokens(raw.subject), None, body, now):
        raise RefusedError("semantic", rule, _detail(rule, raw, body))
    kpis = body.kpis
    if kpis.throughput_per_day + kpis.innovation_landings_mo > MAX_VALUE:
        raise RefusedError("semantic", "out-of-range", f"a KPI is beyond {MAX_VALUE:g} - at `$.kpis`")
    if b"\\u0000" in data and any("\0" in value for value in body.okrs.values() if isinstance(value, str)):
        raise RefusedError("semantic", "okr-type", "a NUL character - at `$.okrs`")
    return body


def _require_type(raw: Raw) -> None:
    if TYPE_LINE not in raw.headers and (given := header(raw.headers, b"ce-type")):
        raise RefusedError("type", "type-unknown", f"{given[:100]!r} is not {TYPE}")


PATHS: Final = {
    "subsidiary-mismatch": "$.subsidiary",
    "role-unknown": "$.role",
    "ts-old": "$.ts",
    "ts-future": "$.ts",
    "not-finite": "$.kpis",
    "okr-type": "$.okrs",
}


def _detail(rule: str, raw: Raw, body: KpiSample) -> str:
    """Say where in the body the rule is broken, with the value where it helps."""
    values = {"$.subsidiary": body.subsidiary, "$.role": body.role, "$.ts": body.ts.isoformat()}
    path = PATHS.get(rule)
    if path is None:
        return raw.subject[:200].decode("utf-8", "replace")
    return f"{values[path]!r} - at `{path}`" if path in values else f"at `{path}`"


@lru_cache(4096)
def _tokens(subject: bytes) -> tuple[str, ...]:
    return tuple(subject.decode("utf-8", "replace").split("."))


def _value(headers: bytes, name: bytes) -> tuple[bytes, int]:
    """Return a header's value and where it begins; `name` with the line break before and the colon after it."""
    start = headers.find(name)
    if start < 0:
        return b"", 0
    value = headers[start + len(name) : headers.find(b"\r\n", start + len(name))]
    return value.strip(), start


def _arrivals(cursor: CursorWrapper, raws: Sequence[Raw], now: datetime, outcome: Outcome) -> list[Run]:
    """Read the headers, leave out what was received before, and note the rest as received."""
    marks = Marks(raws[0].stream)
    runs: list[Run] = []
    others: dict[UUID, Arrival] = {}
    replayed = take_replays(raws)
    again: list[Arrival] = []  # sent again from the quarantine: received before, as what was refused
    awaited, run = b"", NO_RUN
    for raw in raws:
        headers = raw.headers
        name, at = _value(headers, b"\r\nce-source:")
        source = name, (_value(headers, b"\r\nClaytom-Generation:")[0] if CORPORATE in name else b"")
        typed = headers.endswith(TYPE_LINE, 0, at + 2)
        if replayed and raw.seq in replayed:
            again.append((raw, source, typed))
            continue
        seq, _ = _value(headers, b"\r\nClaytom-Seq:")
        if seq != awaited or raw.subject != run.subject:
            if not seq:
                others[sample_key(raw, name)] = raw, source, typed
                continue
            try:
                run = begin(marks, seq, raw.subject)
            except SeqError as error:
                outcome.rejected.append(RefusedError("semantic", "seq-malformed", str(error)).of(raw))
                continue
            runs.append(run)
        run.arrivals.append((raw, source, typed))
        awaited = b"%b.%d" % (run.prefix, run.first + len(run.arrivals))
    verdicts = BOOK.judge({claim for run in runs if (claim := run.claim)})  # before any lock
    marks.lock(cursor)
    for run in runs:
        run.admit(verdicts)
    marks.extend(cursor)
    report(_fenced(runs))
    if others:
        new = remember(cursor, others, now)
        runs += _unnumbered([other for key, other in others.items() if key in new])
    runs += _unnumbered(again)
    outcome.duplicates = len(raws) - sum(len(run.arrivals) for run in runs) - len(outcome.rejected)
    return runs


def _fenced(runs: Iterable[Run]) -> Iterator[Fenced]:
    """Yield what the runs that do not count say of their senders."""
    for run in runs:
        if not run.stale or not run.arrivals or run.mark is None or run.verdict is None:
            continue
        yield Fenced(
            division=run.mark.division,
            epoch=run.mark.epoch,
            host=run.verdict.host,
            verdict=run.verdict,
            type="kpi.sample",
            count=len(run.arrivals),
            made_at=made_at(run.arrivals[-1][0]),
        )


def _unnumbered(others: Iterable[Arrival]) -> list[Run]:
    """Return messages without a number as a run for each epoch that they name."""
    runs: dict[int | None, Run] = {}
    for arrival in others:
        digits, _ = _value(arrival[0].headers, b"\r\nClaytom-Epoch:")
        epoch = int(digits) if digits.isdigit() and len(digits) <= MAX_DIGITS else None
        run = runs.setdefault(epoch, Run(epoch))
        run.arrivals.append(arrival)
    return list(runs.values())
