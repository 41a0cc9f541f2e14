"""`/account/second-step/`: one's second steps, and showing again who one is."""

import json
from io import BytesIO
from typing import Any

import qrcode
from allauth.mfa.adapter import get_adapter
from allauth.mfa.totp.internal import auth as totp
from allauth.mfa.webauthn.internal import auth as webauthn
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_safe
from qrcode.image.svg import SvgPathImage

from iam.access import mfa, sign_ins
from iam.access.confirmation import note_confirmation, recently_confirmed
from iam.access.models import User
from iam.access.rules import SIGNED_IN, needs
from iam.access.signed_in import ENROLLED
from portal import attempts
from portal.addresses import client_address
from portal.views.account_page import person, show
from portal.views.sign_in import challenge, destination, posted_credential, problem_of, take_second_step

form_page = require_http_methods(["GET", "HEAD", "POST"])


@needs(SIGNED_IN)
@never_cache
@require_safe
def listing(request: HttpRequest) -> HttpResponse:
    """Show the app, the keys and how many recovery codes are left."""
    user = person(request)
    steps = [
        {
            "id": step.pk,
            "kind": _("App with codes") if step.type == mfa.Type.TOTP else _("Security key"),
            "name": step.data.get("name", ""),
            "created_at": step.created_at,
            "last_used_at": step.last_used_at,
        }
        for step in mfa.second_steps(user)
    ]
    context = {
        "steps": steps,
        "has_app": mfa.second_steps(user).filter(type=mfa.Type.TOTP).exists(),
        "codes_left": mfa.codes_left(user),
        "missing": mfa.is_required(user) and not steps,
    }
    return show(request, "account/second_steps.html", context)


@needs(SIGNED_IN)
@sensitive_post_parameters("code")
@never_cache
@form_page
@recently_confirmed()
def add_app(request: HttpRequest) -> HttpResponse:
    """Show the secret as a picture and as text; a code of the app proves that it has it."""
    user, error = person(request), ""
    if mfa.second_steps(user).filter(type=mfa.Type.TOTP).exists():
        return redirect("second-steps")
    secret = totp.get_totp_secret(regenerate=request.method != "POST")
    if request.method == "POST":
        try:
            codes = mfa.add_app(user=user, secret=secret, code=request.POST.get("code", ""))
        except mfa.WrongAnswerError as wrong:
            error = str(wrong)
        else:
            totp.clear_totp_secret(request)
            return _added(request, codes)
    address = get_adapter().build_totp_url(user, secret)
    groups = " ".join(secret[at : at + 4] for at in range(0, len(secret), 4))
    context = {"error": error, "secret": groups, "address": address, "picture": _picture(address)}
    return show(request, "account/add_app.html", context, status=422 if error else 200)


def _picture(address: str) -> SafeString:
    """Return the QR code of an address as an SVG element without styles."""
    file = BytesIO()
    qrcode.make(address, image_factory=SvgPathImage, border=2).save(file)
    text = file.getvalue().decode()
    # Made by the library from its own modules; the address is not in it as text.
    return mark_safe(text[text.index("<svg") :])  # noqa: S308


@needs(SIGNED_IN)
@never_cache
@form_page
@recently_confirmed()
def add_key(request: HttpRequest) -> HttpResponse:
    """Add a security key or a passkey under a name."""
    user, error = person(request), ""
    passkey = "passkey" in request.POST or request.GET.get("kind") == "passkey"
    if request.method == "POST":
        try:
            codes = mfa.add_key(
                user=user,
                name=request.POST.get("name", ""),
                credential=posted_credential(request),
                passkey=passkey,
            )
        except mfa.WrongAnswerError as wrong:
            error = str(wrong)
        else:
            return _added(request, codes)
    options = webauthn.begin_registration(user, passkey)["publicKey"]
    context: dict[str, Any] = {"error": error, "passkey": passkey, "options": json.dumps(options)}
    return show(request, "account/add_key.html", context, status=422 if error else 200)


def _added(request: HttpRequest, codes: list[str]) -> HttpResponse:
    if codes:
        return show(request, "account/codes.html", {"codes": codes})
    return redirect("second-steps")


@needs(SIGNED_IN)
@never_cache
@form_page
@recently_confirmed()
def remove(request: HttpRequest, number: int) -> HttpResponse:
    """Ask, and remove one of one's own second steps."""
    user, error = person(request), ""
    step = get_object_or_404(mfa.second_steps(user), pk=number)
    if request.method == "POST":
        try:
            mfa.remove(user=user, authenticator=step)
        except mfa.LastSecondStepError as last:
            error = str(last)
        else:
            request.session.pop(ENROLLED, None)
            return redirect("second-steps")
    name = step.data.get("name") or _("App with codes")
    return show(request, "account/remove_step.html", {"error": error, "name": name}, status=422 if error else 200)


@needs(SIGNED_IN)
@never_cache
@form_page
@recently_confirmed()
def codes(request: HttpRequest) -> HttpResponse:
    """Ask, and make new recovery codes, which are shown this once."""
    user = person(request)
    if not mfa.second_steps(user).exists():
        return redirect("second-steps")
    if request.method == "POST":
        return show(request, "account/codes.html", {"codes": mfa.replace_codes(user=user)})
    return show(request, "account/replace_codes.html", {})


@needs(SIGNED_IN)
@sensitive_post_parameters("password", "code", "credential")
@never_cache
@form_page
def confirm(request: HttpRequest) -> HttpResponse:
    """Show again who one is: by the second step of who has one, else by the password."""
    user = person(request)
    asked = challenge(user)
    error, status = problem_of(request.GET.get("problem", "")), 200
    if request.method == "POST":
        error, status = _check(request, user, second_step=asked["has_codes"])
        if not error:
            note_confirmation(request)
            return HttpResponseRedirect(destination(request))
        asked = challenge(user)
    context = {
        **asked,
        "error": error,
        "next": request.POST.get("next") or request.GET.get("next", ""),
        "by_password": not asked["has_codes"] and user.has_usable_password(),
        "provider": settings.OIDC_NAME,
    }
    return render(request, "access/confirm.html", context, status=status)


def _check(request: HttpRequest, user: User, *, second_step: bool) -> tuple[str, int]:
    """Return the error and the status; no error when the answer is right."""
    if second_step:
        _accepted, error, status = take_second_step(request, user)
        return error, status
    name, address = f"confirm/{user.pk}", client_address(request)
    attempt = attempts.begin(name=name, address=address)
    if attempt.wait:
        return attempts.refusal(attempt.wait), 429
    if not user.check_password(request.POST.get("password", "")):
        if attempt.last:
            sign_ins.record_lock_out(user=user, step="confirmation", address=address)
        return _("The password is wrong."), 422
    attempts.succeed(name=name, address=address)
    return "", 200
