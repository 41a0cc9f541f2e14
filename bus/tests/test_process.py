"""The bus process as others meet it: what it sends, delivers, answers and frees."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import TypeVar

import pytest
from django.core.management import call_command
from django.db import transaction
from nats.aio.msg import Msg

from audit import services as audit
from audit.models import Leaf, LedgerEntry
from bus import services
from bus.models import HandledMessage, OutboxMessage, QuarantinedMessage
from claytom_agent.client import Bus, NobodyThereError, Outgoing
from holding.models import Seat
from subsidiaries.replacement.models import DivisionState, Replacement, SeatState
from subsidiaries.replacement.tests.factories import bring_to_life, make_staffed_holding
from tests.servers import SERVERS

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")
pytestmark = pytest.mark.django_db(transaction=True)


def start_bus() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(ROOT / "manage.py"), "bus"], cwd=ROOT, env=os.environ.copy())


@pytest.fixture
def streams(nats_clean: str) -> str:
    call_command("ensure_streams", stdout=StringIO())
    return nats_clean


@pytest.fixture
def bus_process(streams: str) -> Iterator[subprocess.Popen[bytes]]:
    process = start_bus()
    yield process
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=15) == 0


def until(condition: Callable[[], T], seconds: float = 20) -> T:
    """Return the condition's first true value; fail after that many seconds."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.1)
    return value


def with_bus(url: str, act: Callable[[Bus], Awaitable[T]]) -> T:
    async def run() -> T:
        bus = await Bus.connect(url, name="test", inbox_prefix="_INBOX_test", timeout_s=10)
        try:
            return await act(bus)
        finally:
            await bus.close()

    return asyncio.run(run())


def stored(url: str, stream: str) -> int:
    async def ask(bus: Bus) -> int:
        reply = await bus.request(f"$JS.API.STREAM.INFO.{stream}")
        return int(json.loads(reply.data)["state"]["messages"])

    return with_bus(url, ask)


def put(subject: str, dedup: str = "", count: int = 1) -> None:
    with transaction.atomic():
        services.publish_many(
            messages=[
                services.Message(
                    subject=subject, type="org.claytom.manifest.sync.v1", source="portal/test",
                    body={"division": "pricing.1", "generation": number}, dedup=f"{dedup}{number}" if dedup else "",
                )
                for number in range(count)
            ]
        )  # fmt: skip


def test_the_outbox_is_sent_in_full_and_once(streams: str, bus_process: subprocess.Popen[bytes]) -> None:
    put("org.claytom.pricing.command.sync", "a-", count=1200)
    until(lambda: not OutboxMessage.objects.filter(sent_at=None).exists())
    assert stored(streams, "CT_CONTROL") == 1200


def test_what_a_killed_relay_had_sent_is_not_stored_twice(streams: str) -> None:
    first = start_bus()
    put("org.claytom.pricing.command.sync", "b-", count=3000)
    until(lambda: OutboxMessage.objects.exclude(sent_at=None).exists())
    first.kill()
    first.wait()
    # As if it had died after sending and before noting it.
    OutboxMessage.objects.filter(dedup__in=[f"b-{number}" for number in range(100)]).update(sent_at=None)
    second = start_bus()
    try:
        until(lambda: not OutboxMessage.objects.filter(sent_at=None).exists())
    finally:
        second.terminate()
        second.wait(timeout=15)
    assert stored(streams, "CT_CONTROL") == 3000


def test_a_manifest_reaches_the_bucket_with_its_newest_generation(
    streams: str, bus_process: subprocess.Popen[bytes]
) -> None:
    make_staffed_holding()
    until(lambda: not OutboxMessage.objects.filter(sent_at=None).exists())

    async def read(bus: Bus) -> dict[str, object]:
        entry = await bus.kv_get("CT_SEATS", "corporate.c-suite")
        assert entry is not None
        assert entry.value is not None
        manifest: dict[str, object] = json.loads(entry.value)
        return manifest

    manifest = with_bus(streams, read)
    assert manifest["generation"] == 1
    assert stored(streams, "KV_CT_SEATS") == 181


