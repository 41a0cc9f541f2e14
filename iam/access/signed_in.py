"""What holds for whoever is signed in: the session's limits, the second step still missing, the time zone."""

import zoneinfo
from collections.abc import Callable
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from iam.access import mfa, sessions
from iam.access.authentication import shows_token
from iam.access.models import User

GetResponse = Callable[[HttpRequest], HttpResponse]
ENROLLED = "second_step"  # in the session of who has one: nobody else is asked for with every request
# What somebody can still do who must add a second step first.
BEFORE_SECOND_STEP = ("/account/second-step/", "/account/confirm/", "/sign-out/", "/language/", "/theme/")


def session_limits(get_response: GetResponse) -> GetResponse:
    """End sessions that were idle or are old (`iam.access.sessions`)."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if _has_session(request):
            sessions.keep(request)
        return get_response(request)

    return middleware


def _has_session(request: HttpRequest) -> bool:
    """Whether it is a session that says who asks, and not a token."""
    return request.user.is_authenticated and not shows_token(request)


def second_step_first(get_response: GetResponse) -> GetResponse:
    """Lead who must have a second step and has none to adding one, before anything else."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if request.path.startswith(BEFORE_SECOND_STEP) or not _lacks_second_step(request):
            return get_response(request)
        address = reverse("second-steps")
        if request.path.startswith("/api/"):
            return JsonResponse({"detail": _("Add a second step to your sign-in first.")}, status=403)
        if request.headers.get("HX-Request"):
            return HttpResponse(status=401, headers={"HX-Redirect": address})
        return HttpResponseRedirect(f"{address}?{urlencode({'next': request.path})}")

    return middleware


def _lacks_second_step(request: HttpRequest) -> bool:
    user = request.user
    if (
        not _has_session(request)
        or not isinstance(user, User)
        or not mfa.is_required(user)
        or request.session.get(ENROLLED)
    ):
        return False
    if mfa.second_steps(user).exists():
        request.session[ENROLLED] = True
        return False
    return True


def time_zone(get_response: GetResponse) -> GetResponse:
    """Show times in the person's time zone; in UTC to who has chosen none."""

    def middleware(request: HttpRequest) -> HttpResponse:
        chosen = getattr(request.user, "time_zone", "") if _has_session(request) else ""
        try:
            zone = zoneinfo.ZoneInfo(chosen) if chosen else None
        except (zoneinfo.ZoneInfoNotFoundError, ValueError):  # of an older database of time zones
            zone = None
        with timezone.override(zone):
            return get_response(request)

    return middleware
