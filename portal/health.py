"""What machines ask: `/healthz`, `/readyz`, `/metrics`. Answered before anything else runs.

`/healthz`: the process answers; it touches no database, so that a slow one does not get the portal killed.
`/readyz`: 200 or 503, and in JSON which of database, Redis, presence and outbox is down. A probe that decides
whether this process gets requests asks `?only=database,redis`: pages must stay up when agents fall silent.
`/metrics`: Prometheus text. With `METRICS_TOKEN` set only for that bearer token; else only for this machine, and
then not through a proxy.
"""

import hmac
from collections.abc import Callable

from django.conf import settings
from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse, JsonResponse

from portal import metrics
from portal.readiness import readiness

GetResponse = Callable[[HttpRequest], HttpResponse]
LOOPBACK = ("127.0.0.1", "::1")
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PROXY_HEADERS = ("X-Forwarded-For", "Forwarded", "X-Real-Ip")


class HealthMiddleware:
    """Answers the questions of machines (no host check, no session)."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self._answers: dict[str, GetResponse] = {
            "/healthz": healthz,
            "/readyz": readyz,
            "/metrics": prometheus,
        }

    def __call__(self, request: HttpRequest) -> HttpResponse:  # noqa: D102
        return self._answers.get(request.path, self.get_response)(request)


def healthz(_request: HttpRequest) -> HttpResponse:
    """Answer that the process runs."""
    return HttpResponse("ok\n", content_type="text/plain")


def readyz(request: HttpRequest) -> HttpResponse:
    """Answer with each check, and 503 when one fails. `?only=` names the checks that count."""
    checks = readiness([name for name in request.GET.get("only", "").split(",") if name])
    down = [name for name, check in checks.items() if not check.ok]
    body = {"ready": not down, "down": down, "checks": {name: check.says for name, check in checks.items()}}
    response = JsonResponse(body, status=503 if down else 200)
    response.headers["Cache-Control"] = "no-store"
    return response


def prometheus(request: HttpRequest) -> HttpResponse:
    """Answer with the metrics, to those who may scrape."""
    if not may_scrape(request):
        return HttpResponse(
            "Not from here: set METRICS_TOKEN and send it.\n", status=403, content_type="text/plain"
        )
    try:
        return HttpResponse(metrics.render(), content_type=METRICS_TYPE)
    except (DatabaseError, InterfaceError):
        return HttpResponse("The database does not answer.\n", status=503, content_type="text/plain")


def may_scrape(request: HttpRequest) -> bool:
    """Return whether the request shows the token, or without one comes from this machine itself."""
    if settings.METRICS_TOKEN:
        shown = request.headers.get("Authorization", "").removeprefix("Bearer ")
        return hmac.compare_digest(shown.encode(), settings.METRICS_TOKEN.encode())
    if any(name in request.headers for name in PROXY_HEADERS):
        return False
    return request.META.get("REMOTE_ADDR", "") in LOOPBACK
