"""One cycle of a unit, from loss to plan: replace what was lost, open or close seats, go on with retirements.

Each part is a transaction of its own, and idempotent: what one leaves undone, the next cycle does.
"""

from dataclasses import dataclass

from subsidiaries.replacement import retiring, services, staffing
from subsidiaries.replacement.services import Cycle
from subsidiaries.replacement.staffing import Kept


@dataclass(frozen=True, slots=True)
class Turn:
    """What a cycle found and did: losses, seats opened and closed by plan, agents taken out by plan."""

    cycle: Cycle
    kept: Kept
    retired: int


def run(*, unit: str, actor: str = services.ACTOR) -> Turn:
    """Run the cycle of the unit with that slug. Raises Unit.DoesNotExist for an unknown one."""
    kept = staffing.keep(unit=unit, actor=actor)
    cycle = services.ensure(unit=unit, actor=actor)
    return Turn(cycle, kept, retiring.step(unit=unit, actor=actor))
