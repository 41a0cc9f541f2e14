"""The last value of each seat, and how many seats were heard of when: derived from the samples.

Values are noted in memory as batches commit, and written at most once a second. That is safe because they
follow from the samples and a later `ts` always wins: what a killed process had not written is never wrong,
only old, until `REBUILD` at the next start or the seat's next sample.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from django.db.backends.utils import CursorWrapper

from claytom_agent.messages import KpiSample
from subsidiaries.performance.models import KPIS
from subsidiaries.performance.senders import Sender

BUCKET_SECONDS: Final = 10

FLUSH: Final = """
    insert into performance_kpilatest as k (id, unit_id, ordinal, role, generation, ts, throughput_per_day,
           quality_score, sla_met_pct, innovation_landings_mo, training_hours_w)
    select id, unit_id, ordinal, role, generation,
           timestamptz '2000-01-01 00:00:00+00' + ts * interval '1 microsecond', a, b, c, d, e
      from unnest(%s::bigint[], %s::bigint[], %s::int[], %s::text[], %s::int[], %s::bigint[], %s::float8[],
                  %s::float8[], %s::float8[], %s::float8[], %s::float8[])
           as t(id, unit_id, ordinal, role, generation, ts, a, b, c, d, e)
     order by id
    on conflict (id) do update set
           role = excluded.role, generation = excluded.generation, ts = excluded.ts,
           throughput_per_day = excluded.throughput_per_day, quality_score = excluded.quality_score,
           sla_met_pct = excluded.sla_met_pct, innovation_landings_mo = excluded.innovation_landings_mo,
           training_hours_w = excluded.training_hours_w
     where excluded.ts > k.ts
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
    with heard as (
        select unit_id, second, count(*) as seats
          from (select unit_id, floor(extract(epoch from ts) / %(bucket)s)::bigint * %(bucket)s as second
                  from performance_kpilatest where ts >= %(since)s) as latest
         group by unit_id, second
    ), staffed as (
        select unit_id, count(*) as seats from holding_seat where desired = 'run' group by unit_id
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


class Last(NamedTuple):
    """A seat's sample that may be its last one."""

    ts: int  # microseconds since 2000
    sender: Sender
    body: KpiSample


class LastValues:
    """The values noted and not yet written."""

    def __init__(self) -> None:
        self._pending: dict[int, Last] = {}

    def note(self, lasts: Iterable[Last]) -> None:
        """Note committed samples."""
        pending = self._pending
        for last in lasts:
            known = pending.get(last.sender.key)
            if known is None or last.ts > known.ts:
                pending[last.sender.key] = last

    def flush(self, cursor: CursorWrapper) -> int:
        """Write what was noted and return how much; if the database fails, all stays noted."""
        lasts = list(self._pending.values())
        if not lasts:
            return 0
        senders = [last.sender for last in lasts]
        kpis = [last.body.kpis for last in lasts]
        columns: list[list[object]] = [
            [sender.key for sender in senders],
            [sender.cell[0] for sender in senders],
            [sender.ordinal for sender in senders],
            [sender.role for sender in senders],
            [sender.generation for sender in senders],
            [last.ts for last in lasts],
            *([getattr(values, name) for values in kpis] for name in KPIS),
        ]
        cursor.execute(FLUSH, columns)
        self._pending.clear()
        return len(lasts)
