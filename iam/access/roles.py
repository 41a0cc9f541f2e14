"""Roles that the house defines itself, and what groups of the identity provider give."""

from collections.abc import Collection
from typing import Any

from django.core.validators import validate_slug
from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from audit import services as audit
from holding import scope
from holding.models import Unit
from iam.access.bindings import require_role, require_to_give
from iam.access.models import AccessRole, GroupMapping, User
from iam.access.permissions import PERMISSIONS
from iam.access.rights import RefusedError, namespace, place, rights_of, rights_to_give


def role_state(role: AccessRole) -> dict[str, Any]:
    """Return what the ledger takes the digest of."""
    return {"slug": role.slug, "es": role.name_es, "en": role.name_en, "permissions": sorted(role.permissions)}


def _checked(codes: Collection[str]) -> list[str]:
    if unknown := sorted(set(codes) - set(PERMISSIONS)):
        raise RefusedError(_("There are no such permissions: %(codes)s.") % {"codes": ", ".join(unknown)})
    if not codes:
        raise RefusedError(_("A role without permissions gives nothing: choose at least one."))
    return [code for code in PERMISSIONS if code in codes]


@transaction.atomic
def define_role(*, by: User, slug: str, name_es: str, name_en: str, permissions: Collection[str]) -> AccessRole:
    """Create a role.

    Raises NotHeldError unless `by` holds `roles.manage`, and every permission of it for the whole holding without
    an end; RefusedError for a slug in use and for unknown permissions, ValidationError for a malformed slug.
    """
    rights_of(by).require("roles.manage")
    codes = _checked(permissions)
    rights_to_give(by, None).require_all(codes, None)
    validate_slug(slug)
    role, created = AccessRole.objects.get_or_create(
        slug=slug, defaults={"name_es": name_es, "name_en": name_en, "permissions": codes}
    )
    if not created:
        raise RefusedError(_("There is a role %(slug)s already: choose another slug.") % {"slug": slug})
    audit.record(
        actor=by.username,
        action="role.define",
        object=f"role/{slug}",
        after=role_state(role),
        details={"permissions": codes},
    )
    return role


@transaction.atomic
def change_role(
    *, by: User, role: AccessRole, name_es: str, name_en: str, permissions: Collection[str]
) -> AccessRole:
    """Change a role that the house defined, for everybody who holds it.

    Raises NotHeldError unless `by` holds `roles.manage`, and for the whole holding without an end whatever is put
    in; RefusedError for a built-in role, which is the same in every installation, and for unknown permissions.
    """
    rights_of(by).require("roles.manage")
    role = AccessRole.objects.select_for_update().get(pk=role.pk)
    if role.built_in:
        raise RefusedError(
            _("%(slug)s comes with the portal and does not change. Define a role of your own.")
            % {"slug": role.slug}
        )
    codes = _checked(permissions)
    rights_to_give(by, None).require_all(set(codes) - set(role.permissions), None)
    before = role_state(role)
    role.name_es, role.name_en, role.permissions = name_es, name_en, codes
    if role_state(role) == before:
        return role
    role.save(update_fields=["name_es", "name_en", "permissions"])
    audit.record(
        actor=by.username,
        action="role.change",
        object=f"role/{role.slug}",
        before=before,
        after=role_state(role),
        details={
            "added": sorted(set(codes) - set(before["permissions"])),
            "removed": sorted(set(before["permissions"]) - set(codes)),
        },
    )
    return role


def groups_in_view() -> QuerySet[GroupMapping]:
    """Return what groups give in units where whoever acts sees people; for the whole holding, all of it."""
    rows = GroupMapping.objects.select_related("role", "unit")
    people = scope.current().units("people.view")
    return rows if people is None else rows.filter(unit_id__in=people)


@transaction.atomic
def map_group(*, by: User, group: str, role: AccessRole, unit: Unit | None = None) -> GroupMapping:
    """Let a group of the identity provider give a role. Raises NotHeldError as granting it would, RefusedError."""
    unit, group = place(unit), group.strip()
    require_to_give(by, role, unit, None)
    if not group:
        raise RefusedError(_("Name the group as the identity provider does."))
    mapping, created = GroupMapping.objects.get_or_create(group=group, role=role, unit=unit)
    if not created:
        raise RefusedError(_("The group %(group)s gives that role there already.") % {"group": group})
    _record_mapping(mapping, by, "group.map")
    return mapping


@transaction.atomic
def unmap_group(*, by: User, mapping: GroupMapping) -> None:
    """Let the group give the role no more; the next sign-in takes it away. Raises NotHeldError."""
    require_role(by, mapping.role, mapping.unit)
    _record_mapping(mapping, by, "group.unmap")
    mapping.delete()


def _record_mapping(mapping: GroupMapping, by: User, action: str) -> None:
    audit.record(
        actor=by.username,
        action=action,
        object=f"role/{mapping.role.slug}",
        details={"group": mapping.group, "where": namespace(mapping.unit)},
    )
