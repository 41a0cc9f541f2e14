"""An agent in twenty lines: `python examples/python/agent.py`, with NATS_URL and CLAYTOM_SUBJECT set."""

import os

from claytom_agent.agent import Agent
from claytom_agent.workers.base import Context, Item, Output


async def work(item: Item, ctx: Context) -> Output:
    """Do one item of work. This one gives back what it was given."""
    return Output(result={"echo": item.input})


def measures() -> tuple[dict[str, float], dict[str, str | float]]:
    """Claim what was counted since the start; what this agent does not do is 0."""
    names = ("throughput_per_day", "quality_score", "sla_met_pct", "innovation_landings_mo", "training_hours_w")
    return dict(zip(names, (agent.per_day, agent.completed_pct, agent.in_time_pct, 0.0, 0.0), strict=True)), {
        "O1": "Echo in time"
    }


portal = os.environ.get("CLAYTOM_PORTAL", "")  # renews the login of an enrolled agent
agent = Agent(os.environ["CLAYTOM_SUBJECT"], work, url=os.environ["NATS_URL"], measures=measures, portal=portal)
agent.main()
