import json
import statistics
from datetime import UTC, datetime
from itertools import pairwise

from claytom_agent import workers
from claytom_agent.agents import Agent, AgentGroup
from claytom_agent.kpi import next_round, sample_builder, sample_id
from claytom_agent.messages import decode_kpi, validate_kpi
from claytom_agent.workers import Context, Item, make_worker

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()


def make_agent(ordinal: int = 31, unit: str = "pricing") -> Agent:
    return Agent(ordinal, AgentGroup(unit, "operator", "op", make_worker("sim", {})), 1, "run", "")


async def kpis(agent: Agent, now: float) -> dict[str, float]:
    ctx = Context(agent.subject, agent.group.unit, agent.group.role, agent.seed, now)
    return (await agent.group.worker.run(Item(agent.subject, "shift"), ctx)).kpis


async def test_the_same_agent_tells_the_same_story_on_every_host() -> None:
    assert await kpis(make_agent(), NOON) == await kpis(make_agent(), NOON)
    assert await kpis(make_agent(), NOON) != await kpis(make_agent(32), NOON)


async def test_measures_move_slowly() -> None:
    series = [(await kpis(make_agent(), NOON + 60 * minute))["quality_score"] for minute in range(240)]
    assert max(abs(a - b) for a, b in pairwise(series)) < 1.5
    assert statistics.pstdev(series) > 0.1


async def test_subsidiaries_differ_in_level() -> None:
    means = []
    for unit in ("pricing", "sales", "tax", "risk", "cloud"):
        levels = [(await kpis(make_agent(n, unit), NOON))["quality_score"] for n in range(31, 131)]
        means.append(statistics.mean(levels))
    assert max(means) - min(means) > 1.0


async def test_every_sample_is_valid_and_carries_its_identity() -> None:
    agent = make_agent()
    for hour in range(48):
        at = NOON + 3600 * hour
        ctx = Context(agent.subject, "pricing", "operator", agent.seed, at)
        output = await agent.group.worker.run(Item("i", "shift"), ctx)
        message = sample_builder(agent, output, at, sample_id(agent, at, 60), "pricing.1.77")(5)
        body = decode_kpi(message.body)
        now = datetime.fromtimestamp(at, UTC)
        assert validate_kpi(message.subject.split("."), message.headers["ce-source"], body, now) is None
        assert set(json.loads(message.body)) == {"ts", "subsidiary", "role", "kpis", "okrs"}
        assert json.loads(message.body)["ts"].endswith(".000Z")
        assert message.headers["Claytom-Seq"] == "pricing.1.77.5"
        assert message.headers["Nats-Msg-Id"] == f"kpi-pricing-op-0031-g1-{int(at)}"


def test_each_division_samples_once_in_each_interval() -> None:
    due = next_round("pricing.1", 60.0, NOON)
    for _ in range(100):
        following = next_round("pricing.1", 60.0, due)
        assert abs(following - due - 60.0) < 1e-6
        due = following
    assert next_round("pricing.1", 60.0, NOON) % 60 != next_round("pricing.2", 60.0, NOON) % 60


def test_what_is_wrong_with_a_specification_is_said_before_it_runs() -> None:
    assert workers.kinds() == ["sim"]
    assert workers.faults("sim", {"drag": 0.5}) == []
    assert workers.faults("sim", {"drag": 1.5, "pace": 1}) == [
        "worker.params.drag: 1.5 is no number from 0 to 1",
        "worker.params.pace: worker 'sim' has no such parameter, only drag",
    ]
    assert workers.faults("gpt", {}) == ["worker.kind: there is no worker 'gpt', only sim"]
