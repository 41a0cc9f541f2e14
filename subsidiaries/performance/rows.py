"""Samples as rows of PostgreSQL's binary COPY, packed by hand.

psycopg's `write_row` looks up a dumper for each value; one `struct` call for the columns that change and
prepared bytes for what repeats cost a tenth of it (docs/performance.md has the figures).
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from struct import Struct
from typing import Final

import msgspec

from claytom_agent.messages import Kpis
from subsidiaries.performance.models import KPIS
from subsidiaries.performance.senders import Sender

COLUMNS: Final = (
    "ts",
    "received_at",
    "seq",
    *KPIS,
    "epoch",
    "stale",
    "unit_id",
    "ordinal",
    "generation",
    "role",
    "okrs",
)  # what is packed for each row, what a sender has ready, what varies in length
WIDTH: Final = len(COLUMNS)
COPY: Final = f"copy performance_kpisample ({', '.join(COLUMNS)}) from stdin (format binary)"
HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER: Final = b"\xff\xff"
EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
MINUTE: Final = 60_000_000  # microseconds

_EIGHT: Final = Struct("!i").pack(8)  # the length of what follows; packed faster as bytes than as a number
_FIRST: Final = Struct("!hi").pack(WIDTH, 8)
_NUMBERS: Final = Struct("!6sq 12s4sq 4sd4sd4sd4sd4sd")
_RECEIVED: Final = Struct("!iq")
_FENCE: Final = Struct("!iqi?")
_NO_FENCE: Final = Struct("!ii?")
_OKRS: Final = Struct("!ib")
_NULL: Final = Struct("!i").pack(-1)
_encode = msgspec.json.Encoder().encode


def microseconds(moment: datetime) -> int:
    """Return a time as PostgreSQL counts it: microseconds since 2000."""
    since = moment - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def received(at: datetime) -> bytes:
    """Pack the column received_at, the same for a whole batch."""
    return _RECEIVED.pack(8, microseconds(at))


def fence(epoch: int | None, *, stale: bool) -> bytes:
    """Pack the columns epoch and stale, the same for all that a host sends of a division at once."""
    return _NO_FENCE.pack(-1, 1, stale) if epoch is None else _FENCE.pack(8, epoch, 1, stale)


def row(
    ts: int,
    received_at: bytes,
    seq: int,
    kpis: Kpis,
    okrs: Mapping[str, str | float],
    fenced: bytes,
    sender: Sender,
) -> bytes:
    """Pack one row; `ts` in microseconds since 2000, `received_at` and `fenced` packed before."""
    packed = (
        _NUMBERS.pack(
            _FIRST, ts,
            received_at, _EIGHT, seq,
            _EIGHT, kpis.throughput_per_day,
            _EIGHT, kpis.quality_score,
            _EIGHT, kpis.sla_met_pct,
            _EIGHT, kpis.innovation_landings_mo,
            _EIGHT, kpis.training_hours_w,
        )
        + fenced
        + sender.columns
    )  # fmt: skip
    if not okrs:
        return packed + _NULL
    encoded = _encode(okrs)
    return packed + _OKRS.pack(len(encoded) + 1, 1) + encoded  # 1: the version of jsonb's binary form
