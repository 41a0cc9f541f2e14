"""Granting and revoking roles."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import services as audit
from holding.models import Unit
from iam.access.announcing import announce_outcome
from iam.access.models import AccessRole, EmergencyAccess, RoleBinding, User
from iam.access.rights import NotHeldError, RefusedError, given_reason, namespace, place, rights_of, rights_to_give
from iam.access.services import somebody_stays


@dataclass(frozen=True, slots=True)
class GrantPlan:
    """What a grant would change: the permissions that the person gains there, and those held there already."""

    gains: tuple[str, ...]
    has: tuple[str, ...]


def binding_state(binding: RoleBinding) -> dict[str, Any]:
    """Return what the ledger takes the digest of."""
    return {
        "binding": binding.pk,
        "person": binding.user.username,
        "role": binding.role.slug,
        "unit": binding.unit_id,
        "from": binding.starts_at.isoformat(),
        "until": binding.expires_at.isoformat() if binding.expires_at else None,
        "revoked": binding.revoked_at.isoformat() if binding.revoked_at else None,
        "source": str(binding.source),
    }


def require_role(by: User, role: AccessRole, unit: Unit | None) -> None:
    """Raise NotHeldError unless `by` may grant and holds all of the role now, for the unit and all below."""
    rights = rights_of(by)
    rights.require("bindings.grant", unit)
    rights.require_all(role.permissions, unit)


def require_to_give(by: User, role: AccessRole, unit: Unit | None, until: datetime | None) -> None:
    """Raise NotHeldError unless `by` may grant now, and holds all of the role there until then (None: for ever)."""
    rights_of(by).require("bindings.grant", unit)
    rights_to_give(by, until).require_all(role.permissions, unit)


def plan_grant(
    *,
    by: User,
    user: User,
    role: AccessRole,
    unit: Unit | None = None,
    starts_at: datetime | None = None,
    expires_at: datetime | None = None,
    reason: str,
) -> GrantPlan:
    """Return what the grant would change, without changing it. Raises what `grant_role` raises."""
    unit, now = place(unit), timezone.now()
    if by.pk == user.pk:
        raise NotHeldError(_("Nobody grants a role to themselves. Ask somebody else who holds it."))
    require_to_give(by, role, unit, expires_at)
    given_reason(reason)
    if not user.is_active:
        raise RefusedError(_("%(name)s is inactive: activate the account first.") % {"name": user.username})
    starts_at = starts_at or now
    if expires_at is not None and expires_at <= max(now, starts_at):
        raise RefusedError(_("The end must be in the future, and after the beginning."))
    _refuse_overlap(user, role, unit, starts_at, expires_at)
    held = rights_of(user).account
    unit_id = unit.pk if unit else None
    has = tuple(sorted(code for code in role.permissions if held.allows(code, unit_id)))
    return GrantPlan(gains=tuple(sorted(set(role.permissions) - set(has))), has=has)


def _refuse_overlap(
    user: User, role: AccessRole, unit: Unit | None, starts_at: datetime, expires_at: datetime | None
) -> None:
    equal = user.bindings.filter(role=role, unit=unit, revoked_at=None).exclude(
        source=RoleBinding.Source.BREAK_GLASS
    )
    equal = equal.filter(Q(expires_at=None) | Q(expires_at__gt=starts_at))
    if expires_at is not None:
        equal = equal.filter(starts_at__lt=expires_at)
    other = equal.first()
    if other is None:
        return
    until = other.expires_at.strftime("%Y-%m-%d %H:%M") if other.expires_at else _("no end")
    raise RefusedError(
        _("%(name)s holds %(role)s for %(where)s already (until: %(until)s). Revoke that one first.")
        % {"name": user.username, "role": role.slug, "where": namespace(unit), "until": until}
    )


@transaction.atomic
def grant_role(
    *,
    by: User,
    user: User,
    role: AccessRole,
    unit: Unit | None = None,
    starts_at: datetime | None = None,
    expires_at: datetime | None = None,
    reason: str,
) -> RoleBinding:
    """Bind a role to somebody for a unit and all below it; the corporate unit, or None, is the whole holding.

    Raises NotHeldError when `by` lacks `bindings.grant`, or a permission of the role there until the end, or is the
    person;
    RefusedError for an equal binding in that time, an end that is past, no reason, an inactive account.
    """
    # Of two equal grants at once the second sees the first; whoever loses a right at this moment gives it no more.
    locked = User.objects.select_for_update(no_key=True).filter(pk__in=[by.pk, user.pk]).order_by("pk")
    people, unit = {one.pk: one for one in locked}, place(unit)
    by, user = people[by.pk], people[user.pk]
    plan_grant(by=by, user=user, role=role, unit=unit, starts_at=starts_at, expires_at=expires_at, reason=reason)
    return bind_role(
        user=user,
        role=role,
        unit_id=unit.pk if unit else None,
        where=namespace(unit),
        actor=by.username,
        starts_at=starts_at or timezone.now(),
        expires_at=expires_at,
        granted_by=by,
        reason=given_reason(reason),
    )


@transaction.atomic
def bind_role(
    *, user: User, role: AccessRole, unit_id: int | None, where: str, actor: str, reason: str, **fields: Any
) -> RoleBinding:
    """Make a binding, on whatever right the caller has found, and write it into the ledger.

    The unit is given by its id and its namespace, since its row may be out of view; None is the whole holding.
    `fields` are the other columns of `RoleBinding`: `starts_at`, `expires_at`, `granted_by`, `source`.
    """
    binding = RoleBinding.objects.create(user=user, role=role, unit_id=unit_id, reason=reason, **fields)
    audit.record(
        actor=actor,
        action="binding.grant",
        object=f"person/{user.pk}",
        after=binding_state(binding),
        details={"role": role.slug, "where": where, "reason": reason},
    )
    return binding


@transaction.atomic
def revoke_binding(*, by: User, binding: RoleBinding, reason: str) -> RoleBinding:
    """End a binding now.

    Raises NotHeldError when `by` could not grant it, RefusedError when it has ended already or no reason is
    given, LastAdministratorError when nobody could administer the portal without it.
    """
    # A unit out of view is read as none here, which asks for the right over the whole holding.
    binding = RoleBinding.objects.select_related("role", "unit").get(pk=binding.pk)
    require_role(by, binding.role, binding.unit)
    return withdraw(binding_id=binding.pk, actor=by.username, reason=given_reason(reason))


def withdraw(*, binding_id: int, actor: str, reason: str) -> RoleBinding:
    """End a binding now, in the caller's transaction, on whatever right the caller has found.

    Raises RefusedError when it was revoked already, LastAdministratorError.
    """
    with somebody_stays():
        return _withdraw(binding_id, actor, reason)


def _withdraw(binding_id: int, actor: str, reason: str) -> RoleBinding:
    holder = RoleBinding.objects.filter(pk=binding_id).values("user")
    User.objects.select_for_update(no_key=True).get(pk__in=holder)  # what they grant now waits, or is waited for
    binding = RoleBinding.objects.select_for_update(of=("self",)).select_related("user", "role").get(pk=binding_id)
    if binding.revoked_at is not None:
        raise RefusedError(
            _("This binding was revoked on %(at)s.") % {"at": binding.revoked_at.strftime("%Y-%m-%d %H:%M")}
        )
    before = binding_state(binding)
    binding.revoked_at = timezone.now()
    binding.save(update_fields=["revoked_at"])
    record_revocation(binding, before=before, actor=actor, reason=reason)
    _end_emergency(binding, actor)
    return binding


def record_revocation(binding: RoleBinding, *, before: Mapping[str, Any], actor: str, reason: str) -> None:
    """Write into the ledger that a binding was ended, whose `binding_state` was `before`."""
    audit.record(
        actor=actor,
        action="binding.revoke",
        object=f"person/{binding.user_id}",
        before=before,
        after=binding_state(binding),
        details={"role": binding.role.slug, "unit": binding.unit_id, "reason": reason},
    )


def _end_emergency(binding: RoleBinding, actor: str) -> None:
    active = EmergencyAccess.objects.select_for_update(of=("self",)).filter(state=EmergencyAccess.State.ACTIVE)
    emergency = active.select_related("unit").filter(binding=binding).first()
    if emergency is None:
        return
    emergency.state = EmergencyAccess.State.ENDED
    emergency.save(update_fields=["state"])
    audit.record(
        actor=actor,
        action="emergency.end",
        object=f"emergency/{emergency.pk}",
        details={"person": binding.user.username, "role": binding.role.slug},
    )
    announce_outcome(emergency, actor=actor)
