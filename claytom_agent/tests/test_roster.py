import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, ClassVar

import pytest
import pytest_asyncio

from claytom_agent.agents import RestartPolicy
from claytom_agent.manifest import decode_manifest
from claytom_agent.roster import Roster
from claytom_agent.tests.conftest import make_manifest, wait_until
from claytom_agent.timers import Timers
from claytom_agent.workers import Context, Item, Output

QUICK = RestartPolicy(base=0.01, window=5.0)


class Sleeper:
    """A worker that takes its time, longer than it may if its parameter says so."""

    inline: ClassVar[bool] = False
    start_to_close_s = 0.1

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.seconds = float(params.get("seconds", 0.01))

    async def run(self, item: Item, ctx: Context) -> Output:
        await asyncio.sleep(self.seconds)
        return Output(done=1, kpis={"quality_score": 1.0})


@pytest.fixture(autouse=True)
def sleeper(register: Callable[..., None]) -> None:
    register("sleeper", Sleeper)


@pytest_asyncio.fixture
async def roster() -> AsyncIterator[Roster]:
    timers = Timers()
    run = asyncio.create_task(timers.run())
    made = Roster("pricing", timers, QUICK, lambda: None)
    yield made
    run.cancel()
    made.close()
    with contextlib.suppress(asyncio.CancelledError):
        await run


def manifest(generation: int = 1, **changes: Any) -> Any:
    return decode_manifest("pricing.1", json.dumps(make_manifest("pricing.1", generation, **changes)).encode())


def with_worker(kind: str, **params: Any) -> list[dict[str, Any]]:
    worker = {"kind": kind, "params": params}
    return [{"role": "operator", "code": "op", "ordinals": [[31, 34]], "worker": worker}]


async def begin(roster: Roster, generation: int = 1, **changes: Any) -> None:
    await roster.run_all(roster.apply(manifest(generation, **changes)))


def story(roster: Roster, key: int) -> list[tuple[str, str]]:
    return [(t.before, t.after) for t in roster.transitions if t.agent.key == key]


async def test_agents_are_idle_only_after_their_first_run(roster: Roster) -> None:
    new = roster.apply(manifest())
    assert {agent.state for agent in new} == {"starting"}
    await roster.run_all(new)
    assert roster.counts()["idle"] == 5
    assert roster.live() == 5


async def test_a_crash_loop_ends_in_failed_and_is_told_once(roster: Roster) -> None:
    await begin(roster, operators=20)
    agent = roster.agents[31]
    agent.broken = True
    await roster.run_all([agent])
    await wait_until(lambda: agent.state == "failed")
    assert story(roster, 31) == [("idle", "restarting"), ("restarting", "failed")]
    assert agent.restarts == 2
    assert "3 crashes" in roster.transitions[-1].reason


async def test_a_single_crash_is_restarted(roster: Roster) -> None:
    await begin(roster, operators=20)
    agent = roster.agents[31]
    agent.broken = True
    await roster.shift(agent, 0.0)
    agent.broken = False
    await wait_until(lambda: agent.state == "idle")
    assert story(roster, 31) == [("idle", "restarting"), ("restarting", "idle")]


async def test_a_division_that_crashes_as_a_whole_is_degraded_and_not_restarted(roster: Roster) -> None:
    await begin(roster)
    for agent in roster.agents.values():
        agent.broken = True
    await roster.run_all(roster.agents.values())
    assert roster.degraded
    await wait_until(lambda: roster.counts()["failed"] == 5)
    assert sum(agent.restarts for agent in roster.agents.values()) <= 1


async def test_a_new_generation_replaces_the_agent_and_lists_the_old_one_as_retired(roster: Roster) -> None:
    await begin(roster, operators=20)
    old = roster.agents[31]
    old.broken = True
    await roster.run_all([old])
    await wait_until(lambda: old.state == "failed")
    await begin(roster, 2, operators=20, generations={"31": 2})
    assert roster.agents[31].id == "op-0031-g2"
    assert roster.agents[31].state == "idle"
    assert ("op-0031-g1", "retired") in [entry[:2] for entry in roster.gone]


async def test_desired_states_are_obeyed(roster: Roster) -> None:
    await begin(roster)
    await begin(roster, 2, desired={"31": "paused", "32": "retired"})
    assert roster.agents[31].state == "paused"
    assert 32 not in roster.agents
    await begin(roster, 3)
    await wait_until(lambda: roster.agents[31].state == "idle")
    assert roster.agents[32].state == "idle"


async def test_a_run_beyond_its_deadline_is_stuck_then_restarted_then_failed(roster: Roster) -> None:
    await begin(roster, seats=with_worker("sleeper", seconds=60))
    assert roster.counts()["busy"] == 4
    await wait_until(lambda: roster.counts()["failed"] == 4)
    assert ("busy", "stuck") in story(roster, 31)


async def test_a_slow_worker_runs_in_its_own_task_and_gives_its_last_output(roster: Roster) -> None:
    await begin(roster, seats=with_worker("sleeper"))
    await wait_until(lambda: roster.counts()["idle"] == 4)
    assert await roster.shift(roster.agents[31], 0.0) == Output(done=1, kpis={"quality_score": 1.0})


async def test_an_unknown_worker_fails_its_agents_with_the_reason(roster: Roster) -> None:
    await begin(roster, seats=with_worker("quantum"))
    await wait_until(lambda: roster.counts()["failed"] == 4)
    assert "no worker 'quantum'" in roster.transitions[0].reason


async def test_idle_agents_have_no_tasks(roster: Roster) -> None:
    before = len(asyncio.all_tasks())
    await begin(roster, operators=3000)
    assert len(roster.agents) == 3001
    assert len(asyncio.all_tasks()) == before
