"""An agent of its own, on a real server, at a desk that answers as the portal does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from claytom_agent.agent import Agent, FencedError
from claytom_agent.client import Bus, NoAnswerError, NobodyThereError
from claytom_agent.subjects import SubjectError
from claytom_agent.tests.conftest import NatsServer, wait_until
from claytom_agent.tests.single import SUBJECT, Desk, Ear, ask, login, make_queue, put_work, queue_emptied
from claytom_agent.workers.base import Context, Cost, Item, ItemRejectedError, Output

KPIS = {
    "throughput_per_day": 12.0,
    "quality_score": 90.0,
    "sla_met_pct": 99.0,
    "innovation_landings_mo": 0.0,
    "training_hours_w": 0.0,
}


async def echo(item: Item, ctx: Context) -> Output:
    return Output(result={"echo": item.input})


@pytest_asyncio.fixture
async def desk(portal: Bus) -> Desk:
    await make_queue(portal)
    return await Desk(portal).open()


@pytest_asyncio.fixture
async def ear(portal: Bus) -> Ear:
    return await Ear().on(portal)


class Run:
    """An agent that runs in this process."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.task = asyncio.create_task(agent.run())

    async def ended(self) -> BaseException | None:
        done, _ = await asyncio.wait({self.task}, timeout=8.0)
        assert done, "the agent did not end"
        return self.task.exception()


@pytest_asyncio.fixture
async def start(nats: NatsServer, desk: Desk) -> AsyncIterator[Any]:
    running: list[Run] = []

    async def begin(work: Any = echo, **options: Any) -> Run:
        run = Run(Agent(SUBJECT, work, url=login(nats), **options))
        running.append(run)
        await wait_until(lambda: run.agent.condition.state != "starting" or run.task.done())
        return run

    yield begin
    for run in running:
        run.agent.stop()
    await asyncio.gather(*(run.task for run in running), return_exceptions=True)


async def test_it_says_hello_is_seen_and_answers(portal: Bus, desk: Desk, ear: Ear, start: Any) -> None:
    run = await start(name="echo", version="2")
    hello = desk.hellos[0]
    assert hello["protocol"] == "claytom/1"
    assert hello["agent"] == {"id": "op-0042-g2", "role": "operator", "name": "echo", "version": "2"}
    await wait_until(lambda: len(ear.bodies("presence")) >= 3, 3)
    body, headers = ear.bodies("presence")[-1], ear.headers("presence")[-1]
    assert body["division"] == "pricing.a-op-0042-g2"
    assert body["agents"][0][:2] == ["op-0042-g2", "idle"]
    assert headers["ce-source"] == SUBJECT
    assert headers["Claytom-Epoch"] == str(desk.epochs[0]) == str(body["epoch"])
    pong = await ask(portal, "agent.ping")
    assert pong == {"agent": SUBJECT, "state": "idle", "epoch": desk.epochs[0], "host": "a-op-0042-g2"}
    run.agent.stop("over")
    assert await run.ended() is None
    assert desk.goodbyes == [{"agent": SUBJECT, "epoch": desk.epochs[0], "reason": "over"}]
    assert ear.bodies("presence")[-1]["agents"][0][1] == "retired"
    with contextlib.suppress(
        NoAnswerError, NobodyThereError
    ):  # the server may not have seen yet that the connection is gone
        await ask(portal, "agent.ping")
    with pytest.raises(NobodyThereError):
        await ask(portal, "agent.ping")


async def test_a_result_is_stored_before_the_item_leaves_the_queue(
    portal: Bus, desk: Desk, ear: Ear, start: Any
) -> None:
    order: list[str] = []

    async def note(message: Any) -> None:
        order.append("ack" if message.subject.startswith("$JS.ACK") else "result")

    await portal.subscribe("$JS.ACK.CT_WORK.>", note)
    await portal.subscribe("org.claytom.pricing.metrics.result", note)
    await start()
    await put_work(portal, "w-test-000001", {"a": 1})
    await wait_until(lambda: len(order) == 2)
    assert order == ["result", "ack"]
    body, headers = ear.bodies("result")[0], ear.headers("result")[0]
    assert body["status"] == "completed"
    assert body["output"] == {"echo": {"a": 1}}
    assert body["agent"] == SUBJECT
    assert headers["Nats-Msg-Id"] == "res-w-test-000001"
    await queue_emptied(portal)


async def test_samples_are_the_standard_json(desk: Desk, ear: Ear, start: Any) -> None:
    await start(measures=lambda: (KPIS, {"O1": "Echo", "KR1": 100.0}))
    await wait_until(lambda: len(ear.bodies("kpi")) >= 2, 5)
    body, headers = ear.bodies("kpi")[0], ear.headers("kpi")[0]
    assert set(body) == {"ts", "subsidiary", "role", "kpis", "okrs"}
    assert body["kpis"] == KPIS
    assert headers["Nats-Msg-Id"].startswith("kpi-pricing-op-0042-g2-")
    assert len({one["Nats-Msg-Id"] for one in ear.headers("kpi")}) == len(ear.headers("kpi"))


