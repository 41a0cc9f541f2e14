"""The second step of a sign-in: codes of an app, security keys and passkeys, recovery codes.

Kept in the tables of django-allauth, whose cryptography is used. Who must have one is `settings.MFA_REQUIRED`.
"""

import hmac
from typing import Any

from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal import auth as totp
from allauth.mfa.utils import decrypt
from allauth.mfa.webauthn.internal import auth as webauthn
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from audit import services as audit
from iam.access import notices
from iam.access.models import User
from iam.access.sessions import end_sessions

Type = Authenticator.Type
SECOND_STEPS = (Type.TOTP, Type.WEBAUTHN)
NAME_LENGTH = 60


class WrongAnswerError(ValueError):
    """The code or the key is not the person's, or was used before."""

    def __init__(self) -> None:
        super().__init__(_("That is not right. Try again."))


class LastSecondStepError(ValueError):
    """The person must have a second step, and this is the last."""

    def __init__(self) -> None:
        super().__init__(_("You must have a second step. Add another before you remove this one."))


def second_steps(user: User) -> QuerySet[Authenticator]:
    """Return a person's second steps, without the recovery codes, in the order in which they were added."""
    steps: QuerySet[Authenticator] = Authenticator.objects.filter(user=user, type__in=SECOND_STEPS)
    return steps.order_by("pk")


def is_required(user: User) -> bool:
    """Return whether a person must have a second step."""
    return settings.MFA_REQUIRED == "all" or (settings.MFA_REQUIRED == "staff" and user.is_staff)


def codes_left(user: User) -> int:
    """Return how many recovery codes have not been used."""
    codes = Authenticator.objects.filter(user=user, type=Type.RECOVERY_CODES).first()
    return len(RecoveryCodes(codes).get_unused_codes()) if codes else 0


# --- answering ---------------------------------------------------------------------------------------------


@transaction.atomic
def accept_code(*, user: User, code: str) -> Authenticator:
    """Take a code of the app or a recovery code; each counts once, whatever happens to the cache.

    Raises WrongAnswerError.
    """
    code = "".join(code.split())
    known = Authenticator.objects.select_for_update().filter(user=user).exclude(type=Type.WEBAUTHN)
    for authenticator in known.order_by("pk"):
        if authenticator.type == Type.TOTP:
            counter = _counter(decrypt(authenticator.data["secret"]), code, authenticator.data.get("counter", -1))
            if counter is None:
                continue
            authenticator.data["counter"] = counter
            authenticator.save(update_fields=["data"])
        elif RecoveryCodes(authenticator).validate_code(code):
            authenticator.refresh_from_db()
            audit.record(actor=user.username, action="mfa.recovery-code", object=f"person/{user.pk}")
        else:
            continue
        authenticator.record_usage()
        return authenticator
    raise WrongAnswerError


def _counter(secret: str, code: str, last: int) -> int | None:
    """Return the 30-second step, later than `last`, that a code is for."""
    counter: int
    for counter in totp.yield_hotp_counters_from_time():
        expected = totp.format_hotp_value(totp.hotp_value(secret, counter))
        if hmac.compare_digest(expected.encode(), code.encode()) and counter > last:
            return counter
    return None


def accept_key(*, user: User | None, credential: Any) -> Authenticator:
    """Take the answer of a security key of a person, or of a passkey of whoever it says (None).

    Raises WrongAnswerError.
    """
    if not isinstance(credential, dict):
        raise WrongAnswerError
    try:
        webauthn.parse_authentication_response(credential)
        who = user or webauthn.extract_user_from_response(credential)
        authenticator = webauthn.complete_authentication(who, credential)
    except (ValidationError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise WrongAnswerError from error
    authenticator.record_usage()
    return authenticator


# --- changing ----------------------------------------------------------------------------------------------


@transaction.atomic
def add_app(*, user: User, secret: str, code: str) -> list[str]:
    """Add the app that has `secret`, proven by a code; return new recovery codes if these are the first.

    Raises WrongAnswerError, also when there is an app already.
    """
    _lock(user)
    counter = _counter(secret, "".join(code.split()), -1)
    if counter is None or Authenticator.objects.filter(user=user, type=Type.TOTP).exists():
        raise WrongAnswerError
    authenticator = totp.TOTP.activate(user, secret).instance
    authenticator.data["counter"] = counter
    authenticator.save(update_fields=["data"])
    _record(user, "mfa.add", authenticator)
    return _first_codes(user)


@transaction.atomic
def add_key(*, user: User, name: str, credential: Any, passkey: bool) -> list[str]:
    """Add a security key, or a passkey; return new recovery codes if these are the first.

    Raises WrongAnswerError when it does not answer what the page asked.
    """
    _lock(user)
    if not isinstance(credential, dict):
        raise WrongAnswerError
    try:
        webauthn.parse_registration_response(credential)
        binding = webauthn.complete_registration(credential)
    except (ValidationError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise WrongAnswerError from error
    if passkey and not binding.is_user_verified():
        raise WrongAnswerError
    name = name.strip()[:NAME_LENGTH] or _("Key %(number)d") % {"number": second_steps(user).count() + 1}
    _record(user, "mfa.add", webauthn.WebAuthn.add(user, name, credential).instance)
    return _first_codes(user)


@transaction.atomic
def remove(*, user: User, authenticator: Authenticator) -> None:
    """Remove a second step, and the recovery codes with the last. Raises LastSecondStepError."""
    _lock(user)
    others = second_steps(user).exclude(pk=authenticator.pk)
    if is_required(user) and not others.exists():
        raise LastSecondStepError
    _record(user, "mfa.remove", authenticator)
    authenticator.delete()
    if not others.exists():
        Authenticator.objects.filter(user=user).delete()


@transaction.atomic
def replace_codes(*, user: User) -> list[str]:
    """Make new recovery codes; the old ones count no more."""
    _lock(user)
    Authenticator.objects.filter(user=user, type=Type.RECOVERY_CODES).delete()
    audit.record(actor=user.username, action="mfa.recovery-codes", object=f"person/{user.pk}")
    notices.tell(user, "recovery-codes")
    return _codes(user)


@transaction.atomic
def forget(*, user: User, actor: str) -> int:
    """Remove every second step and recovery code of somebody who has lost them, and return how many there were.

    Whoever asks for it has made sure who asks: the password alone opens the account after that.
    """
    _lock(user)
    steps = list(Authenticator.objects.filter(user=user))
    if steps:
        Authenticator.objects.filter(pk__in=[step.pk for step in steps]).delete()
        audit.record(actor=actor, action="mfa.forget", object=f"person/{user.pk}", details={"removed": len(steps)})
        notices.tell(user, "second-step-removed")
        end_sessions(user=user, actor=actor)
    return len(steps)


def _first_codes(user: User) -> list[str]:
    if Authenticator.objects.filter(user=user, type=Type.RECOVERY_CODES).exists():
        return []
    return _codes(user)


def _codes(user: User) -> list[str]:
    codes: list[str] = RecoveryCodes.activate(user).get_unused_codes()
    return codes


def _lock(user: User) -> None:
    """One change of a person's second steps at a time."""
    User.objects.select_for_update().get(pk=user.pk)


def _record(user: User, action: str, authenticator: Authenticator) -> None:
    details = {"type": str(authenticator.type), "name": authenticator.data.get("name", "")}
    audit.record(actor=user.username, action=action, object=f"person/{user.pk}", details=details)
    what = "second-step-added" if action == "mfa.add" else "second-step-removed"
    notices.tell(user, what, detail=details["name"])
