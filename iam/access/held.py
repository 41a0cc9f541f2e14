"""What somebody may do, from the bindings in force. Only what sign-in needs; the gate asks for everything else."""

from django.db.models import Q

from holding.models import Unit
from iam.access.models import AccessRole, RoleBinding, User


def held(user: User, *, unit: Unit | None = None) -> set[str]:
    """Return the permissions that a person holds for a unit; without one, for the whole holding."""
    bindings = RoleBinding.objects.in_force().filter(Q(unit=None) | Q(unit=unit), user=user)
    return {code for codes in bindings.values_list("role__permissions", flat=True) for code in codes}


def may(user: User, permission: str) -> bool:
    """Return whether a person holds a permission for the whole holding."""
    return user.is_active and user.cleared and permission in held(user)


def covers(user: User, *, role: AccessRole, unit: Unit | None) -> bool:
    """Return whether a person holds everything that a role gives for a unit, and so may give it on."""
    return user.is_active and user.cleared and set(role.permissions) <= held(user, unit=unit)
