"""Writes of people and tokens."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from audit import services as audit
from holding.models import Unit
from iam.access import notices
from iam.access.models import AccessRole, ApiToken, RoleBinding, User
from iam.access.permissions import PERMISSIONS
from iam.access.powers import keeps_sign_in
from iam.access.rights import NotHeldError, RefusedError, Rights, beyond, place, rights_of
from iam.access.sessions import end_sessions

LONGEST_TOKEN = timedelta(days=365)
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
        notices.tell(user, "password")
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
    if created:
        User.username_validator(username)
    if changed:
        audit.record(
            actor=actor,
            action="person.create" if created else "person.credentials",
            object=f"person/{user.pk}",
            after={"username": username, "staff": True, "cleared": True},
        )
    return user


KEPT = gettext_lazy(
    "This person holds an office: nobody else sets their password or e-mail address. They ask for a link to a new "
    "password at the sign-in."
)
UNIQUE = {"access_user_username_key": "username", "user_email_once": "email"}  # constraints of the database
TAKEN = {
    "username": gettext_lazy("This name is in use."),
    "email": gettext_lazy("Somebody has this e-mail address already."),
}
PERSON_FIELDS = ("username", "first_name", "last_name", "email", "is_active", "is_staff", "cleared", "language")


class LastAdministratorError(RefusedError):
    """The change would leave nobody who may administer the portal."""

    def __init__(self) -> None:
        super().__init__(_("Nobody could administer the portal any more: give somebody else the rights first."))


def lasting_administrators() -> QuerySet[User]:
    """Return the people who may administer the whole holding, pages and administration, without an end to it.

    By the superuser's mark, or by the role; not by a group of the identity provider, which any sign-in can end.
    """
    lasting = RoleBinding.objects.in_force().filter(role__slug=ADMINISTRATOR, unit=None, expires_at=None)
    lasting = lasting.exclude(source=RoleBinding.Source.CLAIM)
    able = Q(is_superuser=True) | Q(pk__in=lasting.values("user"))
    return User.objects.filter(able, kind=User.Kind.PERSON, is_active=True, is_staff=True, cleared=True)


@contextmanager
def somebody_stays() -> Iterator[None]:
    """Make a change that may take the rights of an administrator, in the caller's transaction.

    Raises LastAdministratorError when there was a lasting administrator before it, and there is none after it.
    """
    # Such changes wait for each other here, so that two at once cannot each take the other for the one that stays.
    AccessRole.objects.select_for_update(no_key=True).get(slug=ADMINISTRATOR)
    somebody = lasting_administrators().exists()
    yield
    if somebody and not lasting_administrators().exists():
        raise LastAdministratorError


class TakenError(RefusedError):
    """The username or the e-mail address (`field`) is somebody else's."""

    def __init__(self, field: str) -> None:
        self.field = field
        super().__init__(TAKEN[field])


@contextmanager
def once() -> Iterator[None]:
    """Write people; raises TakenError when the database says that a username or an address is in use.

    Addresses are the same whatever their case; an empty one is nobody's.
    """
    try:
        with transaction.atomic():
            yield
    except IntegrityError as error:
        field = UNIQUE.get(getattr(getattr(error.__cause__, "diag", None), "constraint_name", ""))
        if field is None:
            raise
        raise TakenError(field) from error


def person_state(user: User) -> dict[str, Any]:
    """Return what the ledger takes the digest of: everything about a person but the password."""
    return {name: getattr(user, name) for name in PERSON_FIELDS} | {"superuser": user.is_superuser}


@transaction.atomic
def create_person(*, password: str, actor: str, **fields: Any) -> User:
    """Create a person from fields of `PERSON_FIELDS`.

    Raises TakenError for a username or an address in use, ValidationError for what nobody may be called.
    """
    user = User(**{name: value for name, value in fields.items() if name in PERSON_FIELDS})
    User.username_validator(user.username)
    user.set_password(password)
    with once():
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
def update_person(*, user_id: int, actor: str, by: User | None = None, password: str = "", **fields: Any) -> User:
    """Bring fields of `PERSON_FIELDS`, and the password if one is given, to those values.

    `by` is the person who asks, None the operator. Raises LastAdministratorError; TakenError for a username or an
    address in use; ValidationError for what nobody may be called; NotHeldError for password or address of somebody
    who keeps their sign-in (`powers`). What does not change is not in the ledger.
    """
    with somebody_stays():
        return _update_person(user_id, actor, by, password, fields)


