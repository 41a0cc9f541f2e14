"""Whether somebody may give, take or ask for something: the rule that every service of access asks.

Nobody hands on what they do not hold. What whoever acts holds is read anew, by the function that opens a
request's rows; inside a request its scope must allow the act too, so that a token which opens less also gives less.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from holding import scope
from holding.models import Unit
from iam.access.grants import FOREVER, open_for
from iam.access.models import User
from iam.access.permissions import PERMISSIONS

REASON_LENGTH = 200


class RefusedError(ValueError):
    """An act of access that is refused. The sentence names the cause and what helps."""


class NotHeldError(RefusedError):
    """Whoever acts does not hold what the act needs."""


@dataclass(frozen=True, slots=True)
class Rights:
    """What whoever acts may do, by their account and, inside a request, by what the request showed."""

    account: scope.Scope
    asked: scope.Scope

    def allows(self, code: str, unit: Unit | None) -> bool:
        """Return whether the permission is held for the unit and all below it; None is the whole holding."""
        unit_id = None if unit is None or PERMISSIONS[code].wide else unit.pk
        return self.account.allows(code, unit_id) and self.asked.allows(code, unit_id)

    def covers(self, code: str, units: scope.Units) -> bool:
        """Return whether the permission is held for each of these units; None is the whole holding."""
        for own in (self.account.units(code), self.asked.units(code)):
            if own is not None and (units is None or not units <= own):
                return False
        return True

    def require(self, code: str, unit: Unit | None = None) -> None:
        """Raise NotHeldError unless the permission is held for the unit (None: for the whole holding)."""
        if not self.allows(code, unit):
            raise NotHeldError(
                _("This needs the permission %(code)s for %(where)s. Ask somebody who holds it.")
                % {"code": code, "where": namespace(unit)}
            )

    def require_all(self, codes: Iterable[str], unit: Unit | None) -> None:
        """Raise NotHeldError naming the permissions that are not held for the unit."""
        if missing := sorted(code for code in codes if code in PERMISSIONS and not self.allows(code, unit)):
            raise NotHeldError(
                _(
                    "Nobody hands on what they do not hold, nor for longer than they hold it. "
                    "For %(where)s you lack: %(codes)s."
                )
                % {"where": namespace(unit), "codes": ", ".join(missing)}
            )


def rights_of(account: User) -> Rights:
    """Return what the account may do now, by its bindings; the rows in view stay as they are."""
    asked = scope.current()
    held = open_for(account)
    scope.show(asked)
    return Rights(held, asked)


def rights_to_give(account: User, until: datetime | None) -> Rights:
    """Return what the account may hand on until that time; at None, without an end.

    It is what they hold by bindings that last as long, and by none of an emergency: time is not handed on either.
    """
    asked = scope.current()
    held = open_for(account, until=until or FOREVER)
    scope.show(asked)
    return Rights(held, asked)


def beyond(
    *, by: User, account: User, codes: Collection[str] = (), unit: Unit | None = None, until: datetime | None = None
) -> list[str]:
    """Return what somebody who acts as the account until that time (None: for ever) could do and `by` not give.

    That is by its bindings that count now or will; of the permissions `codes` (none: all of them), and for the
    unit and what is below it (None: wherever the account may).
    """
    rights, now, found = rights_to_give(by, until), timezone.now(), set[str]()
    if account.is_superuser:
        return [] if by.is_superuser else list(PERMISSIONS)
    rows = account.bindings.filter(Q(expires_at=None) | Q(expires_at__gt=now), revoked_at=None)
    if until is not None:
        rows = rows.filter(starts_at__lt=until)
    inside = subtree(unit) if unit else frozenset[int]()
    outside = above(unit) if unit else frozenset[int]()
    for binding in rows.select_related("role"):
        at = binding.unit_id
        if unit is not None and at not in inside:
            if at is not None and at not in outside:
                continue
            at = unit.pk
        for code in set(binding.role.permissions) & set(PERMISSIONS) & set(codes or PERMISSIONS):
            wide = PERMISSIONS[code].wide
            if wide and (unit is not None or at is not None):
                continue  # it counts for the whole holding only
            if not rights.covers(code, None if at is None else frozenset([at])):
                found.add(code)
    return sorted(found)


def place(unit: Unit | None) -> Unit | None:
    """Return where a binding for that unit is kept: for the corporate unit at None, the whole holding."""
    return None if unit is None or unit.kind == Unit.Kind.CORPORATE else unit


def namespace(unit: Unit | None) -> str:
    """Return the namespace of a unit, or of the whole holding."""
    return "holding" if unit is None else unit.namespace


def given_reason(text: str) -> str:
    """Return the reason without blanks around it. Raises RefusedError when there is none, or too much of it."""
    reason = text.strip()
    if not reason:
        raise RefusedError(_("Give a reason: the ledger and the next review ask for it."))
    if len(reason) > REASON_LENGTH:
        raise RefusedError(_("The reason has more than %(count)d characters.") % {"count": REASON_LENGTH})
    return reason


def subtree(unit: Unit) -> frozenset[int]:
    """Return the ids of a unit and of all below it, whoever asks: a review must not miss what one cannot see."""
    with scope.opened(scope.EVERYTHING):
        parents = dict(Unit.objects.values_list("id", "parent_id"))
    below = {unit.pk}
    while more := {id for id, parent in parents.items() if parent in below} - below:
        below |= more
    return frozenset(below)


def above(unit: Unit) -> frozenset[int]:
    """Return the ids of a unit and of those that it belongs to: bindings for them reach it."""
    with scope.opened(scope.EVERYTHING):
        parents = dict(Unit.objects.values_list("id", "parent_id"))
    found: set[int] = set()
    at: int | None = unit.pk
    while at is not None and at not in found:
        found.add(at)
        at = parents.get(at)
    return frozenset(found)
