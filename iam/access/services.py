"""Writes of people and tokens."""

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from audit import services as audit
from holding.models import Unit
from iam.access.models import AccessRole, ApiToken, RoleBinding, User
from iam.access.sessions import end_sessions

ADMINISTRATOR = "administrator"  # the role
FIRST_TOKEN = "first-start"  # noqa: S105 - the name of a token


def token_digest(token: str) -> str:
    """Return what is stored of a token: its SHA-256 (hex). Tokens are random, so no salt is needed."""
    return sha256(token.encode()).hexdigest()


@transaction.atomic
def ensure_administrator(*, username: str, password: str, token: str, actor: str) -> User:
    """Create the administrator, or bring password and token `first-start` to those given; idempotent."""
    user, created = User.objects.select_for_update().get_or_create(
        username=username,
        defaults={"is_staff": True, "is_superuser": True, "cleared": True, "language": ""},
    )
    changed = created
    if not user.check_password(password):
        user.set_password(password)
        user.save(update_fields=["password"])
        end_sessions(user=user, actor=actor)
        changed = True
    if not user.bindings.in_force().filter(role__slug=ADMINISTRATOR, unit=None).exists():
        role = AccessRole.objects.get(slug=ADMINISTRATOR)
        RoleBinding.objects.create(user=user, role=role, source=RoleBinding.Source.SYSTEM, reason=_("first start"))
        changed = True
    digest = token_digest(token)
    if not ApiToken.objects.filter(user=user, name=FIRST_TOKEN, digest=digest, expires_at=None).exists():
        ApiToken.objects.update_or_create(
            user=user, name=FIRST_TOKEN, defaults={"digest": digest, "expires_at": None}
        )
        changed = True
    if changed:
        audit.record(
            actor=actor,
            action="person.create" if created else "person.credentials",
            object=f"person/{user.pk}",
            after={"username": username, "staff": True, "cleared": True},
        )
    return user


PERSON_FIELDS = ("username", "first_name", "last_name", "email", "is_active", "is_staff", "cleared", "language")


class LastAdministratorError(ValueError):
    """The change would leave nobody who may administer the portal."""

    def __init__(self) -> None:
        super().__init__(_("Nobody could administer the portal any more: give somebody else the rights first."))


def administrators() -> QuerySet[User]:
    """Return the people who may do everything in the admin."""
    return User.objects.filter(is_active=True, is_staff=True, is_superuser=True, cleared=True)


def person_state(user: User) -> dict[str, Any]:
    """Return what the ledger takes the digest of: everything about a person but the password."""
    return {name: getattr(user, name) for name in PERSON_FIELDS} | {"superuser": user.is_superuser}


@transaction.atomic
def create_person(*, password: str, actor: str, **fields: Any) -> User:
    """Create a person from fields of `PERSON_FIELDS`. Raises IntegrityError for a username in use."""
    user = User(**{name: value for name, value in fields.items() if name in PERSON_FIELDS})
    user.set_password(password)
    user.save(force_insert=True)
    audit.record(
        actor=actor,
        action="person.create",
        object=f"person/{user.pk}",
        after=person_state(user),
        details=person_state(user),
    )
    return user


@transaction.atomic
def update_person(*, user_id: int, actor: str, password: str = "", **fields: Any) -> User:
    """Bring fields of `PERSON_FIELDS`, and the password if one is given, to those values.

    Raises LastAdministratorError. What does not change is not in the ledger.
    """
    # Locked together, so that two changes at once cannot each take the other for the one that remains.
    list(administrators().select_for_update().order_by("pk").values_list("pk"))
    user = User.objects.select_for_update().get(pk=user_id)
    before = person_state(user)
    for name, value in fields.items():
        if name in PERSON_FIELDS:
            setattr(user, name, value)
    if password:
        user.set_password(password)
    changes = {name: value for name, value in person_state(user).items() if value != before[name]}
    if not changes and not password:
        return user
    user.save()
    if not administrators().exists():
        raise LastAdministratorError
    if password or not user.is_active:
        end_sessions(user=user, actor=actor)
    audit.record(
        actor=actor,
        action="person.update",
        object=f"person/{user.pk}",
        before=before,
        after=person_state(user),
        details={**changes, **({"password": "changed"} if password else {})},
    )
    return user


@transaction.atomic
def issue_token(
    *,
    user: User,
    name: str,
    token: str,
    expires_at: datetime | None,
    actor: str,
    permissions: Sequence[str] = (),
    unit: Unit | None = None,
) -> ApiToken:
    """Store a new token of a person under a name that the person has not used yet (IntegrityError otherwise).

    It is good for these permissions (none: all that its account has) and for this unit (None: for all).
    """
    issued = ApiToken.objects.create(
        user=user,
        name=name,
        digest=token_digest(token),
        expires_at=expires_at,
        permissions=list(permissions),
        unit=unit,
    )
    audit.record(
        actor=actor,
        action="token.issue",
        object=f"person/{user.pk}",
        details={
            "name": name,
            "expires": expires_at.isoformat() if expires_at else None,
            "permissions": list(permissions),
            "unit": unit.slug if unit else None,
        },
    )
    return issued


@transaction.atomic
def revoke_token(*, token: ApiToken, actor: str) -> None:
    """Delete a token: the next request that shows it is refused."""
    audit.record(actor=actor, action="token.revoke", object=f"person/{token.user_id}", details={"name": token.name})
    token.delete()


@transaction.atomic
def set_language(*, user: User, language: str) -> None:
    """Remember a person's language (`es` or `en`)."""
    User.objects.filter(pk=user.pk).update(language=language)
