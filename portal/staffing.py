"""Staffing as people see it: plans against what is live, the reserve that is needed, caps, planned retirements."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.http import Http404
from django.utils.translation import gettext as _

from holding import clock, scope
from holding.models import Unit
from subsidiaries.replacement import outlook, reserve, retiring
from subsidiaries.replacement.outlook import Outlook
from subsidiaries.replacement.planning import CapDelegation, Retirement, StaffingPlan
from subsidiaries.replacement.reserve import Step
from subsidiaries.replacement.retiring import Progress

SHOWN: Final = 20
STEPS_BEYOND: Final = 3
"""How many numbers of reserve seats are shown beyond what is needed or had."""


@dataclass(frozen=True, slots=True)
class Line:
    """A role of a subsidiary: its plan, its seats and live agents."""

    plan: StaffingPlan
    seats: int
    live: int

    @property
    def missing(self) -> int:
        """How many live agents the role is short of its floor."""
        return max(0, self.plan.floor - self.live)


@dataclass(frozen=True, slots=True)
class StaffingPage:
    """All that the page of a subsidiary's staffing shows, as of one instant."""

    outlook: Outlook
    lines: list[Line]
    steps: list[Step]
    delegations: list[CapDelegation]
    retirements: list[tuple[Retirement, Progress]]


def overview(*, now: datetime) -> list[Outlook]:
    """Return the subsidiaries in view, in the holding's order."""
    return outlook.outlook(units=Unit.objects.subsidiaries(), now=now)


def find(slug: str) -> Unit:
    """Return a subsidiary in view. Raises Http404."""
    unit = Unit.objects.subsidiaries().filter(slug=slug).first()
    if unit is None:
        raise Http404(_("There is no subsidiary “%(slug)s”.") % {"slug": slug})
    return unit


def plan_of(unit: Unit) -> StaffingPlan:
    """Return the plan of the unit's operators. Raises Http404 where seats were never counted."""
    plan = outlook.elastic(StaffingPlan.objects.filter(unit=unit).select_related("unit", "role"))
    if plan is None:
        raise Http404(_("“%(unit)s” has no staffing plan yet.") % {"unit": unit.name})
    return plan


def page_of(unit: Unit, *, now: datetime) -> StaffingPage:
    """Read the page of a subsidiary's staffing."""
    [found] = outlook.outlook(units=[unit], now=now)
    retirements = list(Retirement.objects.filter(unit=unit).select_related("role").order_by("-pk")[:SHOWN])
    progress = retiring.progress(*retirements)
    return StaffingPage(
        outlook=found,
        lines=[Line(plan, *found.by_role.get(plan.role.slug, (0, 0))) for plan in found.plans],
        steps=reserve.steps(
            floor=found.floor,
            unavailable=found.estimate.unavailable,
            upto=min(max(found.needed, found.reserve), SHOWN) + STEPS_BEYOND,
        ),
        delegations=list(
            CapDelegation.objects.filter(unit=unit).select_related("approval").order_by("-pk")[:SHOWN]
        ),
        retirements=[(one, progress.get(one.pk, Progress(0, 0, 0))) for one in retirements],
    )


def has_ended(delegation: CapDelegation) -> bool:
    """Return whether a delegated cap counts no more."""
    ends = delegation.ends_on
    return delegation.revoked_at is not None or (ends is not None and ends < clock.today().date())


def may(code: str, unit: Unit) -> bool:
    """Return whether whoever looks holds a permission for the unit."""
    return scope.current().allows(code, unit.pk)
