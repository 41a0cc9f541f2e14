"""Invitations by e-mail: sent, accepted once within seven days, revoked."""

import secrets
from datetime import timedelta
from smtplib import SMTPException
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import services as audit
from holding import scope
from holding.models import Unit
from iam.access import mail
from iam.access.bindings import bind_role, require_to_give
from iam.access.models import AccessRole, Invitation, User
from iam.access.rights import NotHeldError, RefusedError, namespace, place
from iam.access.services import TakenError, create_person, token_digest

VALID_FOR = timedelta(days=7)
TOKEN_BYTES = 32


class InvitationError(RefusedError):
    """The invitation cannot be made, or counts no more; the message says why."""


class NotTheirsError(InvitationError, NotHeldError):
    """The role gives more than whoever invites holds."""


@transaction.atomic
def invite_person(
    *,
    email: str,
    role: AccessRole | None,
    unit: Unit | None,
    invited_by: User,
    first_name: str = "",
    last_name: str = "",
    language: str = "",
) -> tuple[Invitation, str]:
    """Return a new invitation and its token, which is stored nowhere; an open one to the same address is revoked.

    Raises InvitationError when somebody has the address, NotTheirsError when the inviting person could not grant
    the role.
    """
    if User.objects.filter(email__iexact=email).exists():
        raise InvitationError(_("Somebody has this e-mail address already."))
    unit = place(unit)
    if role is not None:
        try:  # a token that opens less also invites to less
            require_to_give(invited_by, role, unit, None)
        except NotHeldError as error:
            raise NotTheirsError(str(error)) from error
    for former in open_invitations().filter(email__iexact=email):
        revoke_invitation(invitation=former, actor=invited_by.username)
    token = secrets.token_urlsafe(TOKEN_BYTES)
    invitation = Invitation.objects.create(
        email=email,
        first_name=first_name,
        last_name=last_name,
        role=role,
        unit=unit,
        language=language,
        digest=token_digest(token),
        invited_by=invited_by,
        expires_at=timezone.now() + VALID_FOR,
    )
    audit.record(
        actor=invited_by.username,
        action="invitation.send",
        object=f"invitation/{invitation.pk}",
        details={"email": email, **_gives(invitation)},
    )
    return invitation, token


def invite_by_mail(*, invited_by: User, **asked: Any) -> Invitation:
    """Invite somebody and send the link; without a mail nobody is invited.

    Raises what `invite_person` raises, OSError or SMTPException.
    """
    invitation, token = invite_person(invited_by=invited_by, **asked)
    try:
        send_invitation(invitation=invitation, token=token)
    except (OSError, SMTPException):
        revoke_invitation(invitation=invitation, actor=invited_by.username)
        raise
    return invitation


def send_invitation(*, invitation: Invitation, token: str) -> None:
    """Send the link. Raises OSError or SMTPException."""
    path = reverse("invitation", args=[token])
    context = {
        "name": invitation.first_name,
        "by": invitation.invited_by.name,
        "address": f"{settings.PORTAL_URL}{path}",
    }
    mail.send(to=invitation.email, language=invitation.language, template="invitation", context=context)


def open_invitations() -> QuerySet[Invitation]:
    """Return the invitations that can be accepted now."""
    return Invitation.objects.filter(
        accepted_by=None, revoked_at=None, expires_at__gt=timezone.now(), invited_by__is_active=True
    )


def invitation_of_link(token: str) -> Invitation | None:
    """Return the invitation of a link; None when it expired, was used or revoked, or whoever invited has left."""
    return (
        open_invitations().select_related("role", "unit", "invited_by").filter(digest=token_digest(token)).first()
    )


@transaction.atomic
def accept_invitation(*, token: str, username: str, first_name: str, last_name: str, password: str) -> User:
    """Create the person, with the clearance and the role that the invitation names.

    Raises InvitationError when it counts no more or gives more than whoever invited has by now, TakenError for a
    username in use.
    """
    with scope.opened(
        scope.EVERYTHING
    ):  # whoever accepts sees no unit: the portal acts, on the word of who invited
        return _accept(token, username, first_name, last_name, password)


def _accept(token: str, username: str, first_name: str, last_name: str, password: str) -> User:
    waiting = open_invitations().select_for_update(of=("self",)).filter(digest=token_digest(token)).first()
    if waiting is None or User.objects.filter(email__iexact=waiting.email).exists():
        raise InvitationError(_("This link is not valid any more."))
    by = waiting.invited_by
    if waiting.role is not None:
        try:
            require_to_give(by, waiting.role, place(waiting.unit), None)
        except NotHeldError as error:
            sentence = _("Whoever invited you may not give this role any more. Ask for a new invitation.")
            raise InvitationError(sentence) from error
    try:
        user = create_person(
            username=username,
            first_name=first_name,
            last_name=last_name,
            email=waiting.email,
            language=waiting.language,
            cleared=waiting.role is not None,
            password=password,
            actor=by.username,
        )
    except TakenError as error:
        if error.field == "email":  # given to somebody else at the same moment
            raise InvitationError(_("This link is not valid any more.")) from error
        raise
    waiting.accepted_by = user
    waiting.save(update_fields=["accepted_by"])
    if waiting.role is not None:
        unit = place(waiting.unit)
        bind_role(
            user=user,
            role=waiting.role,
            unit_id=unit.pk if unit else None,
            where=namespace(unit),
            actor=by.username,
            granted_by=by,
            reason=f"invitation/{waiting.pk}",
        )
    audit.record(actor=username, action="invitation.accept", object=f"invitation/{waiting.pk}")
    return user


@transaction.atomic
def revoke_invitation(*, invitation: Invitation, actor: str) -> None:
    """Let an open invitation count no more; one that was accepted or revoked stays as it is."""
    open_rows = Invitation.objects.filter(pk=invitation.pk, accepted_by=None, revoked_at=None)
    if open_rows.update(revoked_at=timezone.now()):
        audit.record(actor=actor, action="invitation.revoke", object=f"invitation/{invitation.pk}")


def _gives(invitation: Invitation) -> dict[str, str]:
    namespace = "holding" if invitation.unit is None else invitation.unit.namespace
    return {"role": invitation.role.slug, "namespace": namespace} if invitation.role else {}
