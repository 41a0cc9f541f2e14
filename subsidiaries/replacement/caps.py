"""The day's cap of replacements, and what people allow beyond it.

ARP replaces up to the cap by itself. Beyond it, it asks once per unit and business day for an approval, whose
effect is an `Allowance`: the next cycle may replace that many more. Refused or expired, the cap stands.
"""

import logging
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from django.db.models import Count, Sum
from django.utils.translation import gettext as _

from audit import services as audit
from holding import clock
from holding.models import Unit
from iam.authority import services as authority
from iam.authority.models import Approval, Matter
from subsidiaries.replacement.cases import day_began
from subsidiaries.replacement.incidents import ACTOR
from subsidiaries.replacement.models import Allowance, Replacement, StaffingRule
from subsidiaries.replacement.planning import CapDelegation

log = logging.getLogger(__name__)
MATTER = "arp-daily-cap"
ACTION = "arp.raise-cap"


def cap_of(unit: Unit, rule: StaffingRule) -> int:
    """Return how many replacements of the unit ARP may decide by itself on this business day.

    That is what people delegated to it; where they did not, the rule's multiple of the unit's floor.
    """
    delegated = CapDelegation.objects.in_force(clock.today().date()).filter(unit=unit).first()
    return delegated.cap if delegated else usual_cap(unit, rule)


def usual_cap(unit: Unit, rule: StaffingRule) -> int:
    """Return the cap of the staffing rule for the unit."""
    return int(rule.daily_cap * unit.floor)


def left_today(unit: Unit, rule: StaffingRule) -> int:
    """Return how many more replacements of the unit may be decided today, with those allowed beyond the cap."""
    return max(0, cap_of(unit, rule) + allowed_beyond_cap(unit) - used_today(unit).get(unit.pk, 0))


def used_today(*units: Unit) -> dict[int, int]:
    """Return how many agents of each unit (of all, if none is named) were replaced since the business day began.

    Who was promoted is not counted: that seat was given up for the one that was lost; nor is a rollout, no loss.
    """
    uncounted = [Replacement.Reason.PROMOTION, Replacement.Reason.ROLLOUT]
    rows = Replacement.objects.filter(decided_at__gte=day_began()).exclude(reason__in=uncounted)
    if units:
        rows = rows.filter(unit__in=units)
    return dict(rows.values_list("unit_id").annotate(Count("pk")).order_by())


def allowed_beyond_cap(unit: Unit) -> int:
    """Return how many replacements of the unit people have allowed beyond the cap of the business day."""
    day = clock.today().date()
    return Allowance.objects.filter(unit=unit, day=day).aggregate(sum=Sum("extra"))["sum"] or 0


def ask_for_more(*, unit: Unit, extra: int) -> None:
    """Ask for `extra` replacements beyond the cap; once per unit and business day, whatever was answered.

    Runs in the caller's transaction, under the unit's lock.
    """
    day = clock.today().date()
    key = f"arp-cap/{unit.slug}/{day.isoformat()}"
    if Approval.objects.filter(key=key).exists():
        return
    try:
        authority.request_approval(
            request=authority.Request(
                matter=MATTER,
                unit=unit,
                value=Decimal(extra),
                title=_("Replacements of %(unit)s beyond the daily cap") % {"unit": unit.name},
                reason=_("The cap of %(day)s is reached; %(count)s agents wait.") % {"day": day, "count": extra},
                key=key,
                actor=ACTOR,
                action=ACTION,
                parameters={"unit": unit.slug, "day": day.isoformat(), "extra": extra},
            )
        )
    except (authority.NoAuthorityError, Matter.DoesNotExist) as error:
        log.warning("%s: nobody can be asked for more replacements: %s", unit.slug, error)  # the incident stays


# --- the action --------------------------------------------------------------------------------------------


def verify(parameters: Mapping[str, Any]) -> None:
    """Raise ValueError unless a unit's cap of today is to be raised by a whole number above 0."""
    extra = parameters.get("extra")
    if not isinstance(extra, int) or isinstance(extra, bool) or extra < 1:
        raise ValueError(_("The cap is raised by a whole number above 0."))
    if not Unit.objects.filter(slug=parameters.get("unit")).exists():
        raise ValueError(_("There is no unit “%(slug)s”.") % {"slug": parameters.get("unit")})
    if _day(parameters) != clock.today().date():
        raise ValueError(_("The day whose cap was to be raised is over."))


def run(approval: Approval) -> None:
    """Raise today's cap of the unit by the number asked for."""
    allowance = Allowance.objects.create(
        unit=Unit.objects.get(slug=approval.parameters["unit"]),
        day=_day(approval.parameters),
        extra=approval.parameters["extra"],
        approval=approval,
    )
    audit.record(
        actor=ACTOR,
        action="arp.raise-cap",
        object=f"unit/{approval.parameters['unit']}",
        after={"allowance": allowance.pk, "extra": allowance.extra},
        details={"approval": approval.pk, "day": approval.parameters["day"], "extra": allowance.extra},
    )


def confirm(approval: Approval) -> bool:
    """Return whether the cap of the day is raised by the number asked for."""
    found = Allowance.objects.filter(approval=approval, unit__slug=approval.parameters["unit"]).first()
    wanted = (approval.parameters["extra"], _day(approval.parameters))
    return found is not None and (found.extra, found.day) == wanted


def _day(parameters: Mapping[str, Any]) -> date:
    return date.fromisoformat(str(parameters.get("day")))
