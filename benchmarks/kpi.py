"""KPI samples end to end: from a host's agents to committed rows, against JetStream's atomic batches alone.

Ours: every agent of the holding runs a shift, the samples go through the host's spool into the stream
(`sync_interval: always`), and the ingest process commits them; until the last one is committed. The reference
publishes as many prepared messages in atomic batches, and nobody reads them. Then the load of every day: each
division reports once a minute, and how old its samples are when the ingest takes them.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
import uvloop
from django.conf import settings
from django.core.management import call_command

from benchmarks.measuring import Cost, report, servers
from claytom_agent import kpi
from claytom_agent.agents import RestartPolicy
from claytom_agent.client import Bus, Outgoing
from claytom_agent.manifest import decode_manifest
from claytom_agent.roster import Roster
from claytom_agent.spool import Spool
from claytom_agent.timers import Timers

ROOM = 15_000  # samples under way; a spool holds 20,000
PARALLEL = 8  # batches of the reference under way
INTERVAL_S = 60.0
REFERENCE = "REFERENCE"
EVERY_DAY = 5000  # the epoch of that run
SEATS = "$KV.CT_SEATS."
TARGET_PER_S = 20_000
TARGET_AGE_S = 2.0
COMMITTED = "select coalesce(sum(n), 0) from performance_kpiminute"
AGES = """
    select percentile_cont(array[0.5, 0.99]) within group (order by extract(epoch from received_at - ts))
      from performance_kpisample where epoch = %s