def failed_event(agent: str, id: str) -> Outgoing:
    body = {
        "ts": datetime.now(UTC).isoformat(), "agent": agent, "from": "idle", "to": "failed",
        "reason": "crash loop", "restarts": 3,
    }  # fmt: skip
    headers = {
        "ce-type": "org.claytom.agent.state.v1", "ce-source": agent, "Nats-Msg-Id": id, "Claytom-Epoch": "5",
    }  # fmt: skip
    return Outgoing("org.claytom.pricing.metrics.state", json.dumps(body).encode(), headers)


def test_a_failed_report_is_replaced_at_once_and_only_once(
    streams: str, bus_process: subprocess.Popen[bytes]
) -> None:
    make_staffed_holding()
    bring_to_life("pricing")
    event = failed_event("org.claytom.pricing.operator.op-0031-g1", "st-1")

    async def send(bus: Bus) -> None:
        await bus.js_publish(event)

    with_bus(streams, send)
    until(Replacement.objects.exists)
    assert HandledMessage.objects.filter(message_id="st-1").count() == 1
    assert Seat.objects.get(unit__slug="pricing", code="op-0031").generation == 2
    assert SeatState.objects.get(seat__unit__slug="pricing", seat__code="op-0031").state == "starting"
    again = Outgoing(event.subject, event.body, {**event.headers, "Nats-Msg-Id": "st-2"})

    async def send_again(bus: Bus) -> None:
        await bus.js_publish(again)

    with_bus(streams, send_again)
    until(HandledMessage.objects.filter(message_id="st-2").exists)
    assert Replacement.objects.count() == 1


def test_what_cannot_be_understood_is_quarantined_and_the_rest_goes_on(
    streams: str, bus_process: subprocess.Popen[bytes]
) -> None:
    make_staffed_holding()
    bring_to_life("pricing")
    good = failed_event("org.claytom.pricing.operator.op-0031-g1", "good")
    bad = [
        Outgoing(good.subject, b"not json", {**good.headers, "Nats-Msg-Id": "bad-1"}),
        Outgoing(good.subject, b'{"ts": 5}', {**good.headers, "Nats-Msg-Id": "bad-2"}),
        Outgoing(
            good.subject, good.body, {**good.headers, "Nats-Msg-Id": "bad-3", "ce-type": "org.claytom.x.y.v1"}
        ),
        Outgoing(good.subject, good.body, {"ce-type": good.headers["ce-type"], "Nats-Msg-Id": "bad-4"}),
    ]

    async def send(bus: Bus) -> None:
        for message in [*bad, good]:
            await bus.js_publish(message)

    with_bus(streams, send)
    until(Replacement.objects.exists)
    stages = sorted(QuarantinedMessage.objects.values_list("stage", flat=True))
    assert stages == ["json", "schema", "type", "type"]


def test_a_stream_that_was_lost_with_its_server_comes_back(
    streams: str, bus_process: subprocess.Popen[bytes]
) -> None:
    put("org.claytom.pricing.command.sync", "c-")
    until(lambda: not OutboxMessage.objects.filter(sent_at=None).exists())  # by now it is connected
    server = SERVERS.stack.servers["nats"]
    server.stop()
    server.prepare()
    server.start()
    server.wait_ready()

    async def exists(bus: Bus) -> bool:
        reply = await bus.request("$JS.API.STREAM.INFO.CT_PRESENCE")
        return "error" not in json.loads(reply.data)

    until(lambda: with_bus(streams, exists))


