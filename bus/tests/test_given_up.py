"""What goes wrong on real streams: items given up, replays, bad requests, a database that is gone."""

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

import pytest
from django.core.management import call_command
from django.db import DatabaseError, InterfaceError, connection, transaction
from nats.aio.msg import Msg

from bus import services
from bus.exhausted import settle_once
from bus.models import FailedDelivery, HandledMessage, OutboxMessage, QuarantinedMessage, Suspect
from bus.quarantine import replay
from bus.streams import SECOND, STREAMS
from claytom_agent.client import Bus, NobodyThereError, Outgoing
from holding.tests.factories import make_holding
from subsidiaries.replacement.models import Replacement
from subsidiaries.replacement.tests.factories import bring_to_life, make_staffed_holding
from tests.servers import SERVERS

ROOT = Path(__file__).resolve().parents[2]
AGENT = "org.claytom.pricing.operator.op-0031-g1"
STATE = "org.claytom.pricing.metrics.state"
QUEUE = "org.claytom.pricing.operator.any"
T = TypeVar("T")
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def streams(nats_clean: str) -> Iterator[str]:
    make_holding(subsidiaries=("pricing", "tax"))
    call_command("ensure_streams", stdout=StringIO())
    yield nats_clean
    call_command("ensure_streams", stdout=StringIO())


@pytest.fixture
def bus_process(streams: str) -> Iterator[subprocess.Popen[bytes]]:
    process = start()
    yield process
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=15) == 0


def start(command: str = "bus") -> subprocess.Popen[bytes]:
    """Start a process as an installation does: the ingest with a role of its own."""
    env = os.environ.copy()
    if command == "ingest":
        env["DATABASE_ROLE"] = "ingest"
    return subprocess.Popen([sys.executable, str(ROOT / "manage.py"), command], cwd=ROOT, env=env)


def until(condition: Callable[[], T | None], seconds: float = 40) -> T:
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


async def call(bus: Bus, verb: str, body: object = None) -> dict[str, Any]:
    reply = await bus.request(f"$JS.API.{verb}", json.dumps(body or {}).encode(), timeout_s=10)
    answer: dict[str, Any] = json.loads(reply.data)
    return answer


async def pull(bus: Bus, stream: str, consumer: str) -> Msg:
    arrived: asyncio.Queue[Msg] = asyncio.Queue()
    inbox = bus.new_inbox()
    await bus.subscribe(inbox, arrived.put)
    await bus._client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}", b'{"no_wait":true}', reply=inbox)
    return await asyncio.wait_for(arrived.get(), 5)


def held_by(url: str, stream: str) -> int:
    async def ask(bus: Bus) -> int:
        return int((await call(bus, f"STREAM.INFO.{stream}"))["state"]["messages"])

    return with_bus(url, ask)


def item(number: int) -> Outgoing:
    body = {"id": f"w-test-{number:06d}", "kind": "sum", "deadline": datetime.now(UTC).isoformat()}
    headers = {
        "ce-type": "org.claytom.work.assigned.v1", "ce-source": "portal/test", "Nats-Msg-Id": body["id"],
    }  # fmt: skip
    return Outgoing(QUEUE, json.dumps(body).encode(), headers)


