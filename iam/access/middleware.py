"""The language of a person, and the gate: who asks, what they may do, which rows they see.

`opened` and `gate` are its two halves; between them stand the limits of sessions (`iam.access.signed_in`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render, resolve_url
from django.utils import translation

from holding import scope
from iam.access import rules
from iam.access.authentication import identify
from iam.access.permissions import PERMISSIONS

GetResponse = Callable[[HttpRequest], HttpResponse]
LANGUAGE_COOKIE = "language"
OWN_GATE = ("/api/", "/admin/")  # these refuse in a form of their own (`MayDo`, `PortalAdminSite`)
FILES = (f"/{settings.STATIC_URL.strip('/')}/", "/favicon.ico")


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


def opened(get_response: GetResponse) -> GetResponse:
    """Find out who asks and what they may do, and let the database show them their rows, and no others.

    It comes before whatever else asks who it is. Afterwards what is read is read under no account's scope.
    """

    def middleware(request: HttpRequest) -> HttpResponse:
        with _opened(request):
            return get_response(request)

    return middleware


def gate(get_response: GetResponse) -> GetResponse:
    """Let a request through to what its account may do.

    Deny is the default: a page without a rule answers nobody, an account without a binding sees nothing. A request
    whose session has ended since it was `opened` goes on as a stranger's.
    """

    def middleware(request: HttpRequest) -> HttpResponse:
        if request.user.is_authenticated or _scope(request) == scope.NOTHING:
            return _refusal(request) or get_response(request)
        request.scope = scope.NOTHING  # type: ignore[attr-defined]
        with scope.opened(scope.NOTHING):
            return _refusal(request) or get_response(request)

    return middleware


@contextmanager
def _opened(request: HttpRequest) -> Iterator[None]:
    """Find out who asks; until the answer is made, what is read is read under their scope."""
    before = scope.current()
    if request.path.startswith(FILES):
        request.scope = scope.NOTHING  # type: ignore[attr-defined]
        yield
        return
    _account, given = identify(request)
    if given == scope.NOTHING:
        scope.show(given)
    request.scope = given  # type: ignore[attr-defined]
    try:
        with scope.assumed(given):
            yield
    finally:
        if before != scope.NOTHING:  # else the next request opens what it may see before it reads anything
            scope.show(before)


def _refusal(request: HttpRequest) -> HttpResponse | None:
    """Return why the request gets no answer, None if it does."""
    path = request.path_info
    if path.startswith((*OWN_GATE, *FILES)):
        return None
    rule = rules.rule_of(path)
    if rule == rules.OPEN or _fulfils(request, rule):
        return None
    if not request.user.is_authenticated:
        if request.headers.get("HX-Request"):
            # htmx would swap the sign-in page into a fragment; tell it to move the whole page.
            return HttpResponse(status=401, headers={"HX-Redirect": resolve_url(settings.LOGIN_URL)})
        return redirect_to_login(request.get_full_path())
    if not getattr(request.user, "cleared", False):
        return render(request, "access/no_clearance.html", status=403)
    return render(request, "access/no_permission.html", {"missing": PERMISSIONS.get(rule or "")}, status=403)


def _fulfils(request: HttpRequest, rule: str | None) -> bool:
    """Return whether an account that is signed in fulfils the rule; nobody fulfils that of a page without one."""
    if not request.user.is_authenticated:
        return False
    if rule == rules.SIGNED_IN:
        return True
    if rule is None or not getattr(request.user, "cleared", False):
        return False
    return rule in (rules.NO_PAGE, rules.CLEARED) or _scope(request).has(rule)


def _scope(request: HttpRequest) -> scope.Scope:
    given: scope.Scope = request.scope  # type: ignore[attr-defined]
    return given
