"""Passwords: changing one's own, and a new one by a link that an e-mail brings."""

from django.conf import settings
from django.contrib.auth.tokens import default_token_generator
from django.db import transaction
from django.urls import reverse
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_decode, urlsafe_base64_encode

from audit import services as audit
from iam.access import mail, notices
from iam.access.models import User
from iam.access.sessions import end_sessions


@transaction.atomic
def change_password(*, user: User, password: str, actor: str, keep: str = "") -> None:
    """Give a person another password. Every session but the one with the key `keep` ends."""
    user = User.objects.select_for_update().get(pk=user.pk)
    user.set_password(password)
    user.save(update_fields=["password"])
    audit.record(
        actor=actor, action="person.credentials", object=f"person/{user.pk}", details={"password": "changed"}
    )
    end_sessions(user=user, actor=actor, but=keep)
    notices.tell(user, "password")


def send_reset_link(*, email: str, language: str) -> bool:
    """Send a link to the active person with this address and a password, and return whether there is one.

    Others get none: service accounts, who left, who signs in by the identity provider.
    """
    user = User.objects.filter(email__iexact=email, is_active=True, kind=User.Kind.PERSON).first()
    if user is None or not user.has_usable_password():
        return False
    path = reverse("reset", args=[_number(user), default_token_generator.make_token(user)])
    mail.send(
        to=user.email,
        language=user.language or language,
        template="reset",
        context={"name": user.name, "username": user.username, "address": f"{settings.PORTAL_URL}{path}"},
    )
    return True


def person_of_link(*, number: str, token: str) -> User | None:
    """Return whose link it is; None when it is older than an hour, was used, or somebody has signed in since."""
    try:
        pk = int(urlsafe_base64_decode(number))
    except ValueError:
        return None
    user = User.objects.filter(pk=pk, is_active=True, kind=User.Kind.PERSON).first()
    return user if user is not None and default_token_generator.check_token(user, token) else None


@transaction.atomic
def reset_password(*, number: str, token: str, password: str) -> User | None:
    """Set the password of whose link it is and end all sessions; None when the link counts no more.

    Two uses at once are one: the second finds the password changed.
    """
    user = person_of_link(number=number, token=token)
    if user is None:
        return None
    User.objects.select_for_update().get(pk=user.pk)
    user = person_of_link(number=number, token=token)
    if user is not None:
        change_password(user=user, password=password, actor=user.username)
    return user


def _number(user: User) -> str:
    return urlsafe_base64_encode(force_bytes(user.pk))
