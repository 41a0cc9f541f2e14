"""The tables of PMON at full size, and the acts on them that are timed (milliseconds)."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from statistics import median

import psycopg
from django.conf import settings
from django.db import connection
from django.db.models import Avg, Count
from django.utils import timezone

from deployment.embedded.postgres import Postgres
from holding.models import Unit
from subsidiaries.performance import services
from subsidiaries.performance.models import KPIS, KpiLatest, KpiMinute, KpiSample

SAMPLES = """
    insert into {table} (seq, ts, received_at, unit_id, role, ordinal, generation, throughput_per_day,
           quality_score, sla_met_pct, innovation_landings_mo, training_hours_w, okrs, epoch, stale)
    select n, t.ts, t.ts, 1 + mod(n, 35), (array['operator', 'specialist', 'director'])[1 + mod(n, 3)],
           1 + mod(n, 1500), 1, 40 + mod(n, 17), 90 + mod(n, 9), 95.5, 0.25, 3.5, null, 7, false
      from generate_series(1, %(rows)s) n,
           lateral (select %(start)s::timestamptz + n * (%(span)s::interval / %(rows)s) as ts) t
"""
MINUTES = """
    insert into performance_kpiminute (minute, unit_id, role, n, sum_throughput_per_day, sum_quality_score,
           sum_sla_met_pct, sum_innovation_landings_mo, sum_training_hours_w)
    select date_trunc('minute', now()) - m * interval '1 minute', u.id, r, 294, 11760, 26460, 27930, 73, 1029
      from generate_series(0, 1439) m, holding_unit u,
           unnest(array['director', 'coordinator', 'specialist', 'innovator', 'operator']) r
"""
LATEST = """
    insert into performance_kpilatest (id, unit_id, ordinal, role, generation, ts, throughput_per_day,
           quality_score, sla_met_pct, innovation_landings_mo, training_hours_w)
    select unit_id * 10000000 + ordinal, unit_id, ordinal, 'operator', 1, now() - random() * interval '1 minute',
           40, 90, 95, 0.25, 3.5
      from holding_seat
"""
HOUR = """
    select unit_id, role, count(seq), avg(throughput_per_day), avg(quality_score), avg(sla_met_pct),
           avg(innovation_landings_mo), avg(training_hours_w)
      from performance_kpisample
     where ts >= %s and ts < %s and not stale
     group by unit_id, role
"""
READS = 50


def milliseconds(act: Callable[[], object]) -> float:
    """Return how long an act takes."""
    began = time.perf_counter()
    act()
    return round((time.perf_counter() - began) * 1000, 3)


class Tables:
    """A loaded holding with partitions; `fill` brings the rows."""

    def __init__(self, postgres: Postgres) -> None:
        # The ingest's role may not load a holding, and this process is the ingest.
        subprocess.run(
            [sys.executable, "manage.py", "load_holding", "holding/data/holding.yaml", "--yes"],
            cwd=settings.BASE_DIR,
            env={**os.environ, "DATABASE_ROLE": "app"},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        with psycopg.connect(postgres.superuser_url()) as superuser:
            superuser.execute("create table kpi_deleted (like performance_kpisample including all)")
            superuser.execute("grant select, insert, delete on kpi_deleted to claytom_ingest")
        services.maintain_partitions()
        self._superuser = postgres.superuser_url()
        self._this_hour = timezone.now().replace(minute=0, second=0, microsecond=0)

    def fill(self, rows: int) -> None:
        """Spread `rows` samples over seven hours, this one the last; bring the aggregates to full size."""
        self._insert("performance_kpisample", rows, self._this_hour - timedelta(hours=6), timedelta(hours=7))
        with connection.cursor() as cursor:
            cursor.execute(MINUTES)
            cursor.execute(LATEST)
        services.count_coverage()
        with psycopg.connect(self._superuser, autocommit=True) as superuser:
            superuser.execute("vacuum analyze")

    def _insert(self, table: str, rows: int, start: datetime, span: timedelta) -> None:
        with connection.cursor() as cursor:
            cursor.execute(SAMPLES.format(table=table), {"rows": rows, "start": start, "span": str(span)})

    def hour_by_orm(self) -> float:
        """Group the last full hour's samples as the portal would."""
        hour = self._this_hour - timedelta(hours=1)
        rows = (
            KpiSample.objects.filter(ts__gte=hour, ts__lt=self._this_hour, stale=False)
            .values_list("unit_id", "role")
            .annotate(Count("seq"), *(Avg(kpi) for kpi in KPIS))
            .order_by()
        )
        return milliseconds(lambda: list(rows))

    def hour_by_hand(self) -> float:
        """Group the same samples by SQL written by hand."""
        hours = [self._this_hour - timedelta(hours=1), self._this_hour]
        with connection.cursor() as cursor:
            return milliseconds(lambda: (cursor.execute(HOUR, hours), cursor.fetchall()))

    def page_reads(self) -> dict[str, float]:
        """Time the reads of pages; the median of each."""
        now = timezone.now()
        unit = Unit.objects.get(slug="pricing").pk
        seats = [(unit, ordinal) for ordinal in range(1, 101)]
        reads: dict[str, Callable[[], object]] = {
            "overview, 5 minutes": lambda: KpiMinute.objects.for_overview(now - timedelta(minutes=5)),
            "roles of a unit, 5 minutes": lambda: KpiMinute.objects.for_roles(unit, now - timedelta(minutes=5)),
            "series of a unit, 30 minutes": lambda: KpiMinute.objects.series(unit, now - timedelta(minutes=30)),
            "coverage": lambda: KpiLatest.objects.coverage(now),
            "last values of 100 seats": lambda: KpiLatest.objects.for_seats(seats),
        }
        return {name: median(milliseconds(read) for _ in range(READS)) for name, read in reads.items()}

    def drop_expired(self, rows: int) -> float:
        """Fill the oldest hour, and time the upkeep that finds it expired."""
        services.maintain_partitions()
        self._insert("performance_kpisample", rows, self._this_hour - timedelta(hours=6), timedelta(minutes=59))
        with connection.cursor() as cursor:
            return milliseconds(lambda: cursor.execute("select performance_maintain_partitions(5, 3)"))

    def delete_expired(self, rows: int) -> float:
        """Fill a table of the same form and time the deletion of its rows."""
        self._insert("kpi_deleted", rows, self._this_hour - timedelta(hours=6), timedelta(minutes=59))
        with connection.cursor() as cursor:
            return milliseconds(
                lambda: cursor.execute("delete from kpi_deleted where ts < now() - interval '5 hours'")
            )
