"""`/account/`: name, language, time zone, e-mail, password; sessions; tokens of one's own."""

import secrets
from smtplib import SMTPException

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from iam.access import passwords, profile, services
from iam.access.account_forms import EmailForm, OwnTokenForm, PasswordForm, ProfileForm
from iam.access.confirmation import recently_confirmed
from iam.access.middleware import LANGUAGE_COOKIE
from iam.access.models import ApiToken
from iam.access.rights import RefusedError
from iam.access.rules import SIGNED_IN, needs
from iam.access.sessions import end_sessions, rename_session, sessions_of
from iam.access.sign_ins import last_sign_ins
from portal.views.account_page import person, show, status_of

TOKEN_BYTES = 32
form_page = require_http_methods(["GET", "HEAD", "POST"])


@needs(SIGNED_IN)
@never_cache
@form_page
def edit(request: HttpRequest) -> HttpResponse:
    """Show and change name, language and time zone."""
    user = person(request)
    form = ProfileForm(request.POST or None, instance=user)
    if request.method != "POST" or not form.is_valid():
        context = {"form": form, "email": user.email}
        return show(request, "account/profile.html", context, status=status_of(form))
    profile.update_profile(user=user, **form.cleaned_data)
    messages.success(request, _("Saved."))
    response = redirect("account")
    if language := form.cleaned_data["language"]:
        response.set_cookie(
            LANGUAGE_COOKIE,
            language,
            max_age=settings.SESSION_COOKIE_AGE,
            samesite="Lax",
            secure=settings.SESSION_COOKIE_SECURE,
        )
    return response


@needs(SIGNED_IN)
@never_cache
@form_page
@recently_confirmed()
def email(request: HttpRequest) -> HttpResponse:
    """Ask for another e-mail address, and send a link there. Whether somebody has it already is not told."""
    user = person(request)
    form = EmailForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            profile.send_email_link(user=user, email=form.cleaned_data["email"])
        except (OSError, SMTPException):
            form.add_error(None, _("The mail server gave no answer. Try again later."))
        else:
            messages.success(request, _("Open the link in the mail that was sent to the new address."))
            return redirect("account")
    title, button = _("Change the e-mail address"), _("Send the link")
    context = {"form": form, "title": title, "button": button}
    return show(request, "account/form.html", context, status=status_of(form))


@needs(SIGNED_IN)
@never_cache
@form_page
def confirm_email(request: HttpRequest, token: str) -> HttpResponse:
    """Ask, and take the address that the link of the mail names."""
    user = person(request)
    try:
        address = profile.email_of_link(user=user, token=token)
        if request.method == "POST":
            profile.change_email(user=user, token=token)
            messages.success(request, _("Saved."))
            return redirect("account")
    except profile.LinkError as error:
        return show(request, "account/link_expired.html", {"error": str(error)}, status=410)
    return show(request, "account/confirm_email.html", {"address": address})


@needs(SIGNED_IN)
@sensitive_post_parameters("password", "again")
@never_cache
@form_page
@recently_confirmed()
def password(request: HttpRequest) -> HttpResponse:
    """Change one's own password; every other session ends."""
    user = person(request)
    form = PasswordForm(request.POST or None, user=user)
    if request.method == "POST" and form.is_valid():
        key = request.session.session_key or ""
        passwords.change_password(user=user, password=form.cleaned_data["password"], actor=user.username, keep=key)
        user.refresh_from_db()
        _stay(request)
        messages.success(request, _("Saved. Your other sessions have ended."))
        return redirect("account")
    title, button = _("Change the password"), _("Save")
    context = {"form": form, "title": title, "button": button}
    return show(request, "account/form.html", context, status=status_of(form))


def _stay(request: HttpRequest) -> None:
    """Keep this session signed in with the new password, under a new key."""
    former = request.session.session_key
    update_session_auth_hash(request, person(request))
    rename_session(former=former or "", key=request.session.session_key or "")


@needs(SIGNED_IN)
@never_cache
@form_page
def sessions(request: HttpRequest) -> HttpResponse:
    """Show one's sessions and last sign-ins; end one of the others, or all others."""
    user, key = person(request), request.session.session_key or ""
    if request.method == "POST":
        number = request.POST.get("session", "")
        only = int(number) if number.isdecimal() else None
        if number != "all" and only is None:
            return redirect("sessions")
        ended = end_sessions(user=user, actor=user.username, but=key, only=only)
        messages.success(request, _("Ended: %(count)d") % {"count": ended})
        return redirect("sessions")
    rows = [(session, session.session_key == key) for session in sessions_of(user)]
    rows.sort(key=lambda row: not row[1])
    return show(request, "account/sessions.html", {"rows": rows, "sign_ins": last_sign_ins(user)})


@needs(SIGNED_IN)
@never_cache
@form_page
@recently_confirmed()
def tokens(request: HttpRequest) -> HttpResponse:
    """Show one's API tokens; issue one, which is shown this once."""
    user = person(request)
    form = OwnTokenForm(request.POST or None, user=user)
    issued = ""
    if request.method == "POST" and form.is_valid():
        token = secrets.token_urlsafe(TOKEN_BYTES)
        try:
            services.issue_token(user=user, token=token, actor=user.username, **form.wanted())
        except RefusedError as error:
            form.add_error(None, str(error))
        except IntegrityError:  # issued a moment ago, in another window
            form.add_error("name", _("You have a token of this name."))
        else:
            issued, form = token, OwnTokenForm(user=user)
    rows = ApiToken.objects.filter(user=user).select_related("unit").order_by("-id")
    context = {"form": form, "issued": issued, "rows": rows}
    return show(request, "account/tokens.html", context, status=status_of(form))


@needs(SIGNED_IN)
@never_cache
@require_POST
def revoke_token(request: HttpRequest, number: int) -> HttpResponse:
    """Revoke one of one's own tokens."""
    user = person(request)
    token = get_object_or_404(ApiToken, pk=number, user=user)
    services.revoke_token(token=token, actor=user.username)
    return redirect("tokens")
