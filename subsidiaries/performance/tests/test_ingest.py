"""The ingest process under faults: whatever is killed or restarted, each sample counts exactly once."""

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection
from django.db.models import Count, Max, Sum
from django.db.models.functions import TruncMinute
from django.utils import timezone
from psycopg import sql

from bus.credentials.permissions import INGEST
from bus.models import Counter, QuarantinedMessage
from claytom_agent.client import Bus, Disconnected, NoAnswerError, NobodyThereError, Outgoing
from holding.tests.factories import make_holding
from subsidiaries.performance import services
from subsidiaries.performance.models import KPIS, KpiLatest, KpiMinute, KpiSample
from subsidiaries.performance.tests.factories import SUBJECT, make_body, make_headers
from tests.servers import SERVERS, login_of

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def streams(nats_clean: str) -> str:
    make_holding()
    services.maintain_partitions()
    call_command("ensure_streams", stdout=StringIO())
    return nats_clean


def start_ingest() -> subprocess.Popen[bytes]:
    environment = {**os.environ, "DATABASE_ROLE": "ingest", "NATS_URL": login_of(INGEST)}
    return subprocess.Popen([sys.executable, str(ROOT / "manage.py"), "ingest"], cwd=ROOT, env=environment)


@pytest.fixture
def ingest() -> Iterator[subprocess.Popen[bytes]]:
    process = start_ingest()
    yield process
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 0


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


@pytest.fixture
def small_disk(streams: str, postgres_superuser_dsn: str) -> Iterator[Path]:
    """A disk of 16 MB that holds the samples, and nothing else."""
    if os.geteuid():
        pytest.skip("A disk can only be mounted by root: run `sudo make test`.")
    directory = Path(tempfile.mkdtemp(prefix="claytom-disk-"))
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,mode=0777", "tmpfs", directory], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        directory.rmdir()
        pytest.skip(f"This machine lets nobody mount a disk: {error}")
    try:
        with psycopg.connect(postgres_superuser_dsn, autocommit=True) as superuser:
            samples = directory / "samples"
            samples.mkdir()
            cluster = Path(superuser.execute("show data_directory").fetchone()[0])  # type: ignore[index]
            shutil.chown(samples, user=cluster.owner(), group=cluster.group())
            superuser.execute(sql.SQL("create tablespace small location {}").format(str(samples)))
            move_samples(superuser, "small")
        yield directory
    finally:
        connection.close()
        with psycopg.connect(postgres_superuser_dsn, autocommit=True) as superuser:
            superuser.execute("truncate performance_kpisample")
            move_samples(superuser, "pg_default")
            superuser.execute("drop tablespace if exists small")
        subprocess.run(["umount", directory], check=True)
        directory.rmdir()


def move_samples(superuser: psycopg.Connection, tablespace: str) -> None:
    """Put the partitions, and those to come, into a tablespace."""
    tables = superuser.execute(
        "select relname from pg_class where relname ~ '^performance_kpisample' and relkind in ('r', 'p')"
    )
    for (table,) in tables.fetchall():
        move = sql.SQL("alter table {} set tablespace {}")
        superuser.execute(move.format(sql.Identifier(table), sql.Identifier(tablespace)))


def test_a_full_disk_costs_only_time(small_disk: Path, streams: str, ingest: subprocess.Popen[bytes]) -> None:
    ballast = small_disk / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(small_disk).free - 400_000)
    hosts = Hosts(streams, 10_000)
    hosts.start()
    until(lambda: Counter.objects.filter(name="claytom_retries_total").exists())
    hosts.join()
    stored = count()
    assert stored < 10_000
    time.sleep(1)
    assert count() == stored
    assert ingest.poll() is None
    ballast.unlink()
    until(lambda: count() >= 10_000)
    assert_each_once(10_000)