def test_hello_is_answered_with_terms(streams: str, bus_process: subprocess.Popen[bytes]) -> None:
    make_staffed_holding()

    async def claim(bus: Bus) -> int:
        value = json.dumps({"host": "h1", "since": "", "run": "r"}).encode()
        await bus.kv_put("CT_LEASES", "pricing.2", value)
        return await bus.kv_put("CT_LEASES", "pricing.1", value)

    epoch = with_bus(streams, claim)
    body = {"protocol": "claytom/1", "shard": {"division": "pricing.1", "agents": 7}, "host": "h1", "epoch": epoch}
    headers = {"ce-type": "org.claytom.agent.hello.v1", "ce-source": "host/h1"}

    def ask(payload: bytes) -> dict[str, object]:
        async def run(bus: Bus) -> dict[str, object]:
            for _ in range(100):
                try:
                    reply = await bus.request("org.claytom.pricing.command.hello", payload, headers=headers)
                except NobodyThereError:
                    await asyncio.sleep(0.1)
                    continue
                answer: dict[str, object] = json.loads(reply.data)
                return answer
            raise AssertionError("nobody answers hello")

        return with_bus(streams, run)

    assert ask(json.dumps({**body, "epoch": 10**12}).encode())["code"] == "unknown-epoch"
    assert ask(json.dumps(body).encode())["epoch"] == epoch
    assert DivisionState.objects.get(division__key="pricing.1").host == "h1"
    assert ask(json.dumps({**body, "epoch": epoch - 1}).encode())["code"] == "fenced"
    assert ask(json.dumps({**body, "host": "h2"}).encode())["code"] == "not-the-holder"
    assert ask(b"{")["code"] == "json"


def test_receipts_and_requests_reach_the_sender(streams: str, bus_process: subprocess.Popen[bytes]) -> None:
    make_staffed_holding()
    bring_to_life("pricing")
    agent = "org.claytom.pricing.operator.op-0031-g1"
    told: list[tuple[str, dict[str, object]]] = []

    async def talk(bus: Bus) -> None:
        async def hear(message: Msg) -> None:
            told.append((message.subject.rpartition(".")[2], json.loads(message.data)))

        await bus.subscribe("org.claytom.pricing.command.*", hear)
        for number in (1, 2, 5):
            event = failed_event(agent, f"st-{number}")
            await bus.js_publish(
                Outgoing(event.subject, event.body, {**event.headers, "Claytom-Seq": f"pricing.1.5.{number}"})
            )
        for _ in range(300):
            if any(verb == "resend" for verb, _ in told):
                return
            await asyncio.sleep(0.1)

    with_bus(streams, talk)
    head = {"division": "pricing.1", "epoch": 5, "stream": "CT_EVENTS"}
    assert ("resend", {**head, "ranges": [[3, 4]]}) in told
    last = [body for verb, body in told if verb == "receipt"][-1]
    assert last == {**head, "through": 2, "ranges": [[5, 5]]}


def test_entries_are_sealed_within_seconds(streams: str, bus_process: subprocess.Popen[bytes]) -> None:
    make_staffed_holding()
    until(lambda: Leaf.objects.count() == LedgerEntry.objects.count() > 0)
    assert audit.verify().ok


async def is_answered(bus: Bus) -> bool:
    """Whether the process is up: somebody answers requests."""
    try:
        await bus.request("org.claytom.pricing.command.hello", b"{")
    except NobodyThereError:
        return False
    return True


def test_the_leases_of_a_dead_host_are_freed_before_their_time(
    streams: str, nats_host_url: str, bus_process: subprocess.Popen[bytes]
) -> None:
    claim = (
        "import asyncio, json, sys\n"
        "from claytom_agent.client import Bus\n"
        "async def main():\n"
        "    bus = await Bus.connect(sys.argv[1], name='host:doomed')\n"
        "    for number in range(20):\n"
        "        value = json.dumps({'host': 'doomed', 'since': ''}).encode()\n"
        "        await bus.kv_cas('CT_LEASES', f'pricing.{number}', value, last=0)\n"
        "    print('claimed', flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    until(lambda: with_bus(streams, is_answered))
    time.sleep(1)  # the fast path, begun by now, watches connections from its own start on
    host = subprocess.Popen(
        [sys.executable, "-c", claim, f"{nats_host_url}/pricing.creds"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        env=os.environ.copy(),
    )
    assert host.stdout is not None
    assert host.stdout.readline() == b"claimed\n"
    time.sleep(0.5)
    host.kill()
    host.wait()
    host.stdout.close()
    killed = time.monotonic()

    async def held(bus: Bus) -> int:
        entries = [await bus.kv_get("CT_LEASES", f"pricing.{number}") for number in range(20)]
        return sum(entry is not None and entry.value is not None for entry in entries)

    until(lambda: with_bus(streams, held) == 0, seconds=9)
    assert time.monotonic() - killed < 6  # the time to live is 10 s
