"""Caps that people delegate to ARP: so many replacements of a unit per business day, from a day to a day.

ARP acts within the cap by itself, and software holds no authority of its own: a cap other than the rule's is an
approval on the matter `arp-daily-cap`, given by whoever may allow so many replacements. A higher one has an end.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import services as audit
from holding import clock, scope
from holding.models import Unit
from iam.access.models import User
from iam.access.rights import RefusedError, rights_of
from iam.authority import services as authority
from iam.authority.models import Approval, Matter
from subsidiaries.replacement import caps
from subsidiaries.replacement.models import StaffingRule
from subsidiaries.replacement.planning import CapDelegation

ACTION: Final = "arp.delegate-cap"
ASK: Final = "approvals.request"
REVOKE: Final = "commands.issue"
LONGEST: Final = timedelta(days=92)
MOST: Final = 10_000_000
REASON_LENGTH: Final = 500


@dataclass(frozen=True, slots=True)
class Cap:
    """A cap as it shall be: replacements of a unit per business day (`ends_on` None: until it is revoked)."""

    unit: Unit
    cap: int
    starts_on: date
    ends_on: date | None


def today() -> date:
    """Return the business day, from which a cap that is asked for counts."""
    return clock.today().date()


def value(cap: Cap) -> int:
    """Return what the approval is judged by: how many replacements beyond the rule's cap it allows in all."""
    beyond = cap.cap - caps.usual_cap(cap.unit, StaffingRule.objects.get())
    days = (cap.ends_on - cap.starts_on).days + 1 if cap.ends_on else 1
    return max(0, beyond) * days


def ask(*, cap: Cap, by: User, reason: str, key: str) -> Approval:
    """Ask for the cap; the same key again is the same request.

    Raises NotHeldError without the permission for the unit, RefusedError with a sentence for what cannot be.
    """
    rights_of(by).require(ASK, cap.unit)
    reason = _given(reason)
    with scope.opened(scope.EVERYTHING):
        if known := Approval.objects.filter(key=key).first():
            return known
        try:
            return authority.request_approval(
                request=authority.Request(
                    matter=caps.MATTER,
                    unit=cap.unit,
                    value=Decimal(value(cap)),
                    title=_("%(cap)d replacements of %(unit)s per day") % {"cap": cap.cap, "unit": cap.unit.name},
                    reason=reason,
                    key=key,
                    requester=by,
                    action=ACTION,
                    parameters={
                        "unit": cap.unit.slug,
                        "cap": cap.cap,
                        "starts_on": cap.starts_on.isoformat(),
                        "ends_on": cap.ends_on.isoformat() if cap.ends_on else None,
                        "reason": reason,
                    },
                )
            )
        except (ValueError, authority.NoAuthorityError) as error:
            raise RefusedError(str(error)) from error
        except Matter.DoesNotExist as error:
            raise RefusedError(_("No authority matrix is in force.")) from error


@transaction.atomic
def revoke(*, delegation: CapDelegation, by: User, reason: str) -> CapDelegation:
    """End a delegated cap now; the one before it counts again, or the rule's. Raises NotHeldError, RefusedError."""
    rights_of(by).require(REVOKE, delegation.unit)
    reason = _given(reason)
    with scope.opened(scope.EVERYTHING):
        found = CapDelegation.objects.select_for_update(of=("self",)).select_related("unit").get(pk=delegation.pk)
        if found.revoked_at is not None or (found.ends_on and found.ends_on < today()):
            raise RefusedError(_("This cap has ended already."))
        found.revoked_at, found.revoked_by = timezone.now(), by.get_username()
        found.save(update_fields=["revoked_at", "revoked_by"])
        audit.record(
            actor=by.get_username(),
            action="arp.revoke-cap",
            object=f"unit/{found.unit.slug}",
            before={"delegation": found.pk, "cap": found.cap},
            details={"delegation": found.pk, "cap": found.cap, "reason": reason},
        )
    return found


def _given(reason: str) -> str:
    reason = reason.strip()
    if not reason or len(reason) > REASON_LENGTH:
        raise RefusedError(_("Say why: the ledger keeps it."))
    return reason


# --- the action --------------------------------------------------------------------------------------------


def verify(parameters: Mapping[str, Any]) -> None:
    """Raise ValueError unless the cap is a number for a unit, from a day on, and one that is higher has an end."""
    cap = _cap(parameters)
    if not 0 <= cap.cap <= MOST:
        raise ValueError(_("A cap is a number from 0 to %(most)d.") % {"most": MOST})
    if cap.ends_on is not None and (cap.ends_on < cap.starts_on or cap.ends_on < today()):
        raise ValueError(_("The cap would end before it begins, or has ended."))
    if value(cap):
        if cap.ends_on is None:
            raise ValueError(_("A cap above the rule's needs an end."))
        if cap.ends_on - cap.starts_on > LONGEST:
            raise ValueError(_("A cap above the rule's lasts at most %(days)d days.") % {"days": LONGEST.days})


def _cap(parameters: Mapping[str, Any]) -> Cap:
    unit = Unit.objects.filter(slug=parameters.get("unit")).first()
    if unit is None:
        raise ValueError(_("There is no unit “%(slug)s”.") % {"slug": parameters.get("unit")})
    number = parameters.get("cap")
    if isinstance(number, bool) or not isinstance(number, int):
        raise ValueError(_("A cap is a number from 0 to %(most)d.") % {"most": MOST})  # noqa: TRY004 - as the rest
    ends = parameters.get("ends_on")
    return Cap(
        unit,
        number,
        date.fromisoformat(str(parameters.get("starts_on"))),
        date.fromisoformat(str(ends)) if ends is not None else None,
    )


def run(approval: Approval) -> None:
    """Delegate the cap to ARP."""
    cap = _cap(approval.parameters)
    delegation = CapDelegation.objects.create(
        unit=cap.unit,
        cap=cap.cap,
        starts_on=cap.starts_on,
        ends_on=cap.ends_on,
        reason=str(approval.parameters.get("reason", ""))[:REASON_LENGTH],
        approval=approval,
    )
    audit.record(
        actor=approval.actor,
        action="arp.delegate-cap",
        object=f"unit/{cap.unit.slug}",
        after={"delegation": delegation.pk, "cap": cap.cap},
        details={
            "approval": approval.pk,
            "cap": cap.cap,
            "starts_on": cap.starts_on.isoformat(),
            "ends_on": cap.ends_on.isoformat() if cap.ends_on else None,
        },
    )


def confirm(approval: Approval) -> bool:
    """Return whether the cap is delegated as approved."""
    found = CapDelegation.objects.filter(approval=approval).first()
    cap = _cap(approval.parameters)
    return found is not None and (found.unit_id, found.cap, found.starts_on, found.ends_on) == (
        cap.unit.pk,
        cap.cap,
        cap.starts_on,
        cap.ends_on,
    )
