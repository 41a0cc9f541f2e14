"""What is said survives: on the disk of the host until the portal has it, whatever happens to host or stream."""

import asyncio
import errno
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from claytom_agent.blocks import Build, Stage
from claytom_agent.client import Bus, Outgoing, event_headers
from claytom_agent.journal import Journal, JournalBusyError
from claytom_agent.spool import Spool
from claytom_agent.spools import adopt_orphans, obey
from claytom_agent.tests.conftest import NatsServer, wait_until

STREAM = "CT_KPI"


class Running:
    """A spool that works, on a journal that outlives it."""

    def __init__(self, bus: Bus, directory: Path, **limits: int) -> None:
        self.spool = Spool(lambda _unit: bus, Journal(directory), **limits)
        self._task = asyncio.create_task(self.spool.run())

    async def stop(self) -> None:
        """End as a killed process does: nothing is written any more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self.spool.close()


@pytest_asyncio.fixture
async def spool(portal: Bus, tmp_path: Path) -> AsyncIterator[Spool]:
    running = Running(portal, tmp_path / "spool" / "h1", capacity=1250)  # 1,000 for samples
    yield running.spool
    await running.stop()


def builders(count: int, prefix: str) -> list[Build]:
    def one(position: int) -> Build:
        def build(number: int) -> Outgoing:
            headers = event_headers(
                ce_type="t", source="s", id=f"{prefix}-{position}", time="t", seq=f"pricing.1.7.{number}"
            )
            return Outgoing("org.claytom.pricing.metrics.kpi", b"{}", headers)

        return build

    return [one(position) for position in range(count)]


def events_builder(identity: str) -> Build:
    def build(number: int) -> Outgoing:
        headers = event_headers(ce_type="t", source="s", id=identity, time="t", seq=f"pricing.1.7.{number}")
        return Outgoing("org.claytom.pricing.metrics.cost", b"{}", headers)

    return build


async def stored_numbers(portal: Bus, stream: str = STREAM) -> list[int]:
    info = json.loads((await portal.request(f"$JS.API.STREAM.INFO.{stream}")).data)
    numbers = []
    for seq in range(1, info["state"]["last_seq"] + 1):
        request = json.dumps({"seq": seq}).encode()
        reply: Any = await portal.request(f"$JS.API.DIRECT.GET.{stream}", request)
        if "Claytom-Seq" not in reply.headers:
            continue  # deleted
        numbers.append(int(reply.headers["Claytom-Seq"].rpartition(".")[2]))
    return numbers


async def test_numbers_are_gap_free_over_batches(portal: Bus, spool: Spool) -> None:
    for round_ in range(4):
        assert spool.add("pricing.1", 7, STREAM, builders(60, f"r{round_}"))
    assert await spool.drained(10)
    assert sorted(await stored_numbers(portal)) == list(range(1, 241))


async def test_numbers_are_gap_free_when_it_was_full(portal: Bus, spool: Spool) -> None:
    assert spool.add("pricing.1", 7, STREAM, builders(900, "a"))
    assert not spool.add("pricing.1", 7, STREAM, builders(200, "b"))
    assert spool.refused == 200
    assert await spool.drained(10)
    assert not spool.add("pricing.1", 7, STREAM, builders(200, "c")), "stored is not received: nothing is free yet"
    assert spool.receipt("pricing.1", 7, STREAM, [(1, 900)]) == 900
    assert spool.add("pricing.1", 7, STREAM, builders(50, "d"))
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


async def test_a_receipt_frees_and_an_acknowledgement_does_not(portal: Bus, spool: Spool) -> None:
    (block,) = spool.add("pricing.1", 7, STREAM, builders(10, "a")) or ()
    assert block.stage == Stage.WRITTEN
    await asyncio.wait_for(block.until(Stage.STORED), 10)
    assert (spool.unacked, spool.depth) == (0, 10)
    assert not await spool.drained(0.2, Stage.RECEIVED)
    body = {"division": "pricing.1", "epoch": 7, "stream": STREAM, "through": 9}
    obey(spool, "receipt", json.dumps(body).encode())
    assert (spool.depth, block.stage) == (10, Stage.STORED), "a part of it is still missing"
    obey(spool, "receipt", json.dumps({**body, "through": 3, "ranges": [[10, 10]]}).encode())
    assert (spool.depth, block.stage) == (0, Stage.RECEIVED)
    obey(spool, "receipt", b'{"division": "pricing.1"}')  # not understood: nothing happens
    obey(spool, "receipt", json.dumps({**body, "epoch": 8}).encode())
    assert spool.received == 10


async def test_samples_leave_room_for_costs_and_thin_out(portal: Bus, spool: Spool) -> None:
    assert spool.thinning == 1
    assert spool.add("pricing.1", 7, STREAM, builders(600, "a"))
    assert spool.thinning == 2
    assert spool.add("pricing.1", 7, STREAM, builders(400, "b"))
    assert spool.thinning == 8
    assert spool.add("pricing.1", 7, STREAM, builders(1, "c")) is None
    assert spool.add("pricing.1", 7, "CT_EVENTS", builders(250, "cost")), "the last fifth is for what is worth more"
    assert spool.add("pricing.1", 7, "CT_EVENTS", builders(1, "cost")) is None
    assert spool.refused == 2


async def test_a_killed_host_sends_what_it_had_promised(portal: Bus, nats: NatsServer, tmp_path: Path) -> None:
    first = Running(portal, tmp_path / "h1")
    nats.kill()
    blocks = first.spool.add("pricing.1", 7, STREAM, builders(300, "a")) or ()
    first.spool.add("pricing.1", 7, "CT_EVENTS", [events_builder("cost")])
    await asyncio.wait_for(blocks[0].until(Stage.KEPT), 10)
    await first.stop()
    nats.start()
    second = Running(portal, tmp_path / "h1")
    assert (second.spool.recovered, second.spool.depth) == (301, 301)
    assert await second.spool.drained(20)
    assert sorted(await stored_numbers(portal)) == list(range(1, 301))
    assert await stored_numbers(portal, "CT_EVENTS") == [1]
    second.spool.receipt("pricing.1", 7, STREAM, [(1, 300)])
    second.spool.receipt("pricing.1", 7, "CT_EVENTS", [(1, 1)])
    await second.stop()
    third = Running(portal, tmp_path / "h1")
    assert third.spool.depth == 0, "what was received is not sent a third time"
    await third.stop()


async def test_a_write_that_was_cut_off_is_recognised(portal: Bus, tmp_path: Path) -> None:
    running = Running(portal, tmp_path / "h1")
    for name in "abc":
        running.spool.add("pricing.1", 7, STREAM, builders(10, name))
    assert await running.spool.drained(10)
    await running.stop()
    (path,) = (tmp_path / "h1").glob("*.journal")
    size = path.stat().st_size
    os.truncate(path, size - 100)
    again = Running(portal, tmp_path / "h1")
    assert (again.spool.depth, again.spool.status()["damaged"]) == (20, 0)
    assert path.stat().st_size < size - 1000, "the rest of the record is cut away"
    assert again.spool.add("pricing.1", 8, STREAM, builders(5, "d"))
    assert await again.spool.drained(10)
    await again.stop()
    assert Spool(lambda _unit: portal, Journal(tmp_path / "h1")).depth == 25


async def test_a_damaged_record_costs_only_itself(portal: Bus, tmp_path: Path) -> None:
    running = Running(portal, tmp_path / "h1")
    for name in "abc":
        running.spool.add("pricing.1", 7, STREAM, builders(10, name))
    assert await running.spool.drained(10)
    await running.stop()
    (path,) = (tmp_path / "h1").glob("*.journal")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    again = Running(portal, tmp_path / "h1")
    assert (again.spool.depth, again.spool.status()["damaged"]) == (20, 1)
    await again.stop()


async def test_a_full_disk_refuses_and_leaves_the_numbers_without_a_gap(
    portal: Bus, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert spool.add("pricing.1", 7, STREAM, builders(10, "a"))
    with monkeypatch.context() as patch:
        real, calls = os.pwrite, iter(range(9))

        def nearly_full(file: int, data: bytes, at: int) -> int:
            if next(calls):
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(file, data[:50], at)

        patch.setattr(os, "pwrite", nearly_full)
        assert spool.add("pricing.1", 7, STREAM, builders(10, "b")) is None
    assert spool.refused == 10
    assert spool.add("pricing.1", 7, STREAM, builders(10, "c"))
    assert await spool.drained(10)
    assert sorted(await stored_numbers(portal)) == list(range(1, 21))


async def test_the_portal_gets_again_what_the_stream_lost_and_says_to_know(portal: Bus, spool: Spool) -> None:
    spool.add("pricing.1", 7, STREAM, builders(20, "a"))
    assert await spool.drained(10)
    for lost in (3, 4, 11):
        await portal.request(f"$JS.API.STREAM.MSG.DELETE.{STREAM}", json.dumps({"seq": lost}).encode())
    same = builders(20, "a")[2](3)
    assert (await portal.js_publish(same)).duplicate, "the stream knows the id and has not the message"
    body = {"division": "pricing.1", "epoch": 7, "stream": STREAM, "ranges": [[3, 4], [11, 11], [90, 99]]}
    obey(spool, "resend", json.dumps(body).encode())
    obey(spool, "resend", json.dumps(body | {"epoch": 6}).encode())
    assert spool.sent_again == 3
    await wait_until(lambda: spool.stored == 23)
    assert sorted(await stored_numbers(portal)) == list(range(1, 21))


async def test_what_is_stored_and_not_received_is_asked_after(
    portal: Bus, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("claytom_agent.spool.PROBE_S", (0.5, 1.0))
    spool.add("pricing.1", 7, STREAM, builders(20, "a"))
    await wait_until(lambda: spool.stored >= 22)
    numbers = await stored_numbers(portal)
    assert set(numbers[20:]) == {20}, "only the last: a gap before it shows by itself"
    spool.receipt("pricing.1", 7, STREAM, [(1, 20)])
    count = spool.stored
    await asyncio.sleep(2.5)
    assert spool.stored <= count + 1


async def test_an_epoch_that_is_over_is_still_delivered(portal: Bus, spool: Spool) -> None:
    spool.add("pricing.1", 7, STREAM, builders(20, "a"))
    spool.forget("pricing.1", 7)
    assert await spool.drained(10)
    assert spool.resend("pricing.1", 7, STREAM, [(1, 5)]) == 5
    assert spool.receipt("pricing.1", 7, STREAM, [(1, 20)]) == 20
    assert spool.numbers("pricing.1", 7) == {}


async def test_a_host_takes_over_what_one_that_is_no_more_has_left(portal: Bus, tmp_path: Path) -> None:
    gone = Running(portal, tmp_path / "gone")
    gone.spool.add("pricing.1", 7, STREAM, builders(20, "a"))
    gone.spool.add("pricing.1", 7, STREAM, builders(20, "b"))
    assert await gone.spool.drained(10)
    gone.spool.receipt("pricing.1", 7, STREAM, [(1, 20)])
    await gone.stop()
    living = Running(portal, tmp_path / "living")
    journal = Journal(tmp_path / "h1")
    heir = Spool(lambda _unit: portal, journal)
    assert adopt_orphans(heir, journal) == 20
    assert heir.depth == 20
    assert not (tmp_path / "gone").exists()
    assert (tmp_path / "living").exists(), "the journal of a host that lives is left alone"
    heir.close()
    after = Spool(lambda _unit: portal, Journal(tmp_path / "h1"))
    assert (after.depth, after.receipt("pricing.1", 7, STREAM, [(21, 40)])) == (20, 20)
    await living.stop()


def test_two_processes_cannot_share_a_journal(tmp_path: Path) -> None:
    Journal(tmp_path / "h1")
    with pytest.raises(JournalBusyError, match="its own id"):
        Journal(tmp_path / "h1")


async def test_segments_end_when_nothing_in_them_is_needed(portal: Bus, tmp_path: Path) -> None:
    spool = Spool(lambda _unit: portal, Journal(tmp_path / "h1", segment_bytes=20_000))
    spool.add("pricing.9", 7, "CT_EVENTS", [events_builder("cost")])  # never receipted
    for round_ in range(60):
        assert spool.add("pricing.1", 7, STREAM, builders(60, f"r{round_}"))
        spool.receipt("pricing.1", 7, STREAM, [(1, 60 * round_)])
    spool.receipt("pricing.1", 7, STREAM, [(1, 3600)])
    assert spool.depth == 1
    assert sum(path.stat().st_size for path in (tmp_path / "h1").glob("*.journal")) < 60_000
    spool.close()
    assert Spool(lambda _unit: portal, Journal(tmp_path / "h1")).depth == 1
