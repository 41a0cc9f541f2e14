"""KPI samples: the brief's JSON unchanged, with headers that say who claims it, once per interval."""

from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from claytom_agent.agents import Agent
from claytom_agent.blocks import Build
from claytom_agent.client import Outgoing, event_headers, iso
from claytom_agent.messages import ce_type, encode
from claytom_agent.subjects import metrics
from claytom_agent.workers.base import Output

STREAM: Final = "CT_KPI"
_CE_TYPE: Final = ce_type("kpi.sample")


def next_round(division: str, interval_s: float, now: float) -> float:
    """Return the Unix time of a division's next round: each has its own phase, so that the load is even."""
    phase = int.from_bytes(blake2b(division.encode(), digest_size=4).digest()) / 2**32 * interval_s
    rounds = (now - phase) // interval_s + 1
    return rounds * interval_s + phase


def sample_id(agent: Agent, due: float, interval_s: float) -> str:
    """`kpi-<unit>-<agentId>-<Unix time rounded to the interval>`; a corporate seat's id begins with its body."""
    name = f"{agent.group.role}.{agent.id}" if isinstance(agent.key, str) else agent.id
    return f"kpi-{agent.group.unit}-{name}-{int(due // interval_s * interval_s)}"


@lru_cache(8)
def _iso(at: float) -> str:
    """Format a time; the samples of a round have the same."""
    return iso(datetime.fromtimestamp(at, UTC))


def sample_builder(agent: Agent, output: Output, at: float, identity: str, stamp: str, thinning: int = 1) -> Build:
    """Prepare one sample taken at Unix time `at`; `stamp` is `<division>.<epoch>` of its sequence number.

    `thinning` says that it stands for so many rounds, since the host's spool was filling; the header
    `Claytom-Thinned` tells the receiver.
    """
    group = agent.group
    ts = _iso(at)
    body = encode(
        {"ts": ts, "subsidiary": group.unit, "role": group.role, "kpis": output.kpis, "okrs": output.okrs}
    )
    source, generation = agent.subject, agent.header_generation
    epoch = int(stamp.rpartition(".")[2])

    def build(number: int) -> Outgoing:
        headers = event_headers(
            ce_type=_CE_TYPE,
            source=source,
            id=identity,
            time=ts,
            epoch=epoch,
            seq=f"{stamp}.{number}",
            generation=generation,
        )
        if thinning > 1:
            headers["Claytom-Thinned"] = str(thinning)
        return Outgoing(metrics(group.unit, "kpi"), body, headers)

    return build
