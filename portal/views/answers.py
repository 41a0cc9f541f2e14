"""How pages answer: whole, or as the live part that htmx asked for."""

from datetime import datetime
from hashlib import blake2b
from typing import Any, cast
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.utils.http import quote_etag
from django.utils.translation import gettext as _

from holding import clock, scope
from iam.access.models import User
from portal.approvals import waiting_count

AS_OF_HEADER = "As-Of"
BELOW_ACCESS = (
    "access-person", "access-grant", "access-revoke", "access-roles", "access-role", "access-role-define",
    "access-emergencies", "access-emergency", "access-emergency-ask", "access-emergency-decide",
    "access-emergency-end", "access-reviews", "access-review", "access-review-open", "access-review-decide",
    "access-review-close", "access-groups", "access-group-add", "access-group-remove", "access-services",
    "access-service-create", "access-service", "access-service-deactivate", "access-service-token",
    "access-service-token-revoke",
)  # fmt: skip
BELOW_ESCALATIONS = ("escalation", "take-escalation", "assign-escalation", "resolve-escalation")
BELOW_INCIDENTS = ("incident", "acknowledge-incident", "note-incident", "release-brake")
BELOW_COMMANDS = ("command", "new-command", "halt-command", "continue-command", "abort-command")
BELOW_BLUEPRINTS = (
    "blueprint", "new-blueprint", "edit-blueprint", "submit-blueprint", "withdraw-blueprint", "revoke-blueprint",
    "release-blueprint",
)  # fmt: skip
BELOW_ROLLOUTS = ("rollout", "new-rollout", "pause-rollout", "resume-rollout", "return-rollout", "abort-rollout")
BELOW_STAFFING = (
    "staffing-unit",
    "staffing-change",
    "staffing-cap",
    "staffing-retire",
    "revoke-cap",
    "act-on-retirement",
)
BELOW_APPROVALS = ("approval", "new-approval", "authority", "my-authority", "draft-matrix", "adopt-matrix")


def answer(
    request: HttpRequest,
    template: str,
    context: dict[str, Any],
    *,
    as_of: datetime | None = None,
    part: str = "live",
    status: int = 200,
) -> HttpResponse:
    """Render a page, or only its partial `part` for htmx.

    The part carries an ETag of its content; the time as of which it holds travels in a header, so that an
    unchanged part is a 304.
    """
    fragment = is_fragment(request)
    context = {**context, "as_of": as_of}
    if not fragment:
        if (waiting := context.get("waiting_count")) is None:
            waiting = waiting_count(request.user, at=clock.now())
        context["navigation"] = navigation(request, waiting=waiting)
    response = render(request, f"{template}#{part}" if fragment else template, context, status=status)
    patch_vary_headers(response, ["HX-Request"])
    response.headers["Cache-Control"] = "private, no-cache"
    if as_of:
        response.headers[AS_OF_HEADER] = as_of.isoformat(timespec="seconds")
    if fragment and status == 200:
        etag = quote_etag(blake2b(response.content, digest_size=12).hexdigest())
        response.headers["ETag"] = etag
        if etag in _known_etags(request):
            response.status_code = 304
            response.content = b""
    return response


def acting(request: HttpRequest) -> User:
    """Return who asks, on pages whose rule lets only those in who are signed in."""
    return cast(User, request.user)


def is_fragment(request: HttpRequest) -> bool:
    """Return whether htmx asks for a part of a page, and not for the page itself after "back"."""
    return request.headers.get("HX-Request") == "true" and "HX-History-Restore-Request" not in request.headers


def _known_etags(request: HttpRequest) -> set[str]:
    # Compression makes an ETag weak (`W/"..."`); for a part of a page weak is as good.
    sent = request.headers.get("If-None-Match", "")
    return {tag.strip().removeprefix("W/") for tag in sent.split(",")}


def navigation(request: HttpRequest, *, waiting: int = 0) -> list[dict[str, Any]]:
    """Return the entries of the navigation; `current` is `page` on the page itself, `true` below it.

    `waiting` is how many approvals wait for whoever looks; the entry of the approvals shows it.
    """
    entries = [
        ("overview", _("Overview")),
        ("organisation", _("Organisation")),
        ("agents", _("Agents")),
        ("replacements", _("Replacements")),
        ("staffing", _("Staffing")),
        ("incidents", _("Incidents")),
        ("escalations", _("Escalations")),
        ("commands", _("Commands")),
        ("blueprints", _("Blueprints")),
        ("rollouts", _("Rollouts")),
        ("activity", _("Activity")),
    ]
    if scope.current().has("people.view"):
        entries.append(("access", _("Access")))
    if scope.current().has("authority.view"):
        entries.append(("approvals", _("Approvals")))
    if scope.current().has("quarantine.view"):
        entries.append(("quarantine", _("Quarantine")))
    below = {
        "unit": "organisation",
        **dict.fromkeys(("agent", "isolate-agent", "release-agent", "order-succession"), "agents"),
        "replacement": "replacements",
        **dict.fromkeys(BELOW_INCIDENTS, "incidents"),
        **dict.fromkeys(BELOW_ESCALATIONS, "escalations"),
        **dict.fromkeys(BELOW_COMMANDS, "commands"),
        **dict.fromkeys(BELOW_BLUEPRINTS, "blueprints"),
        **dict.fromkeys(BELOW_ROLLOUTS, "rollouts"),
        **dict.fromkeys(BELOW_STAFFING, "staffing"),
        **dict.fromkeys(("enrol", "offer-seat", "enrolment", "withdraw-enrolment"), "agents"),
        **dict.fromkeys(BELOW_ACCESS, "access"),
        **dict.fromkeys(BELOW_APPROVALS, "approvals"),
        **dict.fromkeys(("quarantined", "quarantine-replay", "quarantine-discard"), "quarantine"),
    }
    name = request.resolver_match.url_name if request.resolver_match else None
    return [
        {
            "url": reverse(entry),
            "name": label,
            "count": waiting if entry == "approvals" else 0,
            "current": "page" if entry == name else "true" if below.get(name or "") == entry else "",
        }
        for entry, label in entries
    ]


def with_query(request: HttpRequest, **changes: str | None) -> str:
    """Return this page's address with parameters of its query changed, or removed (None)."""
    query = {key: value for key, value in request.GET.items() if value}
    for key, value in changes.items():
        if value is None:
            query.pop(key, None)
        else:
            query[key] = value
    return f"{request.path}?{urlencode(query)}" if query else request.path
