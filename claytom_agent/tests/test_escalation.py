"""Escalation upward as others see it: who is asked, what is told, and what a decision does."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from claytom_agent.agents import RestartPolicy
from claytom_agent.client import Bus
from claytom_agent.escalation import superiors
from claytom_agent.host import Host
from claytom_agent.manifest import decode_manifest
from claytom_agent.messages import ce_type
from claytom_agent.tests.conftest import ORDER, SETTINGS, StartHost, put_manifest, wait_until
from claytom_agent.workers.base import Context, Item, Output

KEY = "pricing.1"
WORKER: dict[str, Any] = {"kind": "sim", "params": {}}
ROOT = "org.claytom.pricing"
COORDINATOR, DIRECTOR = f"{ROOT}.coordinator.co-0006-g1", f"{ROOT}.director.di-0001-g1"
OPERATOR = f"{ROOT}.operator.op-0031-g1"


def seats(worker: dict[str, Any] = WORKER) -> list[dict[str, Any]]:
    return [
        {"role": "director", "code": "di", "ordinals": [[1, 1]]},
        {"role": "coordinator", "code": "co", "ordinals": [[6, 7]]},
        {"role": "innovator", "code": "in", "ordinals": [[26, 26]]},
        {"role": "operator", "code": "op", "ordinals": [[31, 40]], "worker": worker},
    ]


class Told:
    """What is told of escalations, by subject."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, Any]]] = []

    async def follow(self, portal: Bus) -> "Told":
        async def note(message: Any) -> None:
            self.heard.append(
                (message.subject, {**json.loads(message.data), "key": message.headers["Nats-Msg-Id"]})
            )

        await portal.subscribe("org.claytom.*.metrics.escalation", note)
        await portal.subscribe("org.claytom.corporate.escalation.*", note)
        return self


async def send(portal: Bus, address: str, kind: str, body: dict[str, Any], id: str = "m1", **more: str) -> Any:
    headers = {"ce-type": ce_type(kind), "ce-source": "portal/test", "ce-id": id, **more}
    reply = await portal.request(address, json.dumps(body).encode(), headers=headers, timeout_s=2.0)
    return json.loads(reply.data)


async def running(portal: Bus, start_host: StartHost, worker: dict[str, Any] = WORKER, **options: Any) -> Host:
    await put_manifest(portal, KEY, seats=seats(worker))
    host = await start_host(chaos=True, policy=RestartPolicy(base=0.01, intensity=2, window=5.0), **options)
    await wait_until(lambda: KEY in host.divisions and len(host.divisions[KEY].agents) == 14)
    division = host.divisions[KEY]
    await wait_until(lambda: all(agent.state in ("idle", "busy") for agent in division.agents.values()))
    return host


async def fail(portal: Bus, *agents: str) -> None:
    await portal.publish(f"{ROOT}.command.config", json.dumps({"fail": list(agents), "version": 1}).encode(), ORDER)


async def pause(portal: Bus, host: Host, *roles: str) -> None:
    paused = [{**group, "desired": "paused"} if group["role"] in roles else group for group in seats()]
    manifest = host.divisions[KEY].manifest
    assert manifest is not None
    await put_manifest(portal, KEY, manifest.generation + 1, seats=paused)
    agents = host.divisions[KEY].agents.values()
    await wait_until(lambda: all(agent.state == "paused" for agent in agents if agent.group.role in roles))


def test_the_rule_of_the_organisation_names_the_superiors() -> None:
    manifest = {
        "v": 1, "subsidiary": "pricing", "division": "1", "generation": 1, "seats": seats(),
        "generations": {"7": 3}, "settings": SETTINGS,
    }  # fmt: skip
    found = decode_manifest(KEY, json.dumps(manifest).encode())
    assert superiors(found, 31) == [("L3", COORDINATOR), ("L4", DIRECTOR)]
    assert superiors(found, 36)[0] == ("L3", f"{ROOT}.coordinator.co-0007-g3")
    assert superiors(found, 26) == [("L4", DIRECTOR)]
    assert superiors(found, 6) == [("L4", DIRECTOR)]
    assert superiors(found, 1) == superiors(found, 99) == superiors(found, "ceo") == []


def test_seats_opened_later_have_the_superior_that_the_manifest_names_and_change_nobody_elses() -> None:
    later = seats()
    later[3]["ordinals"] += [[1501, 1501], [1506, 1506]]
    manifest = {
        "v": 1, "subsidiary": "pricing", "division": "1", "generation": 1, "seats": later,
        "superiors": {"1501": 6, "1506": 7}, "settings": SETTINGS,
    }  # fmt: skip
    found = decode_manifest(KEY, json.dumps(manifest).encode())
    assert superiors(found, 1501) == [("L3", COORDINATOR), ("L4", DIRECTOR)]
    assert superiors(found, 1506)[0] == ("L3", f"{ROOT}.coordinator.co-0007-g1")
    assert [superiors(found, ordinal)[0].address[-9:-3] for ordinal in (31, 35, 36, 40)] == [
        "o-0006", "o-0006", "o-0007", "o-0007",
    ]  # fmt: skip