"""


class Host:
    """The agents of all divisions, and a spool that sends their samples."""

    def __init__(self, manifests: dict[str, bytes]) -> None:
        self.rosters: dict[str, Roster] = {}
        for key, manifest in manifests.items():
            roster = Roster(key.partition(".")[0], Timers(), RestartPolicy(), lambda: None)
            roster.apply(decode_manifest(key, manifest))
            self.rosters[key] = roster

    async def send(self, epoch: int, *, seconds: float = 0.0) -> int:
        """Let each division report once, spread over so many seconds; return how many samples were stored."""
        bus = await Bus.connect(settings.NATS_URL, name="host:benchmark")
        spool = Spool(lambda _unit: bus)
        sending = asyncio.create_task(spool.run())
        began = time.monotonic()
        try:
            for turn, (key, roster) in enumerate(self.rosters.items()):
                await asyncio.sleep(began + seconds * turn / len(self.rosters) - time.monotonic())
                while spool.unacked > ROOM:  # noqa: ASYNC110 - a spool tells nobody when it has room
                    await asyncio.sleep(0.001)
                spool.add(key, epoch, kpi.STREAM, [build async for build in self._builders(key, roster, epoch)])
            if not await spool.drained(60) or spool.refused:
                raise RuntimeError("the stream does not take the samples")
            return spool.stored
        finally:
            sending.cancel()
            await bus.close()

    async def _builders(self, key: str, roster: Roster, epoch: int) -> Any:
        now = time.time()
        for agent in roster.agents.values():
            output = await roster.shift(agent, now)
            if output is None:
                raise RuntimeError(f"{agent.subject} has nothing to say")
            yield kpi.sample_builder(agent, output, now, f"{agent.subject}-{epoch}", f"{key}.{epoch}")

    async def prepared(self, epoch: int) -> list[Outgoing]:
        """Return one finished message of each agent."""
        return [
            build(number)
            for key, roster in self.rosters.items()
            async for number, build in _numbered(self._builders(key, roster, epoch))
        ]


async def _numbered(builders: Any) -> Any:
    number = 0
    async for build in builders:
        number += 1
        yield number, build


async def publish(messages: list[Outgoing]) -> Cost:
    """Store messages in atomic batches, in a stream like that of the KPIs; return what it cost."""
    from bus.streams import STREAMS

    declared = next(stream for stream in STREAMS if stream["name"] == kpi.STREAM)
    config = {**declared, "name": REFERENCE, "subjects": [f"{REFERENCE}.>"]}
    messages = [replace(message, subject=f"{REFERENCE}.{message.subject}") for message in messages]
    bus = await Bus.connect(settings.NATS_URL, name="benchmark")
    await bus.request(f"$JS.API.STREAM.CREATE.{REFERENCE}", json.dumps(config).encode())
    room = asyncio.Semaphore(PARALLEL)

    async def store(start: int) -> None:
        async with room:
            await bus.js_publish_batch(messages[start : start + 500])

    try:
        wall, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(store(start) for start in range(0, len(messages), 500)))
        cost = Cost(len(messages), time.perf_counter() - wall, time.process_time() - cpu)
        await bus.request(f"$JS.API.STREAM.DELETE.{REFERENCE}")
        return cost
    finally:
        await bus.close()


@contextmanager
def ingest() -> Iterator[None]:
    """The ingest process of the portal, pulling."""
    environment = {**os.environ, "DATABASE_ROLE": "ingest"}
    with subprocess.Popen(
        [sys.executable, "manage.py", "ingest"], cwd=settings.BASE_DIR, env=environment
    ) as process:
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)


async def measure(host: Host, database: psycopg.Connection[Any], epoch: int, *, seconds: float = 0.0) -> Cost:
    """Send a sample of each agent and wait until all are committed; return what the host spent on it."""
    before = committed(database)
    wall, cpu = time.perf_counter(), time.process_time()
    sent = await host.send(epoch, seconds=seconds)
    cpu = time.process_time() - cpu
    while committed(database) - before < sent:
        if time.perf_counter() - wall > seconds + 60:
            raise RuntimeError("the samples are not committed")
        await asyncio.sleep(0.002)
    return Cost(sent, time.perf_counter() - wall, cpu)


def committed(database: psycopg.Connection[Any]) -> int:
    """Return how many samples count."""
    row = database.execute(COMMITTED).fetchone()
    assert row is not None
    return int(row[0])


async def run(database: psycopg.Connection[Any], manifests: dict[str, bytes], pairs: int) -> None:
    """Run the pairs, then a minute of every day's load, and print the result."""
    host = Host(manifests)
    costs: list[tuple[Cost, Cost]] = []
    with ingest():
        for number in range(pairs + 1):
            reference = await publish(await host.prepared(number + 1))
            ours = await measure(host, database, number + 1)
            print({"ours": ours.figures(), "reference": reference.figures()}, flush=True)
            costs.append((ours, reference))
        del costs[0]  # in the first pair the ingest starts and meets its senders
        await measure(host, database, EVERY_DAY, seconds=INTERVAL_S)
    ages = database.execute(AGES, [EVERY_DAY]).fetchone()
    assert ages is not None
    middle, late = ages[0]
    print(f"age at the ingest under the load of every day: median {middle:.3f} s, p99 {late:.3f} s")
    report(
        name="kpi",
        unit="samples/s",
        pairs=[(ours.per_second, reference.per_second) for ours, reference in costs],
        target=f">= {TARGET_PER_S} samples/s; p99 age <= {TARGET_AGE_S:g} s under the load of every day",
        met=lambda rate, _reference, _ratio: rate >= TARGET_PER_S and late <= TARGET_AGE_S,
        runs=[
            *({"ours": ours.figures(), "reference": reference.figures()} for ours, reference in costs),
            {"age_median_s": round(float(middle), 4), "age_p99_s": round(float(late), 4)},
        ],
    )


def main() -> None:
    """Start servers, load the holding and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    pairs = parser.parse_args().pairs
    with servers() as postgres, psycopg.connect(postgres.superuser_url(), autocommit=True) as database:
        from bus.models import OutboxMessage

        call_command("load_holding", "holding/data/holding.yaml", "--yes", verbosity=0)
        call_command("ensure_streams", verbosity=0)
        messages = OutboxMessage.objects.filter(subject__startswith=SEATS).order_by("id")
        manifests = {message.subject.removeprefix(SEATS): bytes(message.payload) for message in messages}
        uvloop.run(run(database, manifests, pairs))


if __name__ == "__main__":
    main()
