"""Who can do what, and why: reads over bindings, for the people who see them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.functional import Promise

from holding import scope
from holding.models import Unit
from iam.access.models import RoleBinding, User
from iam.access.permissions import PERMISSIONS
from iam.access.rights import above
from iam.access.services import ADMINISTRATOR

DORMANT_AFTER = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Reason:
    """A permission that somebody holds, and why. Without a binding: by the superuser's mark."""

    code: str
    name: str | Promise
    namespace: str
    binding: RoleBinding | None = None

    @property
    def until(self) -> datetime | None:
        """When it ends; None for no end."""
        return self.binding.expires_at if self.binding else None

    @property
    def granted_by(self) -> User | None:
        """Who granted it; None for the portal itself."""
        return self.binding.granted_by if self.binding else None


def explain(user: User) -> list[Reason]:
    """Return every permission that the account holds now, with each reason for it, in the registry's order.

    Only reasons in view of whoever asks; nothing for an account that is inactive or lacks the clearance.
    """
    if not (user.is_active and user.cleared):
        return []
    bindings = user.bindings.in_force().in_view().for_listing()
    found = [reason for binding in bindings for reason in reasons(binding)]
    if user.is_superuser:
        found += [Reason(code, permission.name, "holding") for code, permission in PERMISSIONS.items()]
    order = list(PERMISSIONS)
    return sorted(found, key=lambda reason: (order.index(reason.code), reason.namespace))


def reasons(binding: RoleBinding) -> list[Reason]:
    """Return what a binding gives: what is about the holding only when it is bound for the whole holding."""
    return [
        Reason(code, PERMISSIONS[code].name, binding.namespace, binding)
        for code in binding.role.permissions
        if code in PERMISSIONS and (binding.unit_id is None or not PERMISSIONS[code].wide)
    ]


def who_can(*, permission: str = "", unit: Unit | None = None) -> QuerySet[RoleBinding]:
    """Return the bindings in force and in view that let an account do something, there.

    With a unit, those that reach it: its own, those of what it belongs to, those of the whole holding. Superusers
    can do everything without a binding (`superusers`).
    """
    rows = RoleBinding.objects.in_force().in_view().filter(user__is_active=True, user__cleared=True)
    if permission:
        rows = rows.giving(permission)
    if unit is not None:
        rows = rows.reaching(above(unit))
    return rows.select_related("user", "role", "unit", "granted_by")


def superusers() -> QuerySet[User]:
    """Return the people who may do everything by their mark, to those who see everybody; to others nobody."""
    if scope.current().units("people.view") is not None:
        return User.objects.none()
    return User.objects.filter(is_superuser=True, is_active=True, cleared=True).order_by("username")


def people_in_view() -> QuerySet[User]:
    """Return the accounts in view: all, or those with a binding in units where whoever acts sees people."""
    if scope.current().units("people.view") is None:
        return User.objects.all()
    seen = RoleBinding.objects.in_force().in_view()
    return User.objects.filter(pk__in=seen.values("user"))


def dormant(people: QuerySet[User]) -> QuerySet[User]:
    """Return those who could sign in and have not for 90 days. Services and agents never sign in."""
    since = timezone.now() - DORMANT_AFTER
    never = Q(last_login=None, date_joined__lt=since)
    return people.filter(Q(last_login__lt=since) | never, kind=User.Kind.PERSON, is_active=True)


def is_dormant(user: User) -> bool:
    """Return whether somebody could sign in and has not for 90 days."""
    able = user.kind == User.Kind.PERSON and user.is_active
    return able and (user.last_login or user.date_joined) < timezone.now() - DORMANT_AFTER


def over_wide(bindings: QuerySet[RoleBinding]) -> QuerySet[RoleBinding]:
    """Return the bindings that give everything for ever."""
    return bindings.filter(role__slug=ADMINISTRATOR, expires_at=None)


def is_over_wide(binding: RoleBinding) -> bool:
    """Return whether a binding gives everything for ever."""
    return binding.role.slug == ADMINISTRATOR and binding.expires_at is None


def permission_names(codes: Iterable[str]) -> list[tuple[str, str | Promise]]:
    """Return codes with their names, in the registry's order."""
    wanted = set(codes)
    return [(code, permission.name) for code, permission in PERMISSIONS.items() if code in wanted]