async def test_a_failed_agent_is_taken_by_its_coordinator_and_the_portal_is_told_once(
    portal: Bus, start_host: StartHost
) -> None:
    told = await Told().follow(portal)
    await running(portal, start_host)
    await fail(portal, OPERATOR)
    await wait_until(lambda: told.heard)
    await asyncio.sleep(0.5)
    assert len(told.heard) == 1
    subject, body = told.heard[0]
    assert subject == f"{ROOT}.metrics.escalation"
    assert (body["level"], body["taken_by"], body["chain"]) == ("L3", COORDINATOR, [])
    assert (body["id"], body["agent"], body["matter"]) == ("failed-pricing-op-0031-g1", OPERATOR, "staffing")
    assert body["key"] == "esc-failed-pricing-op-0031-g1-L3"
    assert "fault injected" in body["summary"]


async def test_who_does_not_take_it_is_passed_over_up_to_the_holding(portal: Bus, start_host: StartHost) -> None:
    told = await Told().follow(portal)
    host = await running(portal, start_host)
    await pause(portal, host, "coordinator")
    await fail(portal, OPERATOR)
    await wait_until(lambda: len(told.heard) == 2)
    assert [(body["level"], body.get("taken_by")) for _, body in told.heard] == [("L3", None), ("L4", DIRECTOR)]
    assert told.heard[1][1]["chain"] == [COORDINATOR]
    await pause(portal, host, "director")
    told.heard.clear()
    await fail(portal, f"{ROOT}.innovator.in-0026-g1")
    await wait_until(lambda: len(told.heard) == 2)
    assert [subject for subject, _ in told.heard] == [
        f"{ROOT}.metrics.escalation", "org.claytom.corporate.escalation.pricing",
    ]  # fmt: skip
    assert told.heard[1][1]["chain"] == [DIRECTOR]


async def test_a_degraded_division_asks_once_for_all(portal: Bus, start_host: StartHost) -> None:
    told = await Told().follow(portal)
    host = await running(portal, start_host)
    await fail(portal, *(f"{ROOT}.operator.op-{number:04d}-g1" for number in range(31, 41)))
    await wait_until(lambda: any(body["severity"] == "critical" for _, body in told.heard))
    await asyncio.sleep(0.5)
    critical = [body for _, body in told.heard if body["severity"] == "critical"]
    assert len(critical) == 1
    assert critical[0]["id"] == f"degraded-{KEY}-{host.divisions[KEY].lease.epoch}"
    assert len(told.heard) <= 3  # what failed before it was degraded


async def test_a_decision_lets_a_failed_agent_try_again_with_new_input(portal: Bus, start_host: StartHost) -> None:
    host = await running(portal, start_host)
    await fail(portal, OPERATOR)
    agent = host.divisions[KEY].agents[31]
    await wait_until(lambda: agent.state == "failed")
    agent.broken = False
    body = {"id": "failed-pricing-op-0031-g1", "decision": "try again", "input": {"limit": 3}}
    assert await send(portal, OPERATOR, "escalation.resolve", body) == {
        "status": "accepted", "code": "restarted", "reason": "", "retry_after_s": 0.0,
    }  # fmt: skip
    await wait_until(lambda: agent.state == "idle")
    healthy = f"{ROOT}.operator.op-0032-g1"
    assert (await send(portal, healthy, "escalation.resolve", body))["code"] == "noted"


# --- directed messages -------------------------------------------------------------------------------------


class Solver:
    """Does `price` items; `shift` reports nothing. What it is told to need it asks for."""

    inline: ClassVar[bool] = False
    kinds: ClassVar[frozenset[str]] = frozenset({"price"})
    runs: ClassVar[list[str]] = []

    def __init__(self, params: Any) -> None:
        self.start_to_close_s = 5.0

    async def run(self, item: Item, ctx: Context) -> Output:
        if item.kind == "shift":
            return Output()
        self.runs.append(item.id)
        if item.input == "wait":
            await asyncio.sleep(60)
        if item.input == "ask":
            await ctx.escalate("which currency?", needs="a currency", severity="low")
        if item.input == "fail":
            raise ValueError("no price")
        return Output(done=1, result={"price": 7})


@pytest.fixture(autouse=True)
def solver(register: Callable[..., None]) -> None:
    register("solver", Solver)


SOLVER = {"kind": "solver", "params": {}}


def work(number: int, given: Any = None, kind: str = "price") -> dict[str, Any]:
    return {"id": f"w-test-{number:06d}", "kind": kind, "deadline": "2099-01-01T00:00:00Z", "input": given}


@pytest.fixture
async def results(portal: Bus) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    async def note(message: Any) -> None:
        found.append({**json.loads(message.data), "key": message.headers["Nats-Msg-Id"]})

    await portal.subscribe("org.claytom.*.metrics.result", note)
    return found


