"""People of the identity provider: who they are here, and the roles that their groups give."""

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any

from allauth.socialaccount.models import SocialAccount
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from audit import services as audit
from holding import scope
from iam.access.bindings import bind_role, binding_state, record_revocation
from iam.access.models import GroupMapping, RoleBinding, User
from iam.access.rights import namespace
from iam.access.services import TakenError, lasting_administrators, once, person_state
from iam.access.usernames import RESERVED

log = logging.getLogger("iam.access.claims")

ACTOR = "identity-provider"
USERNAME_LENGTH = 100
EMAIL_LENGTH = 254
ATTEMPTS = 3


class RefusedError(ValueError):
    """The provider's claims name nobody who may sign in here."""


@transaction.atomic
def admit(*, account: SocialAccount, claims: Mapping[str, Any]) -> User:
    """Return the person of a provider's account, with the roles of their groups.

    Known accounts keep their person. Another is bound to the one person with the same verified e-mail address, or
    a person is created, without a password. Raises RefusedError when the address is not verified, or the person is
    inactive or none.
    """
    user = account.user if account.pk else _person(claims)
    if not account.pk:
        account.user = user
        account.save()
        details = {"issuer": settings.OIDC_ISSUER, "subject": account.uid}
        audit.record(actor=ACTOR, action="person.identity", object=f"person/{user.pk}", details=details)
    user = User.objects.select_for_update().get(pk=user.pk)
    if not user.is_active or user.kind != User.Kind.PERSON:
        raise RefusedError("inactive, or not a person")
    apply_groups(user=user, groups=_groups(claims))
    return user


def _person(claims: Mapping[str, Any]) -> User:
    email = str(claims.get("email") or "").strip()
    if not 0 < len(email) <= EMAIL_LENGTH or claims.get("email_verified") is not True:
        log.warning("The identity provider names no verified e-mail address for subject %s.", claims.get("sub"))
        raise RefusedError("no verified e-mail address")
    for _attempt in range(ATTEMPTS):
        known = User.objects.select_for_update().filter(email__iexact=email).first()
        try:
            return known or _create(email, claims)
        except TakenError:  # the address or the name was given to somebody at the same moment: look again
            continue
    raise RefusedError("the address or the name is in use")


def _create(email: str, claims: Mapping[str, Any]) -> User:
    wanted = str(claims.get("preferred_username") or email.partition("@")[0])
    stem = re.sub(r"[^\w.@+-]", "-", wanted)[:USERNAME_LENGTH] or "person"
    taken = User.objects.filter(username__istartswith=stem).values_list("username", flat=True)
    names = RESERVED | {name.casefold() for name in taken}
    username, number = stem, 1
    while username.casefold() in names:
        number += 1
        username = f"{stem}-{number}"
    user = User(
        username=username,
        email=email,
        first_name=str(claims.get("given_name") or "")[:150],
        last_name=str(claims.get("family_name") or "")[:150],
    )
    user.set_unusable_password()
    with once():
        user.save(force_insert=True)
    state = person_state(user)
    audit.record(actor=ACTOR, action="person.create", object=f"person/{user.pk}", after=state, details=state)
    return user


def _groups(claims: Mapping[str, Any]) -> list[str]:
    told = claims.get(settings.OIDC_GROUPS_CLAIM) or []
    return [told] if isinstance(told, str) else [str(group) for group in told] if isinstance(told, list) else []


@transaction.atomic
def apply_groups(*, user: User, groups: Iterable[str]) -> None:
    """Grant what `GroupMapping` gives for these groups and is not there, revoke what former groups gave.

    The clearance follows: who gains a role has it, who loses the last binding of any source loses it, but for the
    last who may administer the portal.
    """
    with scope.opened(scope.EVERYTHING):  # who signs in sees no unit yet: the portal acts, on the provider's word
        _apply_groups(user, groups)


def _apply_groups(user: User, groups: Iterable[str]) -> None:
    mappings = GroupMapping.objects.filter(group__in=list(groups)).select_related("role", "unit")
    wanted = {(mapping.role_id, mapping.unit_id): mapping for mapping in mappings}
    now = timezone.now()
    bindings = list(
        RoleBinding.objects.select_for_update(of=("self",))
        .select_related("user", "role")
        .filter(user=user, revoked_at=None)
        .exclude(expires_at__lte=now)
    )
    former = [binding for binding in bindings if _is_former(binding, wanted)]
    for binding in former:
        before = binding_state(binding)
        binding.revoked_at = now
        binding.save(update_fields=["revoked_at"])
        record_revocation(binding, before=before, actor=ACTOR, reason=binding.reason)
    held = {(binding.role_id, binding.unit_id) for binding in bindings}
    for key, mapping in wanted.items():
        if key not in held:
            bind_role(
                user=user,
                role=mapping.role,
                unit_id=mapping.unit_id,
                where=namespace(mapping.unit),
                actor=ACTOR,
                starts_at=now,
                source=RoleBinding.Source.CLAIM,
                reason=mapping.group,
            )
    lost = bool(former) and len(former) == len(bindings)
    if lost and list(lasting_administrators()[:2]) == [user]:
        lost = False  # a superuser, and nobody else could administer the portal
    _clear(user, cleared=bool(wanted) or (user.cleared and not lost))


def _is_former(binding: RoleBinding, wanted: Mapping[tuple[int, int | None], GroupMapping]) -> bool:
    """Whether a binding comes from a group that the person is in no more."""
    return binding.source == RoleBinding.Source.CLAIM and (binding.role_id, binding.unit_id) not in wanted


def _clear(user: User, *, cleared: bool) -> None:
    if user.cleared == cleared:
        return
    before = person_state(user)
    user.cleared = cleared
    user.save(update_fields=["cleared"])
    audit.record(
        actor=ACTOR,
        action="person.update",
        object=f"person/{user.pk}",
        before=before,
        after=person_state(user),
        details={"cleared": cleared},
    )
