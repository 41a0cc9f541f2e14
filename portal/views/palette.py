"""`/palette/`: what the search box finds, as JSON."""

from django.http import HttpRequest, JsonResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from iam.access.rules import needs
from portal.agents import Wanted, address, listed, unit_choices
from portal.views.answers import navigation

MOST_UNITS = 8
MOST_AGENTS = 8


@needs("units.view")
@require_safe
def hits(request: HttpRequest) -> JsonResponse:
    """Find pages and units by any part of their names, agents by the beginning of their code."""
    words = request.GET.get("q", "").strip()[:60]
    folded = words.casefold()
    found = [
        {"name": entry["name"], "kind": _("page"), "url": entry["url"]}
        for entry in navigation(request)
        if folded in entry["name"].casefold()
    ]
    units = [unit for unit in unit_choices() if folded in f"{unit.name} {unit.slug}".casefold()]
    found += [
        {"name": unit.name, "kind": unit.slug, "url": reverse("unit", args=[unit.slug])}
        for unit in units[:MOST_UNITS]
    ]
    if len(words) >= 2 and any(letter.isdigit() or letter == "-" for letter in words):
        agents = listed(Wanted(words=folded), now=timezone.now()).order_by("agent_id", "unit__position")
        found += [
            {"name": agent.agent_id, "kind": agent.unit.name, "url": address(agent)}
            for agent in agents[:MOST_AGENTS]
        ]
    response = JsonResponse({"hits": found})
    response.headers["Cache-Control"] = "private, no-store"
    return response