async def test_offered_work_is_done_once_and_its_result_told(
    portal: Bus, start_host: StartHost, results: list[dict[str, Any]]
) -> None:
    await running(portal, start_host, SOLVER)
    Solver.runs.clear()
    answers = [await send(portal, OPERATOR, "work.offer", work(1), "w1") for _ in range(3)]
    assert [answer["status"] for answer in answers] == ["accepted"] * 3
    await wait_until(lambda: results)
    assert (await send(portal, OPERATOR, "work.offer", work(1), "w1"))["status"] == "accepted"
    await asyncio.sleep(0.3)
    assert Solver.runs == ["w-test-000001"]
    assert [(one["key"], one["status"], one["output"]) for one in results] == [
        ("res-w-test-000001", "completed", {"price": 7})
    ]


async def test_work_is_cancelled_refused_and_escalated(
    portal: Bus, start_host: StartHost, results: list[dict[str, Any]]
) -> None:
    told = await Told().follow(portal)
    await running(portal, start_host, SOLVER)
    assert (await send(portal, OPERATOR, "work.offer", work(1, "wait"), "w1"))["status"] == "accepted"
    busy = await send(portal, OPERATOR, "work.offer", work(2), "w2")
    assert (busy["code"], busy["retry_after_s"]) == ("busy", 5.0)
    cancel = {"id": "w-test-000001", "reason": "not needed"}
    assert (await send(portal, OPERATOR, "work.cancel", cancel, "c1"))["code"] == ""
    await wait_until(lambda: results)
    assert results[0]["status"] == "canceled"
    assert (await send(portal, OPERATOR, "work.offer", work(2), "w2"))[
        "status"
    ] == "accepted"  # busy was no decision
    assert (await send(portal, OPERATOR, "work.offer", work(3, kind="review"), "w3"))["code"] == "skill"
    assert (await send(portal, DIRECTOR, "work.offer", work(3), "w3"))["code"] == "skill"
    assert (await send(portal, OPERATOR, "work.offer", {"id": "x"}, "w4"))["code"] == "schema"
    await wait_until(lambda: len(results) == 2)
    for number, given in ((5, "ask"), (6, "fail")):
        await send(portal, OPERATOR, "work.offer", work(number, given), f"w{number}")
        await wait_until(lambda: any(one["work_id"] == f"w-test-{number:06d}" for one in results))  # noqa: B023
    await wait_until(lambda: len(told.heard) == 2)
    asked, failed = (body for _, body in told.heard)
    assert (asked["id"], asked["summary"], asked["needs"]) == (
        "work-w-test-000005",
        "which currency?",
        "a currency",
    )
    assert (failed["work_id"], failed["taken_by"]) == ("w-test-000006", COORDINATOR)
    assert "no price" in failed["summary"]


async def test_what_is_late_fenced_or_beyond_a_hosted_agent_is_refused_by_its_word(
    portal: Bus, start_host: StartHost
) -> None:
    host = await running(portal, start_host, SOLVER)
    epoch = host.divisions[KEY].lease.epoch
    past = {"Claytom-Deadline": "2020-01-01T00:00:00Z"}
    assert (await send(portal, OPERATOR, "work.offer", work(1), "a", **past))["code"] == "expired"
    assert (await send(portal, OPERATOR, "work.offer", work(1), "b", **{"Claytom-Epoch": "1"}))["code"] == "stale"
    right = {"Claytom-Epoch": str(epoch)}
    assert (await send(portal, OPERATOR, "work.offer", work(1), "c", **right))["status"] == "accepted"
    # What was decided before its deadline is told again after it.
    assert (await send(portal, OPERATOR, "work.offer", work(1), "c", **past))["status"] == "accepted"
    for kind in ("training.enrol", "training.exam", "mentoring.session"):
        assert (await send(portal, OPERATOR, kind, {}, kind))["code"] == "skill"
    assert (await send(portal, OPERATOR, "work.offer", work(2), ""))["code"] == "no-id"


async def test_the_welcome_brings_what_is_open(
    portal: Bus, start_host: StartHost, results: list[dict[str, Any]]
) -> None:
    letter = {
        "id": "w9", "type": ce_type("work.offer"), "address": OPERATOR, "deadline": "2099-01-01T00:00:00Z",
        "body": work(9),
    }  # fmt: skip

    async def welcome(message: Any) -> None:
        epoch = json.loads(message.data)["epoch"]
        answer = {"epoch": epoch, "manifest_generation": 1, "open": [letter, {**letter, "address": DIRECTOR}]}
        await portal.publish(message.reply, json.dumps(answer).encode())

    await portal.subscribe(f"{ROOT}.command.hello", welcome)
    Solver.runs.clear()
    await running(portal, start_host, SOLVER)
    await wait_until(lambda: results)
    assert (await send(portal, OPERATOR, "work.offer", work(9), "w9"))["status"] == "accepted"
    assert Solver.runs == ["w-test-000009"]
