"""The declared streams, on a real server."""

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from io import StringIO
from typing import Any, TypeVar

import pytest
from django.core.management import CommandError, call_command
from nats.aio.msg import Msg

from bus import ensure, streams
from claytom_agent.client import Bus, Outgoing
from holding.tests.factories import make_holding

T = TypeVar("T")
pytestmark = pytest.mark.django_db


async def _config(url: str, stream: str) -> dict[str, object]:
    bus = await Bus.connect(url, name="test", inbox_prefix="_INBOX_test", timeout_s=10)
    try:
        reply = await bus.request(f"$JS.API.STREAM.INFO.{stream}")
        config: dict[str, object] = json.loads(reply.data)["config"]
        return config
    finally:
        await bus.close()


@pytest.fixture
def declared(nats_clean: str) -> Iterator[str]:
    call_command("ensure_streams", stdout=StringIO())
    yield nats_clean
    call_command("ensure_streams", stdout=StringIO())


def test_every_stream_exists_with_the_settings_that_were_asked_for(declared: str) -> None:
    for wanted in streams.STREAMS:
        config = asyncio.run(_config(declared, str(wanted["name"])))
        assert config["subjects"] == wanted["subjects"]
        assert config.get("allow_atomic", False) == wanted.get("allow_atomic", False)


def test_a_second_run_changes_nothing(declared: str) -> None:
    out = StringIO()
    call_command("ensure_streams", stdout=out)
    assert out.getvalue().splitlines()[0] == "The streams are as declared."


