"""Recording KPI samples, and keeping what is derived from them up to date."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from bus import counters
from bus.feeds import Raw
from claytom_agent.messages import KPI_MAX_AGE
from claytom_agent.subjects import MAX_ORDINAL
from subsidiaries.performance import latest
from subsidiaries.performance.intake import Intake, Outcome
from subsidiaries.performance.latest import LastValues
from subsidiaries.performance.models import INTERVAL, KpiMinute, SampleKey

log = logging.getLogger("subsidiaries.performance")

AHEAD_HOURS = 3  # partitions that wait for hours to come: so long the upkeep may be down without a trace
MINUTES_KEPT = timedelta(days=35)
FLUSH_SECONDS = 1.0
FLUSH_SHARE = 0.03  # of the time, at most, goes into flushing: under a backlog it is done less often
COVERAGE_SECONDS = 5.0

_intake = Intake()
_last_values = LastValues()


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What `maintain_partitions` did: partitions made and dropped, rows found outside of all partitions."""

    created: int
    dropped: int
    misplaced: int


def record_samples(*, raws: Sequence[Raw], now: datetime | None = None) -> Outcome:
    """Store a batch of KPI messages, each once, in one transaction; refuse the bad ones into quarantine.

    Idempotent: messages that come again, in whatever batch, are dropped and counted. Last values are only
    noted in memory: they follow from the stored samples, so `flush_latest` may write them later, and what a
    killed process had not written is made good by `rebuild_latest` or by the seat's next sample. Raises the
    database's errors, and then nothing of the batch is stored.
    """
    outcome = _intake.record(raws, now or timezone.now())
    _last_values.note(outcome.last)
    stream = raws[0].stream
    for name, n in (
        ("claytom_duplicates_total", outcome.duplicates),
        ("claytom_stale_total", outcome.stale),
        ("claytom_kpi_expired_total", outcome.expired),
    ):
        if n:
            counters.add(name, n, stream=stream)
    return outcome


def flush_latest() -> int:
    """Write the last values noted since the last flush; return how many. An older `ts` never overwrites."""
    with transaction.atomic(), connection.cursor() as cursor:
        written = _last_values.flush(cursor)
    _last_values.forget()
    return written


def rebuild_latest(*, since: timedelta = 10 * INTERVAL) -> None:
    """Make good what a killed process had not flushed: last values from the stored samples."""
    with connection.cursor() as cursor:
        cursor.execute(latest.REBUILD, [MAX_ORDINAL + 1, timezone.now() - since])


def count_coverage() -> None:
    """Count how many seats of each unit were last heard of when (`KpiLatest.objects.coverage`)."""
    now = timezone.now()
    with connection.cursor() as cursor:
        cursor.execute(
            latest.COUNT_COVERAGE,
            {"bucket": latest.BUCKET_SECONDS, "since": now - 10 * INTERVAL, "now": now},
        )


def maintain_partitions() -> Upkeep:
    """Make the hours' partitions up to `AHEAD_HOURS` ahead, drop expired ones, forget expired sums and keys.

    The application's role owns no tables: a function of the owner does it, within bounds of its own. Rows
    that arrived while an hour had no partition are moved into it. Safe to call at any time by any process.
    """
    now = timezone.now()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "select created, dropped, misplaced from performance_maintain_partitions(%s, %s)",
            [settings.KPI_RETENTION_HOURS, AHEAD_HOURS],
        )
        upkeep = Upkeep(*cursor.fetchone())
    SampleKey.objects.filter(at__lt=now - KPI_MAX_AGE - timedelta(hours=1)).delete()
    KpiMinute.objects.filter(minute__lt=now - MINUTES_KEPT).delete()
    if upkeep.misplaced:
        # Somebody should know: the upkeep was down for hours, or clocks differ. Nothing is lost.
        log.error("%d samples had no partition of their own; they have been moved.", upkeep.misplaced)
        counters.add("claytom_kpi_misplaced_total", upkeep.misplaced)
    return upkeep


class Rhythm:
    """When the ingest does what need not be done for each batch."""

    def __init__(self) -> None:
        self._flush_at = self._coverage_at = self._upkeep_at = 0.0

    def tick(self) -> None:
        """Flush last values, count coverage and maintain partitions, each when it is due."""
        if (now := time.monotonic()) >= self._flush_at:
            flush_latest()
            took = time.monotonic() - now
            self._flush_at = time.monotonic() + max(FLUSH_SECONDS - 0.1, took / FLUSH_SHARE)
        if (now := time.monotonic()) >= self._coverage_at:
            count_coverage()
            self._coverage_at = now + COVERAGE_SECONDS
        if now >= self._upkeep_at:
            maintain_partitions()
            self._upkeep_at = now + 300
