"""Whether somebody may give, take or ask for something: the rule that every service of access asks.

Nobody hands on what they do not hold. What whoever acts holds is read anew, by the function that opens a
request's rows; inside a request its scope must allow the act too, so that a token which opens less also gives less.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from django.utils.translation import gettext as _

from holding import scope
from holding.models import Unit
from iam.access.grants import open_for
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

    def covers_all_of(self, other: scope.Scope) -> bool:
        """Return whether somebody else's rights are no more than these."""
        return all(self.covers(code, other.units(code)) for code in PERMISSIONS if other.has(code))

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
                _("Nobody hands on what they do not hold. For %(where)s you lack: %(codes)s.")
                % {"where": namespace(unit), "codes": ", ".join(missing)}
            )


def rights_of(account: User) -> Rights:
    """Return what the account may do now, by its bindings; the rows in view stay as they are."""
    asked = scope.current()
    held = open_for(account)
    scope.show(asked)
    return Rights(held, asked)


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
