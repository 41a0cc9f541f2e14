"""A person's language and theme."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseRedirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from iam.access.middleware import LANGUAGE_COOKIE
from iam.access.models import User
from iam.access.rules import OPEN, needs
from iam.access.services import set_language
from portal.context import THEME_COOKIE, THEMES
from portal.views.sign_in import destination

YEAR_SECONDS = 365 * 86400


@needs(OPEN)
@require_POST
def language(request: HttpRequest) -> HttpResponse:
    """Remember the language in a cookie, and in the setting of a person who is signed in."""
    chosen = request.POST.get("language", "")
    if chosen not in dict(settings.LANGUAGES):
        return HttpResponseBadRequest(_("There is no such language."))
    if isinstance(request.user, User):
        set_language(user=request.user, language=chosen)
    return _remember(request, LANGUAGE_COOKIE, chosen)


@needs(OPEN)
@require_POST
def theme(request: HttpRequest) -> HttpResponse:
    """Remember the theme in a cookie."""
    chosen = request.POST.get("theme", "")
    if chosen not in THEMES:
        return HttpResponseBadRequest(_("There is no such theme."))
    return _remember(request, THEME_COOKIE, chosen)


def _remember(request: HttpRequest, cookie: str, value: str) -> HttpResponse:
    response = HttpResponseRedirect(destination(request))
    response.set_cookie(cookie, value, max_age=YEAR_SECONDS, samesite="Lax", secure=settings.SESSION_COOKIE_SECURE)
    return response
