"""The language of a person, and the clearance that every page asks for."""

from collections.abc import Callable

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render, resolve_url
from django.utils import translation

GetResponse = Callable[[HttpRequest], HttpResponse]
LANGUAGE_COOKIE = "language"
# What answers without a sign-in; everything else is denied by default.
OPEN_PATHS = ("/sign-in/", "/sign-out/", "/language/", f"/{settings.STATIC_URL.strip('/')}/", "/favicon.ico")
OWN_GATE = ("/api/", "/admin/")  # these refuse by themselves, in their own form


def language(get_response: GetResponse) -> GetResponse:
    """Answer in the language chosen (cookie), else the browser's, else Spanish."""

    def middleware(request: HttpRequest) -> HttpResponse:
        chosen = request.COOKIES.get(LANGUAGE_COOKIE, "")
        if chosen not in dict(settings.LANGUAGES):
            chosen = settings.LANGUAGE_CODE
            if header := request.headers.get("Accept-Language", ""):
                chosen = "en" if header.lower().startswith("en") else settings.LANGUAGE_CODE
        with translation.override(chosen):
            request.LANGUAGE_CODE = chosen
            response = get_response(request)
        response.headers.setdefault("Content-Language", chosen)
        return response

    return middleware


def clearance(get_response: GetResponse) -> GetResponse:
    """Deny every page to people who are not signed in or lack the holding's clearance."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if request.path.startswith(OPEN_PATHS) or request.path.startswith(OWN_GATE):
            return get_response(request)
        user = request.user
        if not user.is_authenticated:
            if request.headers.get("HX-Request"):
                # htmx would swap the sign-in page into a fragment; tell it to move the whole page.
                return HttpResponse(status=401, headers={"HX-Redirect": resolve_url(settings.LOGIN_URL)})
            return redirect_to_login(request.get_full_path())
        if not getattr(user, "cleared", False):
            return render(request, "access/no_clearance.html", status=403)
        return get_response(request)

    return middleware