def test_a_changed_declaration_is_applied_in_place(declared: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = [{**s, "max_age": 7200 * 10**9} if s["name"] == "CT_PRESENCE" else s for s in streams.STREAMS]
    out = StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(ensure, "STREAMS", changed)
        call_command("ensure_streams", stdout=out)
    assert "stream CT_PRESENCE updated" in out.getvalue()
    assert asyncio.run(_config(declared, "CT_PRESENCE"))["max_age"] == 7200 * 10**9


def test_a_setting_that_the_server_refuses_is_named(declared: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = [{**s, "a_setting_of_2031": 5} if s["name"] == "CT_CORP" else s for s in streams.STREAMS]
    with monkeypatch.context() as patch:
        patch.setattr(ensure, "STREAMS", changed)
        with pytest.raises(CommandError, match=r"STREAM.UPDATE.CT_CORP.*a_setting_of_2031"):
            call_command("ensure_streams", stdout=StringIO())


def test_a_server_that_is_too_old_is_refused(declared: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(ensure, "LEAST_VERSION", (99, 0))
        with pytest.raises(CommandError, match=r"nats-server 2\.\d+ is too old: use 99\.0 or later"):
            call_command("ensure_streams", stdout=StringIO())


def test_a_setting_that_a_server_drops_in_silence_is_a_difference() -> None:
    returned = {"max_age": 5, "subjects": ["a"]}  # as nats-server 2.9 answers
    wanted = {"max_age": 5, "subjects": ["a"], "allow_msg_ttl": True, "compression": "s2"}
    assert ensure.differences(wanted, returned) == [
        "allow_msg_ttl: wanted True, the server has False",
        "compression: wanted 's2', the server has ''",
    ]


@pytest.mark.parametrize(
    ("subject", "stream"),
    [
        ("org.claytom.pricing.metrics.kpi", "CT_KPI"),
        ("org.claytom.corporate.metrics.presence", "CT_PRESENCE"),
        ("org.claytom.pricing.metrics.state", "CT_EVENTS"),
        ("org.claytom.pricing.operator.any", "CT_WORK"),
        ("org.claytom.pricing.command.sync", "CT_CONTROL"),
        ("org.claytom.corporate.escalation.pricing", "CT_CORP"),
        ("$KV.CT_SEATS.pricing.1", "KV_CT_SEATS"),
        ("org.claytom.pricing.command.hello", None),
        ("org.claytom.pricing.command.report", None),
        ("org.claytom.pricing.operator.op-0042-g3", None),
        ("org.claytom.corporate.c-suite.ceo", None),
        ("org.claytom", None),
    ],
)
def test_a_subject_belongs_to_the_stream_that_captures_it(subject: str, stream: str | None) -> None:
    found = streams.stream_of(subject)
    assert (found["name"] if found else None) == stream


# --- queues of work ----------------------------------------------------------------------------------------
SUBSIDIARIES = [f"unit-{number:02d}" for number in range(35)]


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


async def pull_one(bus: Bus, stream: str, consumer: str, *, waiting: bool = True) -> Msg:
    """Return the next message of a consumer, or the server's word that there is none.

    What the stream has acknowledged reaches its consumers a moment later, so who expects an item waits for it.
    """
    request = {"expires": 4 * streams.SECOND} if waiting else {"no_wait": True}
    arrived: asyncio.Queue[Msg] = asyncio.Queue()
    inbox = bus.new_inbox()
    await bus.subscribe(inbox, arrived.put)
    await bus._client.publish(
        f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}", json.dumps(request).encode(), reply=inbox
    )
    return await asyncio.wait_for(arrived.get(), 5)


def test_the_subsidiaries_of_the_loaded_holding_have_a_queue_for_each_role(declared: str) -> None:
    make_holding(subsidiaries=("pricing", "tax"))
    out = StringIO()
    call_command("ensure_streams", stdout=out)
    assert out.getvalue().count("consumer CT_WORK/") == 10

    async def names(bus: Bus) -> dict[str, str]:
        found = (await call(bus, "CONSUMER.LIST.CT_WORK"))["consumers"]
        return {one["name"]: one["config"]["filter_subject"] for one in found}

    assert with_bus(declared, names) == {
        f"{unit}-{role}": f"org.claytom.{unit}.{role}.any" for unit in ("pricing", "tax") for role in streams.ROLES
    }


def test_175_queues_are_made_and_compared_in_well_under_a_second(declared: str) -> None:
    async def timed(bus: Bus) -> tuple[list[str], float, list[str], float]:
        began = time.monotonic()
        made = await ensure.ensure_streams(bus, SUBSIDIARIES)
        between = time.monotonic()
        again = await ensure.ensure_streams(bus, SUBSIDIARIES)
        return made, between - began, again, time.monotonic() - between

    made, first, again, second = with_bus(declared, timed)
    print(f"\n175 queues: made in {first:.2f} s, compared in {second:.2f} s")  # noqa: T201 - the figure is wanted
    assert (len(made), again) == (175, [])


def test_a_queue_gives_an_item_to_one_agent_of_its_role(declared: str) -> None:
    async def work(bus: Bus) -> tuple[bytes, str]:
        await ensure.ensure_streams(bus, ["pricing"])
        await bus.js_publish(Outgoing("org.claytom.pricing.operator.any", b"item", {}))
        item = await pull_one(bus, "CT_WORK", "pricing-operator")
        other = await pull_one(bus, "CT_WORK", "pricing-director", waiting=False)
        return item.data, (other.headers or {}).get("Status", "")

    assert with_bus(declared, work) == (b"item", "404")


# --- upgrades ----------------------------------------------------------------------------------------------
OLDER: dict[str, dict[str, Any]] = {
    # As an earlier version may have declared them: other limits, no compression, no deduplication to speak of.
    "CT_KPI": {"compression": "none", "allow_atomic": False, "max_age": 1800 * streams.SECOND, "max_bytes": -1},
    "CT_EVENTS": {
        "compression": "none", "allow_atomic": False, "duplicate_window": 60 * streams.SECOND, "deny_purge": False,
        "deny_delete": False, "discard": "old", "max_bytes": -1,
    },
    "CT_WORK": {"max_msgs_per_subject": 30_000, "discard_new_per_subject": False, "compression": "none"},
    "CT_CORP": {"max_age": 3600 * streams.SECOND},
}  # fmt: skip


async def _remake(bus: Bus, changes: Mapping[str, Mapping[str, Any]]) -> None:
    for stream in streams.STREAMS:
        if stream["name"] in changes:
            await call(bus, f"STREAM.DELETE.{stream['name']}")
            answer = await call(bus, f"STREAM.CREATE.{stream['name']}", {**stream, **changes[stream["name"]]})
            assert "error" not in answer, answer


async def _fill(bus: Bus, count: int) -> None:
    for subject in ("metrics.kpi", "metrics.state", "operator.any"):
        for number in range(count):
            await bus.js_publish(
                Outgoing(f"org.claytom.pricing.{subject}", b"%d" % number, {"Nats-Msg-Id": f"{subject}-{number}"})
            )


async def _bodies(bus: Bus, stream: str) -> list[bytes]:
    state = (await call(bus, f"STREAM.INFO.{stream}"))["state"]
    found = []
    for seq in range(state["first_seq"], state["last_seq"] + 1):
        answer = await call(bus, f"STREAM.MSG.GET.{stream}", {"seq": seq})
        found.append(base64.b64decode(answer["message"]["data"]))
    return found


def test_an_older_declaration_is_upgraded_with_all_its_messages(declared: str) -> None:
    async def upgrade(bus: Bus) -> tuple[list[str], dict[str, list[bytes]], dict[str, Any], int]:
        await _remake(bus, OLDER)
        await call(
            bus, "CONSUMER.DURABLE.CREATE.CT_WORK.pricing-operator",
            {"stream_name": "CT_WORK", "config": {
                "durable_name": "pricing-operator", "ack_policy": "explicit", "ack_wait": 60 * streams.SECOND,
                "filter_subject": "org.claytom.pricing.operator.any", "max_deliver": 3}},
        )  # fmt: skip
        await _fill(bus, 30)
        taken = await pull_one(bus, "CT_WORK", "pricing-operator")
        await bus.request(taken.reply, b"+ACK")
        done = await ensure.ensure_streams(bus, ["pricing"])
        bodies = {name: await _bodies(bus, name) for name in ("CT_KPI", "CT_EVENTS")}
        queue = await call(bus, "CONSUMER.INFO.CT_WORK.pricing-operator")
        duplicate = await bus.js_publish(
            Outgoing("org.claytom.pricing.metrics.state", b"0", {"Nats-Msg-Id": "metrics.state-0"})
        )
        return done, bodies, queue, duplicate.duplicate

    done, bodies, queue, duplicate = with_bus(declared, upgrade)
    assert {f"stream {name} updated" for name in OLDER} <= set(done)
    assert "consumer CT_WORK/pricing-operator updated" in done
    assert bodies["CT_KPI"] == bodies["CT_EVENTS"] == [b"%d" % number for number in range(30)]
    assert (queue["num_pending"], queue["ack_floor"]["stream_seq"]) == (29, 1)
    assert queue["config"]["backoff"] == streams.WORK_BACKOFF
    assert duplicate, "the ids that a stream has seen survive the upgrade"


@pytest.mark.parametrize(
    ("stream", "change", "sentence"),
    [
        ("CT_CORP", {"storage": "memory"}, r"storage"),
        ("CT_CONTROL", {"retention": "workqueue"}, r"retention|workqueue"),
        ("CT_KPI", {"max_msgs": 5}, r"it would lose what is beyond its new max_msgs \(30 of 5\)"),
        ("CT_EVENTS", {"max_bytes": 500}, r"it would lose what is beyond its new max_bytes"),
        (
            "CT_WORK",
            {"max_msgs_per_subject": 7},
            r"max_msgs_per_subject \(30 on org.claytom.pricing.operator.any\)",
        ),
    ],
)
def test_a_change_that_cannot_be_made_in_place_is_refused_and_nothing_is_lost(
    declared: str, monkeypatch: pytest.MonkeyPatch, stream: str, change: Mapping[str, Any], sentence: str
) -> None:
    with_bus(declared, lambda bus: _fill(bus, 30))
    held = {"CT_KPI": 30, "CT_EVENTS": 30, "CT_WORK": 30, "CT_CORP": 0, "CT_CONTROL": 0}[stream]
    changed = [
        {**one, **change} if one["name"] == stream
        else {**one, "max_age": 1200 * streams.SECOND} if one["name"] == "CT_PRESENCE" else one
        for one in streams.STREAMS
    ]  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(ensure, "STREAMS", changed)
        with pytest.raises(CommandError, match=sentence) as refusal:
            call_command("ensure_streams", stdout=StringIO())
    assert f"Stream {stream} stays as it is, with its {held} messages" in str(refusal.value)
    assert asyncio.run(_config(declared, "CT_PRESENCE"))["max_age"] == 1200 * streams.SECOND, "the rest is applied"

    async def state(bus: Bus) -> int:
        return int((await call(bus, f"STREAM.INFO.{stream}"))["state"]["messages"])

    assert with_bus(declared, state) == held


def test_an_age_that_would_lose_old_messages_is_refused(declared: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_bus(declared, lambda bus: _fill(bus, 3))
    time.sleep(1.2)
    changed = [{**one, "max_age": streams.SECOND} if one["name"] == "CT_WORK" else one for one in streams.STREAMS]
    with monkeypatch.context() as patch:
        patch.setattr(ensure, "STREAMS", changed)
        with pytest.raises(CommandError, match=r"it would lose messages since .* older than its new max_age"):
            call_command("ensure_streams", stdout=StringIO())


def test_a_subject_moves_from_one_stream_to_another(declared: str) -> None:
    async def move(bus: Bus) -> list[str]:
        await call(bus, "STREAM.DELETE.CT_KPI")
        await call(bus, "STREAM.DELETE.CT_CONTROL")
        control = next(one for one in streams.STREAMS if one["name"] == "CT_CONTROL")
        older = {**control, "subjects": [*control["subjects"], "org.claytom.*.metrics.kpi"]}
        assert "error" not in await call(bus, "STREAM.CREATE.CT_CONTROL", older)
        return await ensure.ensure_streams(bus)

    assert {"stream CT_KPI created", "stream CT_CONTROL updated"} <= set(with_bus(declared, move))


def test_a_consumer_that_cannot_be_changed_in_place_is_named(declared: str) -> None:
    async def other(bus: Bus) -> None:
        await call(
            bus, "CONSUMER.DURABLE.CREATE.CT_WORK.pricing-operator",
            {"stream_name": "CT_WORK", "config": {
                "durable_name": "pricing-operator", "ack_policy": "explicit", "deliver_policy": "all",
                "filter_subject": "org.claytom.pricing.operator.any", "replay_policy": "original"}},
        )  # fmt: skip
        with pytest.raises(
            ensure.ChangeRefusedError, match=r"Consumer CT_WORK/pricing-operator stays .*replay_policy"
        ):
            await ensure.ensure_streams(bus, ["pricing"])

    with_bus(declared, other)
