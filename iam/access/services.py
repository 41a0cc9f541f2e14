"""Writes of people and tokens."""

from datetime import datetime
from hashlib import sha256

from django.db import transaction

from audit import services as audit
from iam.access.models import ApiToken, User


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
        changed = True
    _, new_token = ApiToken.objects.update_or_create(
        user=user, name="first-start", defaults={"digest": token_digest(token)}
    )
    if changed or new_token:
        audit.record(
            actor=actor,
            action="person.create" if created else "person.credentials",
            object=f"person/{user.pk}",
            after={"username": username, "staff": True, "cleared": True},
        )
    return user


@transaction.atomic
def issue_token(*, user: User, name: str, token: str, expires_at: datetime | None, actor: str) -> ApiToken:
    """Store a new token of a person under a name that the person has not used yet (IntegrityError otherwise)."""
    issued = ApiToken.objects.create(user=user, name=name, digest=token_digest(token), expires_at=expires_at)
    audit.record(
        actor=actor,
        action="token.issue",
        object=f"person/{user.pk}",
        details={"name": name, "expires": expires_at.isoformat() if expires_at else None},
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