async def test_a_failure_is_tried_again_and_the_last_one_is_told(
    portal: Bus, desk: Desk, ear: Ear, start: Any
) -> None:
    attempts: list[int] = []

    async def stumble(item: Item, ctx: Context) -> Output:
        attempts.append(item.attempt)
        if item.kind == "never" or item.attempt == 1:
            raise RuntimeError("no luck")
        return Output(result=item.attempt)

    await start(stumble)
    await put_work(portal, "w-test-000002")
    await wait_until(lambda: bool(ear.bodies("result")), 5)
    assert attempts == [1, 2]
    assert ear.bodies("result")[0]["output"] == 2
    policy = {"max_attempts": 1, "backoff_s": 0}
    await put_work(portal, "w-test-000003", kind="never", attempt_policy=policy)
    await wait_until(lambda: len(ear.bodies("result")) == 2, 5)
    assert ear.bodies("result")[1]["status"] == "failed"
    assert ear.bodies("result")[1]["error"] == {"code": "worker_failed", "message": "RuntimeError: no luck"}


async def test_what_cannot_be_done_is_rejected_and_what_cannot_be_read_is_terminated(
    portal: Bus, desk: Desk, ear: Ear, start: Any
) -> None:
    async def refuse(item: Item, ctx: Context) -> Output:
        raise ItemRejectedError("skill", "I only echo")

    await start(refuse)
    await put_work(portal, "w-test-000004")
    await wait_until(lambda: bool(ear.bodies("result")))
    assert ear.bodies("result")[0]["status"] == "rejected"
    assert ear.bodies("result")[0]["error"]["code"] == "skill"
    terminated: list[Any] = []

    async def advisory(message: Any) -> None:
        terminated.append(message.data)

    await portal.subscribe("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.CT_WORK.>", advisory)
    await portal.publish("org.claytom.pricing.operator.any", b'{"id": "nonsense"}')
    await wait_until(lambda: bool(terminated))
    assert b"Expected" in terminated[0] or b"Object missing" in terminated[0]


async def test_the_deadline_ends_a_run(portal: Bus, desk: Desk, ear: Ear, start: Any) -> None:
    async def dawdle(item: Item, ctx: Context) -> Output:
        await asyncio.sleep(60)
        return Output()

    await start(dawdle)
    await put_work(portal, "w-test-000005", start_to_close_s=0.2)
    await wait_until(lambda: bool(ear.bodies("result")))
    assert ear.bodies("result")[0]["error"]["code"] == "deadline"


async def test_a_paused_agent_leaves_the_queue_alone(portal: Bus, desk: Desk, ear: Ear, start: Any) -> None:
    await start()
    assert (await ask(portal, "agent.pause", {"reason": "audit"}))["status"] == "accepted"
    assert (await ask(portal, "agent.ping"))["state"] == "paused"
    await put_work(portal, "w-test-000006")
    await asyncio.sleep(1.0)
    assert not ear.bodies("result")
    assert ear.bodies("presence")[-1]["agents"][0][1] == "paused"
    assert (await ask(portal, "agent.resume"))["status"] == "accepted"
    await wait_until(lambda: bool(ear.bodies("result")), 8)


async def test_drained_it_finishes_and_retired_it_gives_back(portal: Bus, desk: Desk, ear: Ear, start: Any) -> None:
    async def slowly(item: Item, ctx: Context) -> Output:
        await asyncio.sleep(item.input)
        return Output()

    drained = await start(slowly)
    await put_work(portal, "w-test-000007", 1.0)
    await wait_until(lambda: drained.agent.condition.running == 1)
    assert (await ask(portal, "agent.drain", {"reason": "leave"}))["status"] == "accepted"
    assert await drained.ended() is None
    assert [body["work_id"] for body in ear.bodies("result")] == ["w-test-000007"]
    assert desk.goodbyes[0]["reason"] == "drain: leave"
    retired = await start(slowly)
    await put_work(portal, "w-test-000008", 30.0)
    await wait_until(lambda: retired.agent.condition.running == 1)
    assert (await ask(portal, "agent.retire"))["status"] == "accepted"
    assert await retired.ended() is None
    assert len(ear.bodies("result")) == 1
    await asyncio.sleep(0.2)
    successor = await start()
    await wait_until(lambda: len(ear.bodies("result")) == 2, 8)
    assert successor.agent.identity.epoch == desk.epochs[-1] > desk.epochs[0]


