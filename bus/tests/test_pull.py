"""Pulling from a consumer: everything once it is committed, nothing acknowledged before, nothing skipped."""

import asyncio
import json
from collections.abc import Callable, Sequence
from io import StringIO

import pytest
from django.core.management import call_command

from bus import pull
from bus.credentials.permissions import INGEST
from bus.feeds import Feed, Raw
from bus.wire import Wire
from claytom_agent.client import Bus, Outgoing
from tests.servers import login_of

SUBJECT = "org.claytom.pricing.metrics.kpi"


@pytest.fixture
def stream(nats_clean: str) -> str:
    call_command("ensure_streams", stdout=StringIO())
    return nats_clean


async def fill(url: str, numbers: range) -> None:
    bus = await Bus.connect(url, name="test")
    for start in range(numbers.start, numbers.stop, 500):
        part = range(start, min(start + 500, numbers.stop))
        await bus.js_publish_batch([Outgoing(SUBJECT, b"%d" % number, {"n": str(number)}) for number in part])
    await bus.close()


async def acknowledged(url: str) -> int:
    """The stream sequence up to which all is acknowledged."""
    bus = await Bus.connect(url, name="test")
    reply = await bus.request("$JS.API.CONSUMER.INFO.CT_KPI.portal-kpi")
    await bus.close()
    return int(json.loads(reply.data)["ack_floor"]["stream_seq"])


async def pull_until(
    url: str, handle: Callable[[Sequence[Raw]], None], done: Callable[[], bool], **feed: object
) -> None:
    """Run the ingest's loop with one feed, and with what the ingest may do, until `done`, at most 20 s."""
    stop = asyncio.Event()
    puller = pull.run([Feed("CT_KPI", "portal-kpi", handle, **feed)], login_of(INGEST), stop)  # type: ignore[arg-type]
    task = asyncio.ensure_future(puller)
    async with asyncio.timeout(20):
        while not done() and not task.done():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        stop.set()
        await task


async def test_batches_come_in_order_and_are_acknowledged_when_handled(stream: str) -> None:
    await fill(stream, range(1, 2501))
    got: list[Raw] = []
    await pull_until(stream, got.extend, lambda: len(got) >= 2500, batch=300)
    assert [raw.seq for raw in got] == list(range(1, 2501))
    assert got[41].body == b"42"
    assert b"\r\nn: 42\r\n" in got[41].headers
    assert (got[0].subject, got[0].stream) == (SUBJECT.encode(), "CT_KPI")
    assert got[0].stored_ns > 1e18
    assert await acknowledged(stream) == 2500


async def test_what_a_dead_process_had_received_comes_again_at_once_and_nothing_is_skipped(stream: str) -> None:
    await fill(stream, range(1, 1001))
    dead = await Wire.connect(stream, name="test")
    received: list[bytes] = []
    dead.subscribe(b"_INBOX.dead", lambda *message: received.append(message[3]))
    dead.publish(b"$JS.API.CONSUMER.MSG.NEXT.CT_KPI.portal-kpi", b'{"batch":400}', b"_INBOX.dead")
    while len(received) < 400:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    dead.close()
    got: list[int] = []
    await pull_until(stream, lambda raws: got.extend(raw.seq for raw in raws), lambda: len(got) >= 1000, batch=100)
    assert got == list(range(1, 1001))
    assert await acknowledged(stream) == 1000


async def test_two_processes_by_mistake_lose_nothing(stream: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull, "FIRST_DELAY", 0.05)
    await fill(stream, range(1, 2001))
    got: list[set[int]] = [set(), set()]
    committed: set[int] = set()

    def handler(index: int) -> Callable[[Sequence[Raw]], None]:
        def handle(raws: Sequence[Raw]) -> None:
            got[index].update(raw.seq for raw in raws)
            committed.update(raw.seq for raw in raws)

        return handle

    await asyncio.gather(
        *(pull_until(stream, handler(index), lambda: len(committed) >= 2000, batch=50) for index in (0, 1))
    )
    assert committed == set(range(1, 2001))
    assert await acknowledged(stream) <= 2000


async def test_an_empty_stream_is_waited_for_and_ticked(stream: str) -> None:
    got: list[int] = []
    ticks: list[int] = []

    async def later() -> None:
        await asyncio.sleep(1.5)
        await fill(stream, range(1, 4))

    await asyncio.gather(
        later(),
        pull_until(
            stream,
            lambda raws: got.extend(raw.seq for raw in raws),
            lambda: len(got) == 3,
            tick=lambda: ticks.append(1),
        ),
    )
    assert got == [1, 2, 3]
    assert 2 <= len(ticks) <= 5  # once a second and once at the end


async def test_requests_that_run_out_are_made_again(stream: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull, "EXPIRES", 0.3)
    got: list[int] = []

    async def later() -> None:
        for number in range(1, 4):
            await asyncio.sleep(0.7)
            await fill(stream, range(number, number + 1))

    await asyncio.gather(
        later(), pull_until(stream, lambda raws: got.extend(raw.seq for raw in raws), lambda: len(got) == 3)
    )
    assert got == [1, 2, 3]


async def test_a_consumer_that_does_not_exist_yet_is_waited_for(
    nats_clean: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "LONGEST_DELAY", 0.3)
    got: list[int] = []

    async def later() -> None:
        await asyncio.sleep(0.5)
        await asyncio.to_thread(call_command, "ensure_streams", stdout=StringIO())
        await fill(nats_clean, range(1, 4))

    await asyncio.gather(
        later(), pull_until(nats_clean, lambda raws: got.extend(raw.seq for raw in raws), lambda: len(got) == 3)
    )
    assert got == [1, 2, 3]


async def test_a_mistake_in_the_program_is_not_hidden(stream: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bus.commit.Committer.commit", lambda *_: 1 / 0)
    await fill(stream, range(1, 4))
    with pytest.raises(ExceptionGroup, match="TaskGroup"):
        await pull_until(stream, lambda _raws: None, lambda: False)
    assert await acknowledged(stream) == 0
