"""A full stream of KPI samples, and the two ways to get it into the database."""

import asyncio
import cProfile
import os
import pstats
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import uvloop
from django.conf import settings

from benchmarks.measuring import Cost, costing
from bus import leases, pull
from bus.ensure import ensure_streams
from bus.feeds import Raw
from claytom_agent.client import Bus, Outgoing, event_headers, iso
from claytom_agent.messages import decode_kpi, encode
from claytom_agent.subjects import ROLE_CODES
from deployment.embedded.postgres import Postgres
from holding.models import Seat
from subsidiaries.performance import handlers, rows, services
from subsidiaries.performance.models import KpiMinute, KpiSample
from subsidiaries.performance.senders import Directory

BATCH = handlers.FEED.batch


class Load:
    """The whole holding's samples, one of each agent in turn, as hosts send them: division by division."""

    def __init__(self, postgres: Postgres) -> None:
        with psycopg.connect(postgres.superuser_url()) as connection:
            connection.execute("create table kpi_reference (like performance_kpisample including all)")
            connection.execute("grant select, insert on kpi_reference to claytom_ingest")
        # The ingest's role may not load a holding, and this process is the ingest.
        subprocess.run(
            [sys.executable, "manage.py", "load_holding", "holding/data/holding.yaml", "--yes"],
            cwd=settings.BASE_DIR,
            env={**os.environ, "DATABASE_ROLE": "app"},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        seats = Seat.objects.filter(role__isnull=False).order_by("division_id", "ordinal")
        self._agents = list(seats.values_list("division__key", "unit__slug", "role__slug", "ordinal"))
        self._directory = Directory()
        services.maintain_partitions()

    def fill(self, n: int, *, epoch: int) -> list[bytes]:
        """Put `n` samples into the stream; return their rows, in batches as the ingest commits them."""
        divisions = sorted({division for division, *_ in self._agents})
        leases.note(leases=[leases.Lease(key, epoch, "benchmark", datetime.now(UTC)) for key in divisions])
        messages = self._messages(n, epoch)
        uvloop.run(_publish(messages))
        received, fence = rows.received(datetime.now(UTC)), rows.fence(epoch, stale=False)
        packed = []
        for number, message in enumerate(messages, 1):
            body = decode_kpi(message.body)
            sender = self._directory.sender((message.headers["ce-source"].encode(), b""))
            ts = rows.microseconds(body.ts)
            packed.append(rows.row(ts, received, number, body.kpis, body.okrs, fence, sender))
        return [b"".join(packed[start : start + BATCH]) for start in range(0, n, BATCH)]

    def _messages(self, n: int, epoch: int) -> list[Outgoing]:
        numbers: dict[str, int] = {}
        start = datetime.now(UTC) - timedelta(minutes=2)
        messages = []
        for index in range(n):
            key, unit, role, ordinal = self._agents[index % len(self._agents)]
            numbers[key] = number = numbers.get(key, 0) + 1
            agent = f"{ROLE_CODES[role]}-{ordinal:04d}-g1"
            ts = iso(start + timedelta(milliseconds=number * 2))
            body = {
                "ts": ts,
                "subsidiary": unit,
                "role": role,
                "kpis": {
                    "throughput_per_day": 40 + index % 17,
                    "quality_score": 90 + index % 9 + 0.25,
                    "sla_met_pct": 95.5,
                    "innovation_landings_mo": 0.25,
                    "training_hours_w": 3.5,
                },
                "okrs": {"O1": "Fewer open cases", "KR1": index % 10, "KR2": 0.5},
            }
            headers = event_headers(
                ce_type="org.claytom.kpi.sample.v1",
                source=f"org.claytom.{unit}.{role}.{agent}",
                id=f"kpi-{unit}-{agent}-{ts}-{epoch}",
                time=ts,
                epoch=epoch,
                seq=f"{key}.{epoch}.{number}",
            )
            messages.append(Outgoing(f"org.claytom.{unit}.metrics.kpi", encode(body), headers))
        return messages

    def ingest(self, n: int, *, profile: bool = False) -> Cost:
        """Pull `n` samples out of the stream; return the cost from connecting to the last commit."""
        profiler = cProfile.Profile() if profile else None
        wall, cpu = time.perf_counter(), time.process_time()
        ended = uvloop.run(_pull(n, profiler))
        if profiler is not None:
            pstats.Stats(profiler).sort_stats("tottime").print_stats(25)
        return Cost(n, ended[0] - wall, ended[1] - cpu)

    def copy(self, n: int, batches: Sequence[bytes]) -> Cost:
        """Copy `n` packed rows, a transaction for each batch."""
        costs: list[Cost] = []
        statement = rows.COPY.replace("performance_kpisample", "kpi_reference")
        with psycopg.connect(settings.DATABASE_INGEST_URL) as connection, costing(n, costs):
            for batch in batches:
                with connection.cursor() as cursor, cursor.copy(statement) as copy:
                    copy.write(rows.HEADER + batch + rows.TRAILER)
                connection.commit()
        return costs[0]

    def verify(self, n: int) -> None:
        """Raise if a row was lost, doubled or summed wrongly."""
        stored = KpiSample.objects.count()
        counted = sum(KpiMinute.objects.values_list("n", flat=True))
        if (stored, counted) != (n, n):
            raise RuntimeError(f"{n} samples were sent, {stored} stored, {counted} summed")


async def _publish(messages: Sequence[Outgoing]) -> None:
    bus = await Bus.connect(settings.NATS_URL, name="benchmark", inbox_prefix="_INBOX_bench")
    try:
        await ensure_streams(bus)
        await asyncio.gather(
            *(bus.js_publish_batch(messages[start : start + 500]) for start in range(0, len(messages), 500))
        )
    finally:
        await bus.close()


async def _pull(n: int, profiler: cProfile.Profile | None) -> tuple[float, float]:
    """Pull until `n` samples are committed; return the wall and processor time at that moment."""
    stop, loop, left = asyncio.Event(), asyncio.get_running_loop(), n
    ended = 0.0, 0.0

    def handle(raws: Sequence[Raw]) -> None:
        nonlocal left, ended
        if profiler is not None:
            profiler.enable()
        handlers.FEED.handle(raws)
        if profiler is not None:
            profiler.disable()
        left -= len(raws)
        if left <= 0:
            ended = time.perf_counter(), time.process_time()
            loop.call_soon_threadsafe(stop.set)

    await pull.run([replace(handlers.FEED, handle=handle, start=None)], settings.NATS_URL, stop)
    return ended
