"""Step-up: before a dangerous act, a person shows again who they are, unless they did so a few minutes ago."""

import time
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, P], HttpResponse]
CONFIRMED = "confirmed_at"  # in the session: when the person last showed who they are
MINUTES = 10


def note_confirmation(request: HttpRequest) -> None:
    """Remember that the person has just shown again who they are."""
    request.session[CONFIRMED] = int(time.time())


def is_confirmed(request: HttpRequest, *, minutes: int = MINUTES) -> bool:
    """Return whether the person showed who they are in the last `minutes`: at sign-in or since."""
    at = request.session.get(CONFIRMED, 0)
    return bool(request.user.is_authenticated and time.time() - at < minutes * 60)


def recently_confirmed(*, minutes: int = MINUTES) -> Callable[[View[P]], View[P]]:
    """Let a view be reached only within `minutes` of a confirmation; others are led to it and back.

    The view must answer GET too, since a form that comes too late is not kept: it is shown again.
    """

    def decorator(view: View[P]) -> View[P]:
        @wraps(view)
        def confirmed(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
            if is_confirmed(request, minutes=minutes):
                return view(request, *args, **kwargs)
            address = f"{reverse('confirm')}?{urlencode({'next': request.path})}"
            if request.headers.get("HX-Request"):
                return HttpResponse(status=401, headers={"HX-Redirect": address})
            return HttpResponseRedirect(address)

        return confirmed

    return decorator