async def test_an_offer_is_taken_while_there_is_room_and_cancelled_on_request(
    portal: Bus, desk: Desk, ear: Ear, start: Any
) -> None:
    async def dawdle(item: Item, ctx: Context) -> Output:
        await asyncio.Event().wait()
        return Output()

    run = await start(dawdle, skills=("echo",), capacity=2)
    await asyncio.sleep(0.2)  # its pull waits at the server, and keeps one room for what comes
    item = {"id": "w-test-000009", "kind": "echo", "deadline": "2099-01-01T00:00:00Z"}
    assert (await ask(portal, "work.offer", {**item, "kind": "sing"}))["code"] == "skill"
    assert (await ask(portal, "work.offer", item))["status"] == "accepted"
    assert (await ask(portal, "work.offer", item))["status"] == "accepted"  # the same once more
    assert run.agent.condition.running == 1
    assert (await ask(portal, "work.offer", {**item, "id": "w-test-000010"}))["code"] == "busy"
    assert (await ask(portal, "agent.ping"))["state"] == "busy"
    assert (await ask(portal, "work.cancel", {"id": "w-test-000009"}))["status"] == "accepted"
    await wait_until(lambda: bool(ear.bodies("result")))
    assert ear.bodies("result")[0]["status"] == "canceled"


async def test_costs_progress_and_escalations_are_told(portal: Bus, desk: Desk, ear: Ear, start: Any) -> None:
    drawn: list[float] = []

    async def talk(item: Item, ctx: Context) -> Output:
        drawn.append(ctx.rng.random())
        await ctx.progress(50, "half")
        await ctx.progress(60, "too soon")
        await ctx.cost(Cost("c-1", "cpu", 120, "EUR", cpu_ms=3))
        await ctx.cost(Cost("c-1", "cpu", 120, "EUR", cpu_ms=3))
        await ctx.escalate("no data", needs="a file", severity="high")
        return Output(result="done")

    await start(talk)
    await put_work(portal, "w-test-000011")
    await wait_until(lambda: bool(ear.bodies("result")))
    assert [body["pct"] for body in ear.bodies("progress")] == [50]
    assert ear.bodies("cost")[0]["cost_micros"] == 120
    assert ear.headers("cost")[0]["Nats-Msg-Id"] == "cost-op-0042-g2-c-1"
    assert ear.bodies("escalation")[0]["summary"] == "no data"
    reply = await portal.request("$JS.API.STREAM.INFO.CT_EVENTS", b'{"subjects_filter": ">"}')
    assert b'"org.claytom.pricing.metrics.cost":1' in reply.data  # the same call twice is stored once
    await put_work(portal, "w-test-000012")
    await wait_until(lambda: len(ear.bodies("result")) == 2)
    assert drawn[0] != drawn[1]


async def test_nonsense_is_answered(portal: Bus, desk: Desk, start: Any) -> None:
    await start()
    headers = {"ce-type": "org.claytom.no.such.v1"}
    reply = await portal.request(SUBJECT, b"\xff{", headers=headers)
    assert b"unknown-type" in reply.data
    reply = await portal.request(SUBJECT, b"[]", headers={"ce-type": "org.claytom.work.offer.v1"})
    assert b'"code":"schema"' in reply.data
    assert (await ask(portal, "agent.ping"))["state"] == "idle"


async def test_a_refusal_for_good_ends_it_and_another_one_is_asked_again(
    portal: Bus, desk: Desk, start: Any
) -> None:
    desk.refusal = {"code": "seat-taken", "retry_after_s": 0.5, "reason": "somebody is there"}
    waiting = asyncio.ensure_future(start())
    await wait_until(lambda: len(desk.hellos) >= 2)
    desk.refusal = None
    run = await waiting
    assert run.agent.condition.state == "idle"
    desk.refusal = {"code": "fenced", "reason": "the seat has a later agent"}
    run.agent._doubt.set()  # as after a break of the line
    error = await run.ended()
    assert isinstance(error, FencedError)
    assert "the seat has a later agent" in str(error)


async def test_it_comes_back_by_itself_under_the_same_epoch(
    nats: NatsServer, portal: Bus, desk: Desk, ear: Ear, start: Any
) -> None:
    run = await start()
    nats.kill()
    await wait_until(lambda: not run.agent._bus.connected)
    nats.start()
    await wait_until(lambda: run.agent._bus.connected and portal.connected, 10)
    await wait_until(lambda: len(desk.hellos) >= 2, 15)
    assert desk.hellos[-1]["resume"] == {"last_epoch": desk.epochs[0]}
    count = len(ear.bodies("presence"))
    await wait_until(lambda: len(ear.bodies("presence")) > count + 1)
    assert run.agent.identity.epoch == desk.epochs[0]
    await put_work(portal, "w-test-000013", "back")
    await wait_until(lambda: bool(ear.bodies("result")), 10)


@pytest.mark.parametrize("subject", ["org.claytom.pricing", "org.claytom.corporate.c-suite.ceo"])
def test_only_agents_of_subsidiaries_have_a_connection_of_their_own(subject: str) -> None:
    with pytest.raises(SubjectError):
        Agent(subject, echo, url="nats://127.0.0.1:1")
