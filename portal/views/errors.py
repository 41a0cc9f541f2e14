"""Error pages in the portal's look: never a stack trace, always a next step."""

import sys

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils import translation
from django.views.decorators.csrf import requires_csrf_token
from psycopg_pool import PoolTimeout

RETRY_AFTER_SECONDS = 5


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer 503 when the database does not answer, else 500. Reads nothing that may have failed."""
    unavailable = isinstance(sys.exc_info()[1], (OperationalError, InterfaceError, PoolTimeout))
    status = 503 if unavailable else 500
    context = {"unavailable": unavailable, "language": translation.get_language(), "path": request.path}
    response = HttpResponse(render_to_string("500.html", context), status=status)
    if unavailable:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    response.headers["Cache-Control"] = "no-store"
    return response


@requires_csrf_token
def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer 403 to a form that was sent without its token."""
    return render(request, "403_csrf.html", {"reason": reason}, status=403)