def _update_person(user_id: int, actor: str, by: User | None, password: str, fields: dict[str, Any]) -> User:
    user = User.objects.select_for_update().get(pk=user_id)
    before = person_state(user)
    for name, value in fields.items():
        if name in PERSON_FIELDS:
            setattr(user, name, value)
    if password and user.kind != User.Kind.PERSON:
        raise RefusedError(_("Only people have passwords: a service account or an agent shows tokens."))
    if password:
        user.set_password(password)
    changes = {name: value for name, value in person_state(user).items() if value != before[name]}
    if not changes and not password:
        return user
    if "username" in changes:
        User.username_validator(user.username)
    if (password or "email" in changes) and keeps_sign_in(user=user, by=by):
        raise NotHeldError(KEPT)
    with once():
        user.save()
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
    if password:
        notices.tell(user, "password")
    if "email" in changes:
        notices.tell(user, "email", detail=user.email, to=[before["email"]])
    return user


@transaction.atomic
def issue_token(
    *,
    user: User,
    name: str,
    token: str,
    expires_at: datetime | None,
    actor: str,
    permissions: Collection[str] = (),
    unit: Unit | None = None,
    by: User | None = None,
) -> ApiToken:
    """Store a new token of an account under a name that it has not used yet (IntegrityError otherwise).

    `permissions` and `unit` make it open less than the account may; empty is all of that. Raises RefusedError for
    more than the account holds, an end over a year away, a service account's token without an end, and `by`
    somebody for an account that is inactive or has no clearance; NotHeldError when `by` would get more than they
    hold until the token's end, or more than the token opens that they issue it with.
    """
    held = rights_of(user).account
    given, unit = [code for code in PERMISSIONS if code in permissions], place(unit)
    codes = given
    if unit is not None and not codes:
        codes = [code for code in PERMISSIONS if held.allows(code, unit.pk) and not PERMISSIONS[code].wide]
    lacking = {code for code in codes if not held.has(code) or (unit and not held.allows(code, unit.pk))}
    lacking |= {code for code in codes if unit and PERMISSIONS[code].wide}
    if wrong := sorted(lacking | (set(permissions) - set(PERMISSIONS))):
        raise RefusedError(
            _("%(name)s does not hold there: %(codes)s.") % {"name": user.username, "codes": ", ".join(wrong)}
        )
    if unit is not None and not codes:
        raise RefusedError(_("%(name)s holds nothing for that unit.") % {"name": user.username})
    _check_term(user, expires_at)
    if by is not None:
        _require_covered(by, user, given, unit, expires_at)
    issued = ApiToken.objects.create(
        user=user, name=name, digest=token_digest(token), expires_at=expires_at, permissions=given, unit=unit
    )
    audit.record(
        actor=actor,
        action="token.issue",
        object=f"person/{user.pk}",
        details={
            "name": name,
            "expires": expires_at.isoformat() if expires_at else None,
            "permissions": given,
            "unit": unit.slug if unit else None,
        },
    )
    notices.tell(user, "token", detail=name)
    return issued


def _check_term(user: User, expires_at: datetime | None) -> None:
    now = timezone.now()
    if expires_at is None and user.kind != User.Kind.PERSON:
        raise RefusedError(_("A token of a service account or an agent needs an end, at most 365 days away."))
    if expires_at is not None and expires_at > now + LONGEST_TOKEN:
        raise RefusedError(_("A token lasts at most 365 days: choose an earlier end."))


def _require_covered(
    by: User, user: User, codes: Collection[str], unit: Unit | None, until: datetime | None
) -> None:
    """Raise NotHeldError when the token would let somebody do what they may not: who issues it sees it."""
    if user.kind == User.Kind.PERSON and user.pk != by.pk:
        raise NotHeldError(_("People issue their own tokens: nobody acts in the name of another person."))
    if not user.is_active:
        raise RefusedError(_("%(name)s is inactive: activate the account first.") % {"name": user.username})
    if not user.cleared:
        raise RefusedError(_("%(name)s has no clearance: give it first.") % {"name": user.username})
    if user.pk == by.pk:
        lacking = _not_asked(rights_of(by), codes, unit)
    else:
        lacking = beyond(by=by, account=user, codes=codes, unit=unit, until=until)
    if lacking:
        raise NotHeldError(
            _(
                "The token would give %(codes)s where you do not hold it, or for longer than you hold it. "
                "Limit its permissions, its unit or its time."
            )
            % {"codes": ", ".join(lacking)}
        )


def _not_asked(rights: Rights, codes: Collection[str], unit: Unit | None) -> list[str]:
    """Return what one's own token would open and the token that it is asked for with does not."""
    held = rights.account
    found = codes or [code for code in held.grants if unit is None or held.allows(code, unit.pk)]
    return [code for code in found if not rights.covers(code, frozenset([unit.pk]) if unit else held.units(code))]


@transaction.atomic
def revoke_token(*, token: ApiToken, actor: str) -> None:
    """Delete a token: the next request that shows it is refused."""
    audit.record(actor=actor, action="token.revoke", object=f"person/{token.user_id}", details={"name": token.name})
    token.delete()


@transaction.atomic
def set_language(*, user: User, language: str) -> None:
    """Remember a person's language (`es` or `en`)."""
    User.objects.filter(pk=user.pk).update(language=language)
