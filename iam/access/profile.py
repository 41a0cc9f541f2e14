"""A person's own name, language, time zone and e-mail address."""

from django.conf import settings
from django.core import signing
from django.db import transaction
from django.urls import reverse
from django.utils.translation import gettext as _

from audit import services as audit
from iam.access import mail, notices
from iam.access.models import User
from iam.access.services import TakenError, once

FIELDS = ("first_name", "last_name", "language", "time_zone")
SALT = "iam.access.email"
LINK_SECONDS = 24 * 3600


class LinkError(ValueError):
    """The link is not this person's, is too old, was used, or its address belongs to somebody else by now."""

    def __init__(self) -> None:
        super().__init__(_("This link is not valid any more."))


@transaction.atomic
def update_profile(*, user: User, **fields: str) -> None:
    """Bring fields of `FIELDS` to those values."""
    person = User.objects.select_for_update().get(pk=user.pk)
    before = {name: getattr(person, name) for name in FIELDS}
    after = before | {name: value for name, value in fields.items() if name in FIELDS}
    if after == before:
        return
    User.objects.filter(pk=person.pk).update(**after)
    changes = {name: value for name, value in after.items() if value != before[name]}
    audit.record(
        actor=person.username,
        action="person.profile",
        object=f"person/{person.pk}",
        before=before,
        after=after,
        details=changes,
    )


def send_email_link(*, user: User, email: str) -> None:
    """Send a link to a new address; only who can read there can confirm it. Raises OSError or SMTPException."""
    token = signing.dumps({"person": user.pk, "from": user.email, "to": email}, salt=SALT)
    path = reverse("confirm-email", args=[token])
    context = {"name": user.name, "address": f"{settings.PORTAL_URL}{path}"}
    mail.send(to=email, language=user.language, template="email", context=context)


def email_of_link(*, user: User, token: str) -> str:
    """Return the address that a link confirms. Raises LinkError."""
    try:
        told = signing.loads(token, salt=SALT, max_age=LINK_SECONDS)
    except signing.BadSignature as error:
        raise LinkError from error
    taken = User.objects.filter(email__iexact=told["to"]).exclude(pk=user.pk).exists()
    if told["person"] != user.pk or told["from"] != user.email or taken:
        raise LinkError
    return str(told["to"])


@transaction.atomic
def change_email(*, user: User, token: str) -> None:
    """Take the confirmed address. Raises LinkError."""
    person = User.objects.select_for_update().get(pk=user.pk)
    email = email_of_link(user=person, token=token)
    before = person.email
    try:
        with once():
            User.objects.filter(pk=person.pk).update(email=email)
    except TakenError as error:  # by somebody who confirmed it at the same moment
        raise LinkError from error
    audit.record(
        actor=person.username,
        action="person.email",
        object=f"person/{person.pk}",
        before={"email": before},
        after={"email": email},
        details={"email": email},
    )
    notices.tell(person, "email", detail=email, to=[email])  # the former address too
