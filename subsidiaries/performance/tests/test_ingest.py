"""The ingest process under faults: whatever is killed or restarted, each sample counts exactly once."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import IO, Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.models import Count, Max, Sum
from django.db.models.functions import TruncMinute
from django.utils import timezone

from bus.models import Counter, QuarantinedMessage
from claytom_agent.client import Bus, Disconnected, NoAnswerError, NobodyThereError, Outgoing
from holding.tests.factories import make_holding
from subsidiaries.performance import services
from subsidiaries.performance.handlers import FEED
from subsidiaries.performance.models import KPIS, KpiLatest, KpiMinute, KpiSample
from subsidiaries.performance.tests.disks import small_disk
from subsidiaries.performance.tests.factories import SUBJECT, make_body, make_headers
from tests.servers import SERVERS

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def streams(nats_clean: str) -> str:
    make_holding()
    services.maintain_partitions()
    call_command("ensure_streams", stdout=StringIO())
    return nats_clean


def start_ingest(stderr: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "DATABASE_ROLE": "ingest"}
    command = [sys.executable, str(ROOT / "manage.py"), "ingest"]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=stderr)


@contextmanager
def running(stderr: IO[bytes] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    process = start_ingest(stderr)
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    finally:
        process.kill()


@pytest.fixture
def ingest() -> Iterator[subprocess.Popen[bytes]]:
    with running() as process:
        yield process


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for the condition; fail after that many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.05)


class Hosts(threading.Thread):
    """Publishes samples of pricing's five divisions, each a batch until the stream has it, some of them twice.

    Batches carry no message ids, so the stream drops no duplicate: the ingest has to.
    """

    def __init__(self, url: str, samples: int, pause: float = 0.02) -> None:
        super().__init__(daemon=True)
        self._url, self._samples, self._pause = url, samples, pause
        self._start = timezone.now().replace(microsecond=0) - timedelta(minutes=5)
        self._step = timedelta(minutes=5) / (samples // 5)  # the last sample is of now, however many there are

    def run(self) -> None:
        asyncio.run(self._publish())

    async def _publish(self) -> None:
        bus = await Bus.connect(self._url, name="test")
        dice = random.Random(7)
        for index, first in enumerate(range(1, self._samples // 5 + 1, 100)):
            for division in range(1, 6):
                batch = [self._message(division, first + n) for n in range(100)]
                await self._send(bus, batch)
                if dice.random() < 0.2:
                    await self._send(bus, batch)
            if index % 2:
                await asyncio.sleep(self._pause)
        await bus.close()

    async def _send(self, bus: Bus, batch: list[Outgoing]) -> None:
        while True:
            try:
                await bus.js_publish_batch(batch)
            except (Disconnected, NoAnswerError, NobodyThereError):
                await asyncio.sleep(0.1)
            else:
                return

    def _message(self, division: int, number: int) -> Outgoing:
        ts = self._start + number * self._step
        body = make_body(ts=ts, kpis={"quality_score": number % 100, "sla_met_pct": number % 64 + 0.25})
        headers = make_headers(agent=f"op-{30 + division:04d}-g1", seq=f"pricing.{division}.7.{number}")
        return Outgoing(SUBJECT, json.dumps(body).encode(), headers)


def assert_each_once(samples: int) -> None:
    """No sample lost, none twice, and sums and last values as the rows say."""
    assert KpiSample.objects.count() == samples
    assert KpiSample.objects.values("seq").distinct().count() == samples
    with connection.cursor() as cursor:
        cursor.execute("select division, epoch, received::text from performance_watermark order by division")
        assert cursor.fetchall() == [(f"pricing.{n}", 7, f"{{[1,{samples // 5 + 1})}}") for n in range(1, 6)]
    by_rows: dict[tuple[datetime, str], list[float]] = {
        (minute, role): sums
        for minute, role, *sums in KpiSample.objects.values_list(TruncMinute("ts"), "role").annotate(
            Count("seq"), *(Sum(kpi) for kpi in KPIS)
        )
    }
    by_minutes = {
        (minute, role): sums
        for minute, role, *sums in KpiMinute.objects.values_list("minute", "role", "n", *(f"sum_{k}" for k in KPIS))
    }
    assert by_minutes == by_rows  # exactly: these values are sums of quarters
    until(lambda: KpiLatest.objects.count() == 5)
    newest = KpiSample.objects.aggregate(newest=Max("ts"))["newest"]
    until(lambda: {last.ts for last in KpiLatest.objects.all()} == {newest})
    assert not QuarantinedMessage.objects.exists()


def count() -> int:
    return KpiSample.objects.count()


def test_samples_reach_the_rows_and_the_process_ends_on_demand(streams: str) -> None:
    process = start_ingest()
    hosts = Hosts(streams, 5000)
    hosts.start()
    hosts.join()
    until(lambda: count() == 5000)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 0
    assert time.monotonic() - began < 5
    assert_each_once(5000)
    counted = {c.name: c.value for c in Counter.objects.filter(labels={"stream": "CT_KPI"})}
    assert counted["claytom_messages_total"] - counted["claytom_duplicates_total"] == 5000


def kill_again_and_again(streams: str, samples: int, kills: int) -> None:
    dice = random.Random(11)
    hosts = Hosts(streams, samples, pause=0.12)
    hosts.start()
    killed_at = []
    for _ in range(kills):
        before = count()
        process = start_ingest()
        until(lambda before=before: count() > before or not hosts.is_alive())  # type: ignore[misc]
        assert not QuarantinedMessage.objects.exists()
        time.sleep(dice.uniform(0, 0.3))
        process.kill()
        process.wait()
        killed_at.append(count())
    assert len(set(killed_at)) > 1
    process = start_ingest()
    hosts.join()
    until(lambda: count() >= samples)
    assert_each_once(samples)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 0


def test_an_ingest_killed_in_the_middle_loses_and_doubles_nothing(streams: str) -> None:
    kill_again_and_again(streams, 15_000, kills=3)


@pytest.mark.full
def test_an_ingest_killed_many_times_loses_and_doubles_nothing(streams: str) -> None:
    kill_again_and_again(streams, 200_000, kills=25)


def test_a_database_restarted_under_load_costs_only_time(streams: str, ingest: subprocess.Popen[bytes]) -> None:
    hosts = Hosts(streams, 10_000, pause=0.1)
    hosts.start()
    until(lambda: count() > 0)
    connection.close()
    server = SERVERS.stack.servers["postgresql"]
    server.stop()
    time.sleep(1)
    server.prepare()
    server.start()
    server.wait_ready()
    connection.close_pool()  # type: ignore[attr-defined]  # the dead connections of this process
    hosts.join()
    until(lambda: count() >= 10_000)
    assert_each_once(10_000)
    until(lambda: Counter.objects.filter(name="claytom_retries_total").exists())


def test_a_bus_restarted_under_load_costs_only_time(streams: str, ingest: subprocess.Popen[bytes]) -> None:
    hosts = Hosts(streams, 10_000, pause=0.1)
    hosts.start()
    until(lambda: count() > 0)
    server = SERVERS.stack.servers["nats"]
    assert server.process is not None
    server.process.kill()
    server.process.wait()
    server.prepare()
    server.start()
    server.wait_ready()
    hosts.join()
    until(lambda: count() >= 10_000)
    assert_each_once(10_000)
    assert ingest.poll() is None


def test_a_full_disk_costs_only_time(streams: str, postgres_superuser_dsn: str, tmp_path: Path) -> None:
    """The ingest waits and says so; the stream takes on what comes; nothing is acknowledged, refused or lost."""
    log = tmp_path / "ingest.log"
    with small_disk(postgres_superuser_dsn) as disk, log.open("wb") as output, running(output) as process:
        disk.fill()
        hosts = Hosts(streams, 5_000)
        hosts.start()
        until(lambda: Counter.objects.filter(name="claytom_retries_total").exists())
        hosts.join()
        stored, consumer = count(), asyncio.run(consumer_of_kpis(streams))
        assert stored < 5_000 <= stored + consumer["num_ack_pending"] + consumer["num_pending"]
        time.sleep(1)
        assert count() == stored
        assert asyncio.run(consumer_of_kpis(streams))["ack_floor"] == consumer["ack_floor"]
        assert process.poll() is None
        said = [line for line in log.read_text().splitlines() if "waits for the database" in line]
        assert len(said) == 1, "an outage is told once"
        assert "No space left on device" in log.read_text()
        assert "Free space on the disk of PostgreSQL" in log.read_text()
        disk.free()
        until(lambda: count() >= 5_000)
        assert_each_once(5_000)
    assert "the database takes batches again" in log.read_text()


async def consumer_of_kpis(url: str) -> dict[str, Any]:
    """What the server says of the ingest's consumer."""
    bus = await Bus.connect(url, name="test")
    try:
        reply = await bus.request(f"$JS.API.CONSUMER.INFO.CT_KPI.{FEED.consumer}", timeout_s=10)
        found: dict[str, Any] = json.loads(reply.data)
        return found
    finally:
        await bus.close()
