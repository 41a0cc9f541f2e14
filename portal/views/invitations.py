"""Inviting people, and accepting an invitation."""

from smtplib import SMTPException

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from holding.scope import EVERYTHING, opened
from iam.access import invitations
from iam.access.account_forms import AcceptForm, InvitationForm
from iam.access.confirmation import recently_confirmed
from iam.access.models import Invitation
from iam.access.rules import OPEN, needs
from iam.access.services import TakenError
from portal.views.account_page import person, show, status_of

form_page = require_http_methods(["GET", "HEAD", "POST"])


@needs("people.manage")
@never_cache
@form_page
@recently_confirmed()
def listing(request: HttpRequest) -> HttpResponse:
    """Show the open invitations; invite somebody."""
    user = person(request)
    form = InvitationForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            invitation = invitations.invite_by_mail(invited_by=user, **form.cleaned_data)
        except invitations.InvitationError as error:
            form.add_error(None, str(error))
        except (OSError, SMTPException):
            form.add_error(None, _("The mail server gave no answer. Try again later."))
        else:
            messages.success(request, _("Invited: %(email)s") % {"email": invitation.email})
            return redirect("invitations")
    rows = invitations.open_invitations().select_related("role", "unit", "invited_by")
    return show(request, "account/invitations.html", {"form": form, "rows": rows}, status=status_of(form))


@needs("people.manage")
@never_cache
@require_POST
def revoke(request: HttpRequest, number: int) -> HttpResponse:
    """Revoke an open invitation."""
    user = person(request)
    invitations.revoke_invitation(invitation=get_object_or_404(Invitation, pk=number), actor=user.username)
    return redirect("invitations")


@needs(OPEN)
@sensitive_post_parameters("password", "again")
@never_cache
@form_page
def accept(request: HttpRequest, token: str) -> HttpResponse:
    """Ask an invited person for name and password, and create the account."""
    with opened(EVERYTHING):  # whoever accepts is nobody yet: the portal acts, on the word of who invited
        return _accept(request, token)


def _accept(request: HttpRequest, token: str) -> HttpResponse:
    invitation = invitations.invitation_of_link(token)
    if invitation is None:
        return render(
            request, "access/link_expired.html", {"error": _("This link is not valid any more.")}, status=410
        )
    told = {"first_name": invitation.first_name, "last_name": invitation.last_name}
    form = AcceptForm(request.POST or None, initial=told)
    if request.method == "POST" and form.is_valid():
        names = {name: form.cleaned_data[name] for name in ("username", "first_name", "last_name", "password")}
        try:
            user = invitations.accept_invitation(token=token, **names)
        except invitations.InvitationError as error:
            return render(request, "access/link_expired.html", {"error": str(error)}, status=410)
        except TakenError as error:
            form.add_error(error.field, str(error))
        else:
            return render(request, "access/accepted.html", {"name": user.username})
    context = {"form": form, "email": invitation.email}
    return render(request, "access/accept.html", context, status=status_of(form))
