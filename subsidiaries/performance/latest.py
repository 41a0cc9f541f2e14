"""The last value of each seat, and how many seats were heard of when: derived from the samples.

Values are noted in memory as batches commit, and written at most once a second. That is safe because they
follow from the samples and a later `ts` always wins: what a killed process had not written is never wrong,
only old, until `REBUILD` at the next start or the seat's next sample.
"""

from collections.abc import Iterable
from typing import Final

from django.db.backends.utils import CursorWrapper

from claytom_agent.subjects import MAX_ORDINAL
from subsidiaries.performance import rows

BUCKET_SECONDS: Final = 10

STAGE: Final = """
    create temporary table if not exists kpi_last (like performance_kpisample) on commit delete rows
"""
STAGE_COPY: Final = rows.COPY.replace("performance_kpisample", "kpi_last")
UPDATE: Final = """
    update performance_kpilatest k
       set role = n.role, generation = n.generation, ts = n.ts, throughput_per_day = n.throughput_per_day,
           quality_score = n.quality_score, sla_met_pct = n.sla_met_pct,
           innovation_landings_mo = n.innovation_landings_mo, training_hours_w = n.training_hours_w
      from kpi_last n
     where k.id = n.unit_id::bigint * %s + n.ordinal and n.ts > k.ts
"""
INSERT: Final = """
    insert into performance_kpilatest (id, unit_id, ordinal, role, generation, ts, throughput_per_day,
           quality_score, sla_met_pct, innovation_landings_mo, training_hours_w)
    select n.unit_id::bigint * %(seats)s + n.ordinal, n.unit_id, n.ordinal, n.role, n.generation, n.ts,
           n.throughput_per_day, n.quality_score, n.sla_met_pct, n.innovation_landings_mo, n.training_hours_w
      from kpi_last n
     where not exists (
           select from performance_kpilatest k where k.id = n.unit_id::bigint * %(seats)s + n.ordinal)
    on conflict (id) do nothing
"""
REBUILD: Final = """
    insert into performance_kpilatest as k (id, unit_id, ordinal, role, generation, ts, throughput_per_day,
           quality_score, sla_met_pct, innovation_landings_mo, training_hours_w)
    select distinct on (unit_id, ordinal)
           unit_id::bigint * %s + ordinal, unit_id, ordinal, role, generation, ts, throughput_per_day,
           quality_score, sla_met_pct, innovation_landings_mo, training_hours_w
      from performance_kpisample
     where ts >= %s and ordinal is not null and not stale
     order by unit_id, ordinal, ts desc
    on conflict (id) do update set
           role = excluded.role, generation = excluded.generation, ts = excluded.ts,
           throughput_per_day = excluded.throughput_per_day, quality_score = excluded.quality_score,
           sla_met_pct = excluded.sla_met_pct, innovation_landings_mo = excluded.innovation_landings_mo,
           training_hours_w = excluded.training_hours_w
     where excluded.ts > k.ts
"""
COUNT_COVERAGE: Final = """
    with latest as materialized (  -- read once, not for each unit
        select unit_id, date_bin(make_interval(secs => %(bucket)s), ts, 'epoch') as bucket, count(*) as seats
          from performance_kpilatest where ts >= %(since)s
         group by 1, 2
    ), heard as (
        select unit_id, extract(epoch from bucket)::bigint as second, seats from latest
    ), staffed as (
        select unit_id, sum(wanted_running) as seats from holding_division group by unit_id
    )
    insert into performance_kpicoverage as c (unit_id, seats, buckets, as_of)
    select s.unit_id, s.seats,
           coalesce((select jsonb_object_agg(h.second, h.seats) from heard h where h.unit_id = s.unit_id), '{}'),
           %(now)s
      from staffed s
     order by s.unit_id
    on conflict (unit_id) do update set
           seats = excluded.seats, buckets = excluded.buckets, as_of = excluded.as_of
"""


Last = tuple[int, int, bytes]
"""A seat's sample that may be its last one: the seat's key, the time, the row as it was copied."""


class LastValues:
    """The values noted and not yet written. They are kept as packed rows, so writing them costs no packing."""

    def __init__(self) -> None:
        self._pending: dict[int, tuple[int, bytes]] = {}

    def note(self, lasts: Iterable[Last]) -> None:
        """Note committed samples."""
        pending = self._pending
        for key, ts, row in lasts:
            known = pending.get(key)
            if known is None or ts > known[0]:
                pending[key] = ts, row

    def flush(self, cursor: CursorWrapper) -> int:
        """Write what was noted, in the caller's transaction, and return how much.

        It stays noted until `forget`, which the caller calls after the commit.
        """
        if self._pending:
            cursor.execute(STAGE)
            with cursor.copy(STAGE_COPY) as copy:
                copy.write(rows.HEADER + b"".join(row for _, row in self._pending.values()) + rows.TRAILER)
            # Far quicker than one `on conflict do update`: nearly all rows exist, and stay on their page.
            cursor.execute(UPDATE, [MAX_ORDINAL + 1])
            if cursor.rowcount < len(self._pending):
                cursor.execute(INSERT, {"seats": MAX_ORDINAL + 1})
        return len(self._pending)

    def forget(self) -> None:
        """Forget what was noted: it is committed."""
        self._pending.clear()
