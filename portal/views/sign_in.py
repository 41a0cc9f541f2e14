"""Sign-in, its second step, passkeys, and sign-out."""

import json
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from allauth.account.internal.flows.login import perform_password_login, record_authentication
from allauth.account.models import Login
from allauth.account.stages import LoginStage, LoginStageController
from allauth.mfa.stages import AuthenticateStage
from allauth.mfa.webauthn.internal import auth as webauthn
from allauth.mfa.webauthn.internal.flows import perform_passwordless_login
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView, OAuth2LoginView, OAuth2View
from django.conf import settings
from django.contrib.auth.forms import AuthenticationForm
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from kombu.exceptions import OperationalError
from requests import RequestException

from iam.access import mfa, openid, sessions, sign_ins
from iam.access.models import User
from iam.access.rules import OPEN, needs
from iam.access.tasks import record_locked_name
from portal import attempts
from portal.addresses import client_address

log = logging.getLogger("portal.sign_in")

NAME_LENGTH = 150
PROVIDER = "provider"  # its name in settings.SOCIALACCOUNT_PROVIDERS


@needs(OPEN)
@sensitive_post_parameters("password")
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in(request: HttpRequest) -> HttpResponse:
    """Ask for name and password; on success go on to the second step, or to where the person was headed.

    The same sentence, after the same time, for a wrong name, a wrong password and somebody who may not sign in:
    names cannot be found out.
    """
    if request.user.is_authenticated and request.method != "POST":
        return HttpResponseRedirect(destination(request))
    if request.method != "POST":
        return _page(request, error=problem_of(request.GET.get("problem", "")))
    name, address = request.POST.get("username", "").strip(), client_address(request)
    attempt = attempts.begin(name=name, address=address)
    if attempt.wait:
        return _refuse(_page(request, error=attempts.refusal(attempt.wait), status=429), attempt.wait)
    form = AuthenticationForm(request, request.POST)
    if not form.is_valid():
        if attempt.last:
            _tell_lock_out(name, address)
        log.warning("Sign-in refused, from %s.", address)
        return _page(request, error=_("Name or password is wrong."), status=422)
    attempts.succeed(name=name, address=address)
    login = Login(user=form.get_user(), redirect_url=destination(request))
    response: HttpResponse = perform_password_login(request, {"username": name}, login)
    return response


def _tell_lock_out(name: str, address: str) -> None:
    """Let a task look whose name it is: here, the time that it takes would tell whether it is somebody's."""
    try:
        record_locked_name.delay(name[:NAME_LENGTH], address)
    except OperationalError:
        log.exception("A name was locked; the ledger cannot be told, since the broker does not answer.")


@needs(OPEN)
@sensitive_post_parameters("code", "credential")
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def second_step(request: HttpRequest) -> HttpResponse:
    """Ask for a code or a key of whoever has taken the first step in the last quarter of an hour."""
    stage: LoginStage | None = LoginStageController.enter(request, AuthenticateStage.key)
    if stage is None or not isinstance(stage.login.user, User):
        return redirect("sign-in")
    user = stage.login.user
    error, status = "", 200
    if request.method == "POST":
        accepted, error, status = take_second_step(request, user)
        if accepted is not None:
            record_authentication(request, user, "mfa", id=accepted.pk, type=accepted.type)
            response: HttpResponse = stage.exit()
            return response
    context = {"error": error, **challenge(user)}
    return render(request, "access/second_step.html", context, status=status)


def take_second_step(request: HttpRequest, user: User) -> tuple[Any, str, int]:
    """Take the code or key that was posted: the authenticator, or None with the error and the status."""
    name, address = f"second-step/{user.pk}", client_address(request)
    attempt = attempts.begin(name=name, address=address)
    if attempt.wait:
        return None, attempts.refusal(attempt.wait), 429
    try:
        if "credential" in request.POST:
            accepted = mfa.accept_key(user=user, credential=posted_credential(request))
        else:
            accepted = mfa.accept_code(user=user, code=request.POST.get("code", ""))
    except mfa.WrongAnswerError as wrong:
        if attempt.last:
            sign_ins.record_lock_out(user=user, step="second-step", address=address)
        log.warning("Second step refused, person %d, from %s.", user.pk, address)
        return None, str(wrong), 422
    attempts.succeed(name=name, address=address)
    return accepted, "", 200


def challenge(user: User) -> dict[str, Any]:
    """Return what the part `access/parts/challenge.html` asks a person with a second step."""
    kinds = set(mfa.second_steps(user).values_list("type", flat=True))
    keys = mfa.Type.WEBAUTHN in kinds
    return {
        "has_codes": bool(kinds),
        "key_options": json.dumps(webauthn.begin_authentication(user)["publicKey"]) if keys else "",
    }


