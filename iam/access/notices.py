"""Notices by mail about one's own account: whoever did not do what they tell learns of it."""

import logging
from collections.abc import Collection, Mapping
from functools import partial

from celery import current_app
from django.conf import settings
from django.db import transaction
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from kombu.exceptions import OperationalError

from iam.access import mail
from iam.access.models import User

log = logging.getLogger("iam.access.notices")

TASK = "iam.access.tasks.send_notice"  # by its name: tasks stand above the services that ask for it
SUBJECTS: Mapping[str, str | Promise] = {
    "password": _("Your password was changed"),
    "second-step-added": _("A second step was added to your account"),
    "second-step-removed": _("A second step was removed from your account"),
    "recovery-codes": _("Your recovery codes were made anew"),
    "email": _("Your e-mail address was changed"),
    "token": _("An API token was issued for your account"),
    "sessions": _("Your sessions were ended by somebody else"),
}


def tell(user: User, what: str, *, detail: str = "", to: Collection[str] = ()) -> None:
    """Let a task tell a person what was done (a key of `SUBJECTS`), once the caller's transaction is committed.

    The mail goes to the person's address, and to those of `to`; without any, nobody is told.
    """
    if user.kind != User.Kind.PERSON:
        return
    told = {
        "what": what,
        "language": user.language,
        "name": user.name,
        "username": user.username,
        "at": f"{timezone.now():%Y-%m-%d %H:%M}",
        "detail": detail,
    }
    for address in sorted({user.email, *to} - {""}):
        transaction.on_commit(partial(_ask, {"to": address, **told}))


def _ask(told: Mapping[str, str]) -> None:
    """Ask a task for the mail. The act stands, and is in the ledger, also when the broker does not answer."""
    try:
        current_app.send_task(TASK, kwargs=told)
    except OperationalError:
        log.exception("No notice was sent of “%s”: the broker does not answer.", told["what"])


def send_notice(*, what: str, to: str, language: str, name: str, username: str, at: str, detail: str) -> None:
    """Send a notice; `at` is a time in UTC as text. Raises OSError or SMTPException."""
    context = {
        "subject": SUBJECTS[what],
        "name": name,
        "username": username,
        "at": at,
        "detail": detail,
        "address": f"{settings.PORTAL_URL}{reverse('password')}",
    }
    mail.send(to=to, language=language, template="notice", context=context)
