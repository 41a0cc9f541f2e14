"""Sign-in and sign-out."""

from django.conf import settings
from django.contrib.auth import login, logout
from django.contrib.auth.forms import AuthenticationForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from iam.access.middleware import LANGUAGE_COOKIE
from iam.access.models import User
from iam.access.rules import OPEN, needs
from portal import attempts
from portal.addresses import client_address


@needs(OPEN)
@sensitive_post_parameters("password")
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in(request: HttpRequest) -> HttpResponse:
    """Ask for name and password; on success go on to where the person was headed.

    The same sentence for a wrong name, a wrong password and a locked person: names cannot be found out.
    """
    if request.user.is_authenticated and request.method != "POST":
        return HttpResponseRedirect(destination(request))
    if request.method != "POST":
        return _page(request)
    name, address = request.POST.get("username", "").strip(), client_address(request)
    if wait := attempts.seconds_to_wait(name=name, address=address):
        minutes = -(-wait // 60)
        sentence = ngettext(
            "Too many attempts. Try again in %(count)d minute.",
            "Too many attempts. Try again in %(count)d minutes.",
            minutes,
        )
        response = _page(request, error=sentence % {"count": minutes}, status=429)
        response.headers["Retry-After"] = str(wait)
        return response
    form = AuthenticationForm(request, request.POST)
    if not form.is_valid():
        attempts.note_failure(name=name, address=address)
        return _page(request, error=_("Name or password is wrong."), status=422)
    attempts.forget(name=name)
    user = form.get_user()
    login(request, user)
    response = HttpResponseRedirect(destination(request))
    if isinstance(user, User) and user.language:
        response.set_cookie(LANGUAGE_COOKIE, user.language, max_age=settings.SESSION_COOKIE_AGE, samesite="Lax")
    return response


def _page(request: HttpRequest, *, error: str = "", status: int = 200) -> HttpResponse:
    context = {
        "error": error,
        "name": request.POST.get("username", "")[:150],
        "next": request.POST.get("next") or request.GET.get("next", ""),
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
    logout(request)
    return redirect("sign-in")
