"""The simulated worker: plausible measures that move slowly, the same for the same agent and minute everywhere.

The level comes from role and subsidiary, a personal share from the agent's seed, the movement from two slow waves
and a little noise by the minute. Nothing is random, so that two hosts tell the same story of an agent.
"""

import math
from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any, ClassVar, Final

from claytom_agent.workers.base import Context, Item, Output

HOUR: Final = 3600.0
_LEVELS: Final[dict[str, tuple[float, float, float, float, float]]] = {
    # throughput a day, quality, service level, landings a month, training hours a week
    "director": (14.0, 93.0, 96.5, 0.6, 2.5),
    "coordinator": (36.0, 91.0, 95.5, 0.4, 3.0),
    "specialist": (22.0, 92.5, 94.5, 1.1, 4.0),
    "innovator": (9.0, 88.0, 92.0, 3.2, 5.0),
    "operator": (26.0, 87.5, 94.0, 0.1, 6.0),
}
_CORPORATE_LEVEL: Final = (6.0, 94.0, 97.0, 0.3, 2.0)
_OBJECTIVES: Final[dict[str, str]] = {
    "director": "Lead the division to its quarterly targets",
    "coordinator": "Resolve every escalation within its deadline",
    "specialist": "Raise the verified quality of hard cases",
    "innovator": "Land challengers that beat the champion",
    "operator": "Deliver accepted results on time",
}


@lru_cache(maxsize=64)
def unit_factors(unit: str) -> tuple[float, float, float]:
    """The character of a unit: factor of throughput (0.75-1.25), shift of quality and of service level."""
    a, b, c = (byte / 255.0 - 0.5 for byte in blake2b(unit.encode(), digest_size=3).digest())
    return 1.0 + 0.5 * a, 5.0 * b, 4.0 * c


def _noise(seed: int, tick: int) -> float:
    """A number in [-1, 1) from two integers (a multiplicative mix, cheaper than a digest)."""
    mixed = ((seed ^ (tick * 0x9E3779B97F4A7C15)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    mixed ^= mixed >> 29
    return (mixed & 0xFFFFF) / 0x80000 - 1.0


class SimWorker:
    """Deterministic stand-in for real work. Parameters: `drag` (0-1) lowers quality and service level."""

    inline: ClassVar[bool] = True
    bounds: ClassVar[Mapping[str, tuple[float, float]]] = {"drag": (0.0, 1.0)}

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.start_to_close_s = 5.0
        self._drag = min(1.0, max(0.0, float(params.get("drag", 0.0))))

    async def run(self, item: Item, ctx: Context) -> Output:
        """Report the agent's measures of this minute."""
        base = _LEVELS.get(ctx.role, _CORPORATE_LEVEL)
        factor, quality_shift, service_shift = unit_factors(ctx.subsidiary)
        seed, hours = ctx.seed, ctx.now / HOUR
        self_share = (seed & 0xFFFF) / 0x8000 - 1.0
        phase = (seed >> 16 & 0xFFFF) / 0x10000 * math.tau
        wave = 0.7 * math.sin(hours / 7.0 * math.tau + phase) + 0.3 * math.sin(hours * math.tau + 2.0 * phase)
        noise = _noise(seed, int(ctx.now // 60))
        throughput = base[0] * factor * (1.0 + 0.18 * self_share + 0.08 * wave + 0.02 * noise)
        quality = base[1] + quality_shift + 3.0 * self_share + 1.5 * wave + 0.4 * noise - 40.0 * self._drag
        service = base[2] + service_shift + 2.0 * self_share - 1.0 * wave + 0.3 * noise - 40.0 * self._drag
        kpis = {
            "throughput_per_day": round(max(0.0, throughput), 2),
            "quality_score": round(min(100.0, max(0.0, quality)), 2),
            "sla_met_pct": round(min(100.0, max(0.0, service)), 2),
            "innovation_landings_mo": round(max(0.0, base[3] * (1.0 + 0.3 * self_share + 0.1 * wave)), 2),
            "training_hours_w": round(max(0.0, base[4] * (1.0 + 0.2 * self_share + 0.05 * wave)), 2),
        }
        okrs: dict[str, str | float] = {
            "O1": _OBJECTIVES.get(ctx.role, "Keep the duty of the seat"),
            "KR1": round(100.0 * min(1.2, throughput / (base[0] * factor * 1.1)), 1),
            "KR2": round(100.0 * min(1.0, max(0.0, quality) / 95.0), 1),
        }
        return Output(done=1, kpis=kpis, okrs=okrs)
