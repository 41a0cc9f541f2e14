"""Service levels of ARP: per unit and of the holding, over a day, a week and a month.

They are exact, computed from the replacements of the span by the database, and kept as rows that pages, the API and
`/metrics` read: the last day every minute, the longer spans less often. A row says as of when it holds. They
are about losses: promotions, rollouts and planned retirements are none.

- Detection: from the first sign that an agent is lost (a report that says failed, or that leaves it out) until the
  decision, confirmation included. Restored: from the first sign until the new agent is live.
- Seconds below the floor: of the unit, within the span; of the holding, the sum of its units'.
- Duplicates: seats that hosts with valid leases told two live agents of (`holders.py`).
- Cost: replacements times the unit cost of the staffing rule, which is 0 until the house sets one.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from django.db import connection, transaction
from django.utils import timezone

from subsidiaries.replacement.models import Incident, Replacement, ServiceLevel

Span = ServiceLevel.Span
LENGTHS: Final = {Span.DAY: timedelta(hours=24), Span.WEEK: timedelta(days=7), Span.MONTH: timedelta(days=30)}
PERIODS: Final = {
    Span.DAY: timedelta(seconds=55),
    Span.WEEK: timedelta(minutes=5),
    Span.MONTH: timedelta(minutes=15),
}
"""How old a row may become before it is computed again."""
BRAKES: Final = [Incident.Kind.SILENCE.value, Incident.Kind.MASS_SILENCE.value]

COMPUTE: Final = """
    with recent as (
        select unit_id, live_at, failed_at,
               greatest(0, extract(epoch from decided_at - detected_at))::float as detected,
               case when live_at is not null
                    then greatest(0, extract(epoch from live_at - detected_at))::float end as restored
          from replacement_replacement
         where decided_at > %(since)s and decided_at <= %(now)s and not reason = any(%(on_purpose)s)
    ), figures as (
        select unit_id, count(*) as replaced, count(failed_at) as short_lived,
               count(*) filter (where live_at is null and failed_at is null) as waiting,
               percentile_cont(array[0.5, 0.95]) within group (order by detected) as detection,
               percentile_cont(array[0.5, 0.95]) within group (order by restored) as restoring,
               max(detected) as detected, max(restored) as restored
          from recent group by grouping sets ((unit_id), ())
    ), below as (
        select unit_id, sum(extract(epoch from least(coalesce(ended_at, %(now)s), %(now)s)
                                               - greatest(began_at, %(since)s)))::float as seconds
          from replacement_floorbreach
         where (ended_at is null or ended_at > %(since)s) and began_at < %(now)s
         group by grouping sets ((unit_id), ())
    ), double as (
        select unit_id, count(distinct seat_id) as seats from replacement_doubleholder
         where last_at > %(since)s group by grouping sets ((unit_id), ())
    ), brake as (
        select unit_id, count(*) as applied from replacement_incident
         where kind = any(%(brakes)s) and opened_at > %(since)s group by grouping sets ((unit_id), ())
    ), place as (select id from holding_unit union all select null)
    insert into replacement_servicelevel
           (unit_id, span, as_of, replaced, waiting, short_lived, detect_p50, detect_p95, detect_max,
            restore_p50, restore_p95, restore_max, seconds_below, duplicates, brakes, cost)
    select place.id, %(span)s, %(now)s, coalesce(replaced, 0), coalesce(waiting, 0), coalesce(short_lived, 0),
           detection[1], detection[2], detected, restoring[1], restoring[2], restored,
           coalesce(seconds, 0), coalesce(seats, 0), coalesce(applied, 0),
           coalesce(replaced, 0) * coalesce((select unit_cost from replacement_staffingrule), 0)
      from place
      left join figures on figures.unit_id is not distinct from place.id
      left join below on below.unit_id is not distinct from place.id
      left join double on double.unit_id is not distinct from place.id
      left join brake on brake.unit_id is not distinct from place.id
     order by place.id
    on conflict (unit_id, span) do update set
           as_of = excluded.as_of, replaced = excluded.replaced, waiting = excluded.waiting,
           short_lived = excluded.short_lived, detect_p50 = excluded.detect_p50, detect_p95 = excluded.detect_p95,
           detect_max = excluded.detect_max, restore_p50 = excluded.restore_p50, restore_p95 = excluded.restore_p95,
           restore_max = excluded.restore_max, seconds_below = excluded.seconds_below,
           duplicates = excluded.duplicates, brakes = excluded.brakes, cost = excluded.cost
     where replacement_servicelevel.as_of < excluded.as_of
"""


def refresh(*, now: datetime | None = None, spans: Iterable[ServiceLevel.Span] | None = None) -> list[str]:
    """Compute the levels whose rows have become too old, or of the `spans` given; return which were."""
    now = now or timezone.now()
    due = list(spans) if spans is not None else [span for span in Span if _is_due(span, now)]
    for span in due:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                COMPUTE,
                {
                    "since": now - LENGTHS[span],
                    "now": now,
                    "span": span.value,
                    "brakes": BRAKES,
                    "on_purpose": [reason.value for reason in Replacement.ON_PURPOSE],
                },
            )
    return [span.value for span in due]


def _is_due(span: ServiceLevel.Span, now: datetime) -> bool:
    newest = ServiceLevel.objects.filter(span=span).order_by("-as_of").values_list("as_of", flat=True).first()
    # A row ahead of now is of a clock that was set back: the statement leaves it, until time has caught up.
    return newest is None or newest <= now - PERIODS[span]


def read(span: ServiceLevel.Span) -> tuple[ServiceLevel | None, list[ServiceLevel]]:
    """Return the levels of the holding (None where it is not in view whole), and of each unit in view, in order."""
    rows = list(ServiceLevel.objects.filter(span=span).select_related("unit").order_by("unit__position"))
    whole = next((row for row in rows if row.unit_id is None), None)
    return whole, [row for row in rows if row.unit_id is not None]