async def hasten(bus: Bus) -> None:
    """Let the queue give an item up after two deliveries of a tenth of a second."""
    config = (await call(bus, "CONSUMER.INFO.CT_WORK.pricing-operator"))["config"]
    config = {**config, "backoff": None, "ack_wait": SECOND // 10, "max_deliver": 2}
    answer = await call(
        bus, "CONSUMER.DURABLE.CREATE.CT_WORK.pricing-operator", {"stream_name": "CT_WORK", "config": config}
    )
    assert "error" not in answer, answer


async def exhaust(bus: Bus, numbers: range) -> None:
    """Put items into the queue and never acknowledge them."""
    for number in numbers:
        await bus.js_publish(item(number))
    for _ in range(2):
        for _ in numbers:
            await pull(bus, "CT_WORK", "pricing-operator")
        await asyncio.sleep(0.3)
    await pull(bus, "CT_WORK", "pricing-operator")  # a queue looks at what ran out when it is asked
    await asyncio.sleep(0.3)


# --- items that are given up -------------------------------------------------------------------------------
def test_exhausted_items_are_kept_then_taken_from_the_queue(
    streams: str, bus_process: subprocess.Popen[bytes]
) -> None:
    queue = next(stream for stream in STREAMS if stream["name"] == "CT_WORK")

    async def act(bus: Bus) -> None:
        await call(bus, "STREAM.UPDATE.CT_WORK", {**queue, "duplicate_window": 3 * SECOND})
        await hasten(bus)
        await exhaust(bus, range(3))

    until(lambda: held_by(streams, "KV_CT_SEATS") > 0)  # it relays: by now it has looked at the streams
    with_bus(streams, act)
    until(lambda: FailedDelivery.objects.filter(state="done").count() == 3)
    rows = QuarantinedMessage.objects.order_by("stream_seq")
    assert [(row.stream, row.stage, row.rule, row.subject) for row in rows] == [
        ("CT_WORK", "delivery", "deliveries-exhausted", QUEUE)
    ] * 3
    assert [json.loads(bytes(row.body))["id"] for row in rows] == [f"w-test-{n:06d}" for n in range(3)]
    assert rows[0].whole
    assert "delivered 2 times to CT_WORK/pricing-operator" in rows[0].reason
    assert held_by(streams, "CT_WORK") == 0
    assert not Suspect.objects.exists()
    replay(number=rows[0].pk, actor="ada")
    until(lambda: held_by(streams, "CT_WORK") == 1, seconds=60)

    async def again(bus: Bus) -> Msg:
        return await pull(bus, "CT_WORK", "pricing-operator")

    got = with_bus(streams, again)
    assert (got.data, (got.headers or {})["Nats-Msg-Id"]) == (bytes(rows[0].body), "w-test-000000")


def test_to_look_after_an_item_twice_is_as_once_wherever_it_was_left(streams: str) -> None:
    async def act(bus: Bus) -> list[tuple[str, int]]:
        await hasten(bus)
        await exhaust(bus, range(1))
        found = [(await call(bus, "STREAM.MSG.GET.CT_WORK", {"seq": 1})).get("error")]
        assert found == [None], "an item that is given up stays in the queue"
        loop = asyncio.get_running_loop()
        states = []
        row = await asyncio.to_thread(failed, 1)
        for state in ("found", "kept", "done"):
            await asyncio.to_thread(lambda s=state: FailedDelivery.objects.filter(pk=row).update(state=s))  # type: ignore[misc]
            await asyncio.to_thread(settle_once, bus, loop)
            await asyncio.to_thread(settle_once, bus, loop)
            states.append(await asyncio.to_thread(counts))
        return states

    states = with_bus(streams, act)
    # Left before the commit: kept and deleted. Left after it, the message is gone: as it was.
    assert states == [("done", 1), ("done", 1), ("done", 1)]
    assert held_by(streams, "CT_WORK") == 0


def failed(seq: int) -> int:
    row = FailedDelivery.objects.create(
        stream="CT_WORK", consumer="pricing-operator", stream_seq=seq, kind="exhausted", deliveries=2,
        advised_at=datetime.now(UTC),
    )  # fmt: skip
    connection.close()
    return row.pk


def counts() -> tuple[str, int]:
    found = FailedDelivery.objects.get().state, QuarantinedMessage.objects.count()
    connection.close()
    return found


def test_an_item_acknowledged_late_and_one_of_a_stream_made_anew_are_left_alone(streams: str) -> None:
    failed(77)
    early = failed(1)
    FailedDelivery.objects.filter(pk=early).update(advised_at="2020-01-01T00:00:00Z")

    async def act(bus: Bus) -> None:
        await bus.js_publish(item(1))
        await asyncio.to_thread(settle_once, bus, asyncio.get_running_loop())

    with_bus(streams, act)
    assert set(FailedDelivery.objects.values_list("state", flat=True)) == {"gone"}
    assert not QuarantinedMessage.objects.exists()
    assert held_by(streams, "CT_WORK") == 1


def test_an_item_that_an_agent_terminates_is_kept_with_its_reason(
    streams: str, bus_process: subprocess.Popen[bytes]
) -> None:
    with transaction.atomic():
        services.publish(
            subject=QUEUE, type="org.claytom.work.assigned.v1", source="portal/test", body={"id": "w-test-000009"},
            dedup="w-test-000009",
        )  # fmt: skip
    until(lambda: OutboxMessage.objects.filter(dedup="w-test-000009", stream_seq__gt=0).exists())

    async def act(bus: Bus) -> None:
        got = await pull(bus, "CT_WORK", "pricing-operator")
        await bus.publish(got.reply, b"+TERM no such kind")

    with_bus(streams, act)
    kept = until(lambda: QuarantinedMessage.objects.filter(rule="terminated").first())
    assert (kept.subject, json.loads(bytes(kept.body)), kept.whole) == (QUEUE, {"id": "w-test-000009"}, True)
    assert kept.reason == "terminated by a receiver of CT_WORK/pricing-operator: no such kind"


def test_of_an_item_that_others_sent_what_is_known_is_kept(
    streams: str, bus_process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(bus: Bus) -> None:
        await bus.js_publish(item(5))
        got = await pull(bus, "CT_WORK", "pricing-operator")
        await bus.publish(got.reply, b"+TERM")

    with_bus(streams, act)
    until(FailedDelivery.objects.exists)
    FailedDelivery.objects.update(advised_at="2026-01-01T00:00:00Z")  # the relay had its time
    kept = until(lambda: QuarantinedMessage.objects.filter(rule="terminated").first())
    assert (kept.subject, bytes(kept.body), kept.whole) == (QUEUE, b"", False)
    assert "without a reason" in kept.reason


def test_in_a_stream_that_is_no_queue_the_message_stays(streams: str, bus_process: subprocess.Popen[bytes]) -> None:
    async def act(bus: Bus) -> None:
        config = {
            "durable_name": "reader", "ack_policy": "explicit", "ack_wait": SECOND // 10, "max_deliver": 1,
            "filter_subject": "org.claytom.corporate.directive.*",
        }  # fmt: skip
        await call(bus, "CONSUMER.DURABLE.CREATE.CT_CORP.reader", {"stream_name": "CT_CORP", "config": config})
        await bus.js_publish(Outgoing("org.claytom.corporate.directive.pricing", b"{}", {}))
        for _ in range(2):
            await pull(bus, "CT_CORP", "reader")
            await asyncio.sleep(0.3)

    with_bus(streams, act)
    until(lambda: FailedDelivery.objects.filter(state="done", stream="CT_CORP").exists())
    assert QuarantinedMessage.objects.get(stage="delivery").stream == "CT_CORP"

    async def there(bus: Bus) -> str:
        found = await call(bus, "STREAM.MSG.GET.CT_CORP", {"seq": 1})
        return base64.b64decode(found["message"]["data"]).decode()

    assert with_bus(streams, there) == "{}"


# --- replay ------------------------------------------------------------------------------------------------
def event(body: dict[str, Any], id: str, **headers: str) -> Outgoing:
    told = {"ts": datetime.now(UTC).isoformat(), "agent": AGENT, "from": "idle", "reason": "crash", "restarts": 3}
    given = {"ce-type": "org.claytom.agent.state.v1", "ce-source": AGENT, "Nats-Msg-Id": id, "Claytom-Epoch": "5"}
    return Outgoing(STATE, json.dumps({**told, **body}).encode(), {**given, **headers})


def test_a_replay_waits_until_the_stream_has_forgotten_its_id_and_has_its_effect(
    nats_clean: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_staffed_holding()
    bring_to_life("pricing")
    call_command("ensure_streams", stdout=StringIO())
    events = next(stream for stream in STREAMS if stream["name"] == "CT_EVENTS")

    async def forgetful(bus: Bus) -> None:
        answer = await call(bus, "STREAM.UPDATE.CT_EVENTS", {**events, "duplicate_window": 12 * SECOND})
        assert "error" not in answer, answer
        await bus.js_publish(event({"to": "failed"}, "st-1"))

    process = start()
    try:
        until(lambda: held_by(nats_clean, "KV_CT_SEATS") > 0)  # it relays: by now it has looked at the streams
        with_bus(nats_clean, forgetful)
        until(Replacement.objects.exists)
        # As if a later check had refused it although its id is noted as handled.
        Replacement.objects.all().delete()
        sent = with_bus(nats_clean, lambda bus: call(bus, "STREAM.MSG.GET.CT_EVENTS", {"seq": 1}))
        body = base64.b64decode(sent["message"]["data"])
        kept = QuarantinedMessage.objects.create(
            stream="CT_EVENTS", stream_seq=1, subject=STATE, source=AGENT,
            headers=event({"to": "failed"}, "st-1").headers, sha256=sha256(body).hexdigest(), size=len(body),
            body=body, whole=True, stage="handler", reason="x",
        )  # fmt: skip
        assert HandledMessage.objects.filter(message_id="st-1", consumer="portal-events").exists()
        replay(number=kept.pk, actor="ada")
        waiting = until(lambda: OutboxMessage.objects.filter(insist=True, attempts__gt=0).first())
        assert "still knows this message id" in waiting.error
        assert waiting.sent_at is None
        until(lambda: OutboxMessage.objects.filter(insist=True).exclude(sent_at=None).exists(), seconds=60)
        until(lambda: HandledMessage.objects.filter(consumer="replay", message_id=str(kept.pk)).exists())
        assert held_by(nats_clean, "CT_EVENTS") == 2
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=15)


# --- requests ----------------------------------------------------------------------------------------------
def test_a_bad_request_is_answered_with_the_place_of_its_fault_and_kept(
    streams: str, bus_process: subprocess.Popen[bytes]
) -> None:
    headers = {"ce-type": "org.claytom.agent.hello.v1", "ce-source": "host/h1"}

    async def ask(bus: Bus) -> list[dict[str, Any]]:
        answers = []
        for number in range(25):
            body = {"protocol": "claytom/1", "host": "h1", "epoch": 1, "shard": {"division": number, "agents": 1}}
            while True:
                try:
                    reply = await bus.request(
                        "org.claytom.pricing.command.hello", json.dumps(body).encode(), headers=headers
                    )
                    break
                except NobodyThereError:
                    await asyncio.sleep(0.1)
            answers.append(json.loads(reply.data))
        return answers

    answers = with_bus(streams, ask)
    assert {answer["code"] for answer in answers} == {"schema"}
    assert all("at `$.shard.division`" in answer["reason"] for answer in answers)
    rows = QuarantinedMessage.objects.filter(stream="request")
    assert rows.count() == 25
    assert {row.source for row in rows} == {"host/h1"}
    assert Suspect.objects.get(closed_at=None).source == "host/h1"


# --- the database ------------------------------------------------------------------------------------------
def test_while_the_database_is_stopped_nothing_is_refused_or_acknowledged_and_all_comes_after(
    streams: str, bus_process: subprocess.Popen[bytes]
) -> None:
    bring_to_life("pricing")
    good = [event({"to": "stuck"}, f"st-{number}") for number in range(50)]
    bad = [event({"to": "asleep"}, f"bad-{number}") for number in range(5)]

    async def send(bus: Bus, messages: list[Outgoing]) -> None:
        for message in messages:
            await bus.js_publish(message)

    async def floor(bus: Bus) -> int:
        info = await call(bus, "CONSUMER.INFO.CT_EVENTS.portal-events")
        return int(info["ack_floor"]["stream_seq"])

    with_bus(streams, lambda bus: send(bus, good[:10]))
    until(lambda: with_bus(streams, floor) == 10)
    connection.close()
    server = SERVERS.stack.servers["postgresql"]
    server.stop()
    try:
        with_bus(streams, lambda bus: send(bus, [*good[10:], *bad]))
        time.sleep(4)
        assert with_bus(streams, floor) == 10, "nothing is acknowledged that is not committed"
    finally:
        server.prepare()
        server.start()
        server.wait_ready()
    until(lambda: with_bus(streams, floor) == 55, seconds=60)
    until(reachable, seconds=60)
    handled = HandledMessage.objects.filter(message_id__startswith="st-").count()
    refused = QuarantinedMessage.objects.values_list("stage", flat=True)
    assert (handled, list(refused)) == (50, ["schema"] * 5)


def reachable() -> bool:
    try:
        return QuarantinedMessage.objects.count() >= 0
    except (DatabaseError, InterfaceError):
        connection.close()
        return False
