"""A batch of KPI messages into the database: what is new, what is good, its rows, its sums.

Nothing here is done per row in the database except COPY. The path of a message is: headers, watermark,
decode, checks, sender, row, sums; about 7 us of one processor.
"""

from collections.abc import Mapping, Sequence
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
from bus.services import Rejected, quarantine
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
from subsidiaries.performance.marks import MAX_DIGITS, Mark, Marks, SeqError, remember, sample_key
from subsidiaries.performance.senders import Directory, Sender, SenderError

TYPE: Final = ce_type("kpi.sample")
TYPE_LINE: Final = b"\r\nce-type: " + TYPE.encode() + b"\r\n"
CHUNK: Final = 500  # messages
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


Arrival = tuple[Raw, bytes, bytes, bytes, bool]
"""A new message: itself, source, generation, columns epoch and stale, whether it is stale.

A plain tuple, since one is made for each message.
"""


Good = tuple[Sender, int, Kpis, Mapping[str, str | float]]
"""What an accepted message says: sender, time in microseconds since 2000, KPIs, OKRs."""


class QuickSample(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A `KpiSample` whose names are not checked yet."""

    ts: Aware
    subsidiary: str
    role: str
    kpis: Kpis
    okrs: dict[str, OkrText | float]


decode_quickly: Final = msgspec.json.Decoder(QuickSample).decode
OKR_TYPES: Final[Mapping[str, type]] = {f"O{n}": str for n in range(1, 100)} | {
    f"KR{n}": float for n in range(1, 100)
}
"""The usual keys; `O1.KR1` and the like are left to the strict way."""


class Intake:
    """Records batches, in the order in which they come. Holds what does not change between them."""

    def __init__(self) -> None:
        self._directory = Directory()

    def record(self, raws: Sequence[Raw], now: datetime) -> Outcome:
        """Store a batch in one transaction. A failure of the database is raised and leaves nothing behind."""
        outcome, sums = Outcome(), Sums()
        with transaction.atomic(), connection.cursor() as cursor:
            arrivals = _arrivals(cursor, raws, now, outcome)
            batch = Batch(now, outcome, sums)
            doubtful: list[Arrival] = []
            with cursor.copy(rows.COPY) as copy:
                copy.write(rows.HEADER)
                for start in range(0, len(arrivals), CHUNK):
                    # The database parses a chunk while the next one is packed.
                    copy.write(self._pack(arrivals[start : start + CHUNK], batch, doubtful))
                copy.write(rows.TRAILER)
            if doubtful:  # apart, since a name not met before is looked up on this same connection
                packed = self._pack_doubtful(doubtful, batch)
                with cursor.copy(rows.COPY) as copy:
                    copy.write(rows.HEADER + packed + rows.TRAILER)
            sums.add(cursor)
            if outcome.rejected:
                quarantine(rejected=outcome.rejected)
        return outcome

    def _pack(self, arrivals: Sequence[Arrival], batch: "Batch", doubtful: list[Arrival]) -> bytes:
        """Return the rows of the messages that are beyond doubt; add the others to `doubtful`."""
        packed: list[bytes] = []
        for arrival in arrivals:
            good = self._quickly(arrival, batch.window)
            if good is None:
                doubtful.append(arrival)
            elif row := batch.row(arrival, good):
                packed.append(row)
        return b"".join(packed)

    def _pack_doubtful(self, arrivals: Sequence[Arrival], batch: "Batch") -> bytes:
        """Return the rows of the messages that prove good, and refuse the others."""
        packed: list[bytes] = []
        for arrival in arrivals:
            raw, source, generation, _, _ = arrival
            try:
                good = self._strictly(raw, source, generation, batch.now)
            except RefusedError as refusal:
                batch.outcome.rejected.append(refusal.of(raw))
            else:
                packed.append(batch.row(arrival, good))
        return b"".join(packed)

    def _quickly(self, arrival: Arrival, window: tuple[int, int]) -> Good | None:
        """Accept a message that is beyond doubt; None for all others, which `_strictly` then judges.

        Says yes only where `_strictly` does. Most of a strict decode goes into regular expressions on names;
        here the names are compared with those of a sender that has passed them before.
        """
        raw, source, generation, _, _ = arrival
        sender = self._directory.known(source, generation)
        if sender is None or sender.subject != raw.subject or TYPE_LINE not in raw.headers:
            return None
        try:
            body = decode_quickly(raw.body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        ts, kpis = rows.microseconds(body.ts), body.kpis
        if (
            body.subsidiary != sender.unit
            or body.role != sender.role
            or not window[0] <= ts <= window[1]
            or kpis.throughput_per_day + kpis.innovation_landings_mo > MAX_VALUE
            or len(raw.body) > MAX_KPI_BYTES
        ):
            return None
        for key, value in body.okrs.items():
            if not isinstance(value, OKR_TYPES.get(key, ())) or b"\\u0000" in raw.body:
                return None
        return sender, ts, kpis, body.okrs

    def _strictly(self, raw: Raw, source: bytes, generation: bytes, now: datetime) -> Good:
        body = decode(raw, now)
        sender = self._sender(source, generation, body)
        return sender, rows.microseconds(body.ts), body.kpis, body.okrs

    def _sender(self, source: bytes, generation: bytes, body: KpiSample) -> Sender:
        try:
            if not source:
                return self._directory.anonymous(body.subsidiary, body.role)
            sender = self._directory.sender(source, generation)
        except SenderError as error:
            raise RefusedError("semantic", error.rule, str(error)) from None
        if sender.unit != body.subsidiary or sender.role != body.role:
            raise RefusedError("semantic", "source-mismatch", f"{source[:200]!r} is another unit or role")
        return sender


class Batch:
    """What the messages of one batch share while they become rows."""

    def __init__(self, now: datetime, outcome: Outcome, sums: "Sums") -> None:
        self.now = now
        self.outcome = outcome
        self.window = rows.microseconds(now - KPI_MAX_AGE), rows.microseconds(now + KPI_MAX_AHEAD)
        self._sums = sums
        self._received = rows.microseconds(now)
        self._kept_from = rows.microseconds(now - timedelta(hours=settings.KPI_RETENTION_HOURS))

    def row(self, arrival: Arrival, good: Good) -> bytes:
        """Return a good message as a row, or b"" if it is too old to be kept; sum it up."""
        raw, _, _, fenced, stale = arrival
        sender, ts, kpis, okrs = good
        row = rows.row(ts, self._received, raw.seq, sender, kpis, okrs, fenced)
        if stale:
            self.outcome.stale += 1
        else:
            self._sums.count(ts // rows.MINUTE, sender.cell, kpis)
            if sender.key:
                self.outcome.last.append((sender.key, ts, row))
        if ts < self._kept_from:
            self.outcome.expired += 1
            return b""
        self.outcome.stored += 1
        return row


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
        raise RefusedError("schema", "schema", str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RefusedError("json", "not-json", str(error)) from None
    if TYPE_LINE not in raw.headers and (given := header(raw.headers, b"ce-type")):
        raise RefusedError("type", "type-unknown", f"{given[:100]!r} is not {TYPE}")
    if rule := validate_kpi(_tokens(raw.subject), None, body, now):
        raise RefusedError("semantic", rule, _detail(rule, raw, body))
    kpis = body.kpis
    if kpis.throughput_per_day + kpis.innovation_landings_mo > MAX_VALUE:
        raise RefusedError("semantic", "out-of-range", f"a KPI is beyond {MAX_VALUE:g} - at `$.kpis`")
    if b"\\u0000" in data and any("\0" in value for value in body.okrs.values() if isinstance(value, str)):
        raise RefusedError("semantic", "okr-type", "a NUL character - at `$.okrs`")
    return body


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


def _value(headers: bytes, name: bytes) -> bytes:
    """Return a header's value as bytes; `name` with the line break before and the colon after it."""
    start = headers.find(name)
    if start < 0:
        return b""
    start += len(name)
    return headers[start : headers.find(b"\r\n", start)].strip()


def _arrivals(cursor: CursorWrapper, raws: Sequence[Raw], now: datetime, outcome: Outcome) -> list[Arrival]:
    """Read the headers, leave out what was received before, and note the rest as received."""
    marks = Marks(raws[0].stream)
    numbered: list[tuple[Raw, bytes, bytes, Mark, int]] = []
    others: dict[UUID, Arrival] = {}
    for raw in raws:
        headers = raw.headers
        source = _value(headers, b"\r\nce-source:")
        generation = _value(headers, b"\r\nClaytom-Generation:") if CORPORATE in source else b""
        seq = _value(headers, b"\r\nClaytom-Seq:")
        if not seq:
            epoch = _value(headers, b"\r\nClaytom-Epoch:")
            fenced = rows.fence(int(epoch) if epoch.isdigit() and len(epoch) <= MAX_DIGITS else None, stale=False)
            others[sample_key(raw, source)] = (raw, source, generation, fenced, False)
            continue
        try:
            mark, number = marks.of(seq, raw.subject)
        except SeqError as error:
            outcome.rejected.append(RefusedError("semantic", "seq-malformed", str(error)).of(raw))
        else:
            numbered.append((raw, source, generation, mark, number))
    marks.lock(cursor)
    arrivals: list[Arrival] = []
    for raw, source, generation, mark, number in numbered:
        if mark.admit(number):
            stale = marks.is_stale(mark)
            arrivals.append((raw, source, generation, mark.fences[stale], stale))
    marks.extend(cursor)
    if others:
        new = remember(cursor, others, now)
        arrivals.extend(arrival for key, arrival in others.items() if key in new)
    outcome.duplicates = len(raws) - len(arrivals) - len(outcome.rejected)
    return arrivals


class Sums:
    """The minute sums of one batch."""

    def __init__(self) -> None:
        self._cells: dict[tuple[int, tuple[int, str]], list[float]] = {}

    def count(self, minute: int, cell: tuple[int, str], kpis: Kpis) -> None:
        """Add one sample; `minute` counts from 2000."""
        total = self._cells.get((minute, cell))
        if total is None:
            total = self._cells[minute, cell] = [0, 0.0, 0.0, 0.0, 0.0, 0.0]
        total[0] += 1
        total[1] += kpis.throughput_per_day
        total[2] += kpis.quality_score
        total[3] += kpis.sla_met_pct
        total[4] += kpis.innovation_landings_mo
        total[5] += kpis.training_hours_w

    def add(self, cursor: CursorWrapper) -> None:
        """Add the sums to the table."""
        if not self._cells:
            return
        keys = self._cells.keys()
        minutes, units = [minute for minute, _ in keys], [unit for _, (unit, _) in keys]
        roles = [role for _, (_, role) in keys]
        columns = [list(column) for column in zip(*self._cells.values(), strict=True)]
        cursor.execute(ADD, [minutes, units, roles, *columns])