def posted_credential(request: HttpRequest) -> Any:
    """Return what a key answered, as the page's script posts it; None when it is no JSON."""
    try:
        return json.loads(request.POST.get("credential", ""))
    except ValueError:
        return None


@needs(OPEN)
@never_cache
@require_http_methods(["GET", "POST"])
def passkey(request: HttpRequest) -> HttpResponse:
    """GET: what a passkey is asked. POST: sign in whoever it says; with PIN or finger it is two factors in one."""
    if request.method == "GET":
        return JsonResponse(webauthn.begin_authentication()["publicKey"])
    address = client_address(request)
    name = f"passkey/{address}"
    attempt = attempts.begin(name=name, address=address)
    if attempt.wait:
        return _refuse(_page(request, error=attempts.refusal(attempt.wait), status=429), attempt.wait)
    try:
        accepted = mfa.accept_key(user=None, credential=posted_credential(request))
    except mfa.WrongAnswerError:
        return _page(request, error=_("This passkey is not known here."), status=422)
    attempts.spare(name=name, address=address)
    login = Login(user=accepted.user, redirect_url=destination(request))
    response: HttpResponse = perform_passwordless_login(request, accepted, login)
    return response


@needs(OPEN)
@never_cache
@require_safe
def provider(request: HttpRequest, provider_id: str = PROVIDER) -> HttpResponse:
    """Go to the identity provider and come back signed in. Raises Http404 when there is none."""
    if provider_id != PROVIDER or not settings.SOCIALACCOUNT_PROVIDERS["openid_connect"]["APPS"]:
        raise Http404
    if set(request.GET) - {"next", openid.AGAIN}:  # only sign-in, not the other processes of the library
        return HttpResponseRedirect(reverse("provider") + "?" + urlencode({"next": destination(request)}))
    return _ask_provider(OAuth2LoginView, request)


@needs(OPEN)
@never_cache
@require_safe
def provider_back(request: HttpRequest, provider_id: str) -> HttpResponse:
    """Take the provider's answer. Raises Http404 when there is no such provider."""
    if provider_id != PROVIDER or not settings.SOCIALACCOUNT_PROVIDERS["openid_connect"]["APPS"]:
        raise Http404
    return _ask_provider(OAuth2CallbackView, request)


def _ask_provider(view: type[OAuth2View], request: HttpRequest) -> HttpResponse:
    ask: Callable[[HttpRequest], HttpResponse] = view.adapter_view(openid.VerifyingAdapter(request, PROVIDER))
    try:
        return ask(request)
    except (RequestException, KeyError, ValueError):  # it is away, or its answers are not what they should be
        log.exception("The identity provider gave no answer.")
        return HttpResponseRedirect(f"{reverse('sign-in')}?problem=provider")


def _refuse(response: HttpResponse, wait: int) -> HttpResponse:
    response.headers["Retry-After"] = str(wait)
    return response


def problem_of(word: str) -> str:
    """Return the sentence for why a way to sign in led back, empty for none."""
    sentences = {
        "refused": _("This account may not sign in here. Ask an administrator."),
        "provider": _("The identity provider gave no answer. Try again."),
        "unproven": _(
            "The identity provider's answer could not be verified, so it was not accepted. Try again;"
            " if it happens again, tell an administrator."
        ),
        "another": _("You signed in as somebody else at the identity provider. Sign in there as yourself."),
        "expired": _("This link is not valid any more."),
    }
    return sentences.get(word, "")


def _page(request: HttpRequest, *, error: str = "", status: int = 200) -> HttpResponse:
    target = request.POST.get("next") or request.GET.get("next", "")
    context = {
        "error": error,
        "name": request.POST.get("username", "")[:NAME_LENGTH],
        "next": target,
        "provider": settings.OIDC_NAME if settings.SOCIALACCOUNT_PROVIDERS["openid_connect"]["APPS"] else "",
        "provider_url": f"{reverse('provider')}?{urlencode({'next': target})}",
    }
    return render(request, "access/sign_in.html", context, status=status)


def destination(request: HttpRequest) -> str:
    """Return the address of this site that `next` names, else the overview's."""
    target = request.POST.get("next") or request.GET.get("next", "")
    safe = url_has_allowed_host_and_scheme(
        target, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return target if safe else "/"


@needs(OPEN)
@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    """End the session."""
    sessions.sign_out(request)
    return redirect("sign-in")
