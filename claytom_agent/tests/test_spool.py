import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from claytom_agent.client import Bus, Outgoing, event_headers
from claytom_agent.spool import Build, Spool
from claytom_agent.tests.conftest import NatsServer, wait_until

STREAM = "CT_KPI"


@pytest_asyncio.fixture
async def spool(portal: Bus) -> AsyncIterator[Spool]:
    made = Spool(lambda _unit: portal, capacity=1000)
    run = asyncio.create_task(made.run())
    yield made
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)


def builders(count: int, prefix: str) -> list[Build]:
    def one(position: int) -> Build:
        def build(number: int) -> Outgoing:
            headers = event_headers(
                ce_type="t", source="s", id=f"{prefix}-{position}", time="t", seq=f"pricing.1.7.{number}"
            )
            return Outgoing("org.claytom.pricing.metrics.kpi", b"{}", headers)

        return build

    return [one(position) for position in range(count)]


async def stored_numbers(portal: Bus) -> list[int]:
    info = json.loads((await portal.request(f"$JS.API.STREAM.INFO.{STREAM}")).data)
    numbers = []
    for seq in range(1, info["state"]["last_seq"] + 1):
        request = json.dumps({"seq": seq}).encode()
        reply: Any = await portal.request(f"$JS.API.DIRECT.GET.{STREAM}", request)
        numbers.append(int(reply.headers["Claytom-Seq"].rpartition(".")[2]))
    return numbers


async def test_numbers_are_gap_free_over_batches(portal: Bus, spool: Spool) -> None:
    for round_ in range(4):
        assert spool.add("pricing.1", 7, STREAM, builders(60, f"r{round_}"))
    assert await spool.drained(10)
    assert sorted(await stored_numbers(portal)) == list(range(1, 241))


async def test_numbers_are_gap_free_when_the_ring_was_full(portal: Bus, spool: Spool) -> None:
    assert spool.add("pricing.1", 7, STREAM, builders(900, "a"))
    assert not spool.add("pricing.1", 7, STREAM, builders(200, "b"))
    assert spool.refused == 200
    assert await spool.drained(10)
    assert spool.add("pricing.1", 7, STREAM, builders(50, "c"))
    assert await spool.drained(10)
    assert sorted(await stored_numbers(portal)) == list(range(1, 951))


async def test_nothing_is_lost_or_doubled_when_the_server_is_killed(
    portal: Bus, spool: Spool, nats: NatsServer
) -> None:
    for round_ in range(8):
        spool.add("pricing.1", 7, STREAM, builders(50, f"r{round_}"))
        if round_ == 3:
            await asyncio.sleep(0.005)
            nats.kill()
    await asyncio.sleep(0.3)
    nats.start()
    assert await spool.drained(20)
    assert sorted(await stored_numbers(portal)) == list(range(1, 401))


async def test_streams_and_epochs_count_by_themselves(portal: Bus, spool: Spool) -> None:
    seen: list[int] = []

    def build(number: int) -> Outgoing:
        seen.append(number)
        return builders(1, f"x{len(seen)}")[0](number)

    for division, epoch in (("pricing.1", 7), ("pricing.1", 8), ("pricing.2", 7), ("pricing.1", 7)):
        spool.add(division, epoch, STREAM, [build])
    assert seen == [1, 1, 1, 2]
    await wait_until(lambda: spool.unacked == 0)
