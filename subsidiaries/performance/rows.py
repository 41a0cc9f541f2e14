"""Samples as rows of PostgreSQL's binary COPY, packed by hand.

psycopg's `write_row` looks up a dumper for each value; one `struct` call for all fixed columns and prepared
bytes for what repeats cost a quarter of it (docs/performance.md has the figures).
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
    "ts", "received_at", "seq", "unit_id", "ordinal", "generation", "role", *KPIS, "epoch", "stale", "okrs"
)  # fmt: skip
WIDTH: Final = len(COLUMNS)
COPY: Final = f"copy performance_kpisample ({', '.join(COLUMNS)}) from stdin (format binary)"
HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER: Final = b"\xff\xff"
EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
EPOCH_SECONDS: Final = EPOCH.timestamp()
MINUTE: Final = 60_000_000  # microseconds

_TIMES: Final = Struct("!hiqiqiq")
_KPIS: Final = Struct("!ididididid")
_FENCE: Final = Struct("!iqi?")
_UNFENCED: Final = Struct("!ii?").pack(-1, 1, False)
_OKRS: Final = Struct("!ib")
_NULL: Final = Struct("!i").pack(-1)
_encode = msgspec.json.Encoder().encode


def microseconds(moment: datetime) -> int:
    """Return a time as PostgreSQL counts it: microseconds since 2000."""
    return round((moment.timestamp() - EPOCH_SECONDS) * 1e6)


def fence(epoch: int | None, stale: bool) -> bytes:
    """Pack the columns epoch and stale, the same for all of a division's samples."""
    return _UNFENCED if epoch is None else _FENCE.pack(8, epoch, 1, stale)


def row(
    ts: int,
    received: int,
    seq: int,
    sender: Sender,
    kpis: Kpis,
    okrs: Mapping[str, str | float],
    fenced: bytes,
) -> bytes:
    """Pack one row; times in microseconds since 2000."""
    packed = (
        _TIMES.pack(WIDTH, 8, ts, 8, received, 8, seq)
        + sender.columns
        + _KPIS.pack(
            8, kpis.throughput_per_day,
            8, kpis.quality_score,
            8, kpis.sla_met_pct,
            8, kpis.innovation_landings_mo,
            8, kpis.training_hours_w,
        )
        + fenced
    )  # fmt: skip
    if not okrs:
        return packed + _NULL
    encoded = _encode(okrs)
    return packed + _OKRS.pack(len(encoded) + 1, 1) + encoded  # 1: the version of jsonb's binary form
