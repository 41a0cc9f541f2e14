"""Signing in as the ledger tells it: who began a session and how, and which names were locked."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from audit import services as audit
from audit.models import LedgerEntry
from iam.access.models import User

BEGUN, LOCKED = "session.begin", "session.lock-out"
SHOWN = 10
WAYS: Mapping[str, str | Promise] = {
    "password": _("password"),
    "passkey": _("passkey"),
    "provider": _("identity provider"),
}
SECOND_STEPS: Mapping[str, str | Promise] = {
    "totp": _("code of the app"),
    "webauthn": _("security key"),
    "recovery_codes": _("recovery code"),
}


@dataclass(frozen=True, slots=True)
class SignIn:
    """A sign-in of a person: when, from which address, by which way and with which second step ("": none)."""

    at: datetime
    address: str
    way: str | Promise
    second_step: str | Promise


def record_sign_in(*, user: User, steps: Iterable[Mapping[str, Any]], address: str) -> None:
    """Write into the ledger how a session began, in the transaction that begins it.

    `steps` are what django-allauth has noted of the way there (`get_authentication_records`).
    """
    details = {"way": "", "second_step": "", "address": address}
    for step in steps:
        if step["method"] == "mfa" and not step.get("passwordless"):
            details["second_step"] = step["type"]
        else:
            details["second_step"] = ""  # those of an earlier sign-in in the same session are before this one
            details["way"] = {"mfa": "passkey", "socialaccount": "provider"}.get(step["method"], step["method"])
    audit.record(actor=user.username, action=BEGUN, object=f"person/{user.pk}", details=details)


@transaction.atomic
def record_lock_out(*, user: User, step: str, address: str) -> None:
    """Write into the ledger that no further answer of somebody is looked at for some minutes, at which step."""
    details = {"step": step, "address": address}
    audit.record(actor=user.username, action=LOCKED, object=f"person/{user.pk}", details=details)


@transaction.atomic
def record_locked_name(*, name: str, address: str) -> int:
    """Write the same of a name that was typed at the sign-in, if it is somebody's; return of how many accounts.

    Called apart from the request, which takes the same time whether the name is somebody's or not.
    """
    accounts = list(User.objects.filter(username__iexact=name))  # attempts are counted whatever the case
    for user in accounts:
        record_lock_out(user=user, step="sign-in", address=address)
    return len(accounts)


def last_sign_ins(user: User) -> list[SignIn]:
    """Return the last ten sign-ins of a person, newest first."""
    entries = LedgerEntry.objects.filter(object=f"person/{user.pk}", action=BEGUN).order_by("-id")[:SHOWN]
    return [_told(entry) for entry in entries]


def _told(entry: LedgerEntry) -> SignIn:
    details = json.loads(bytes(entry.body))["details"]
    return SignIn(
        at=entry.at,
        address=details["address"],
        way=WAYS.get(details["way"], details["way"]),
        second_step=SECOND_STEPS.get(details["second_step"], details["second_step"]),
    )
