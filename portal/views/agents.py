"""`/agents/`: agents in office; `/a/<unit>/<agent>/`: one agent, of whatever generation."""

from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from holding import scope
from iam.access.rules import needs
from portal.agents import Wanted, find, listed, profile, role_choices, shown, unit_choices
from portal.keyset import page, position
from portal.kpis import KPIS
from portal.states import STATES
from portal.views.answers import answer, with_query

PAGE_SIZE = 50


@needs("units.view")
@require_safe
def listing(request: HttpRequest) -> HttpResponse:
    """List the agents in office that the filters want, 50 at a time."""
    now = timezone.now()
    wanted = wanted_of(request.GET)
    rows = page(listed(wanted, now=now), position(request), size=PAGE_SIZE)
    context = {
        "wanted": wanted,
        "agents": [(agent, shown(agent, now=now)) for agent in rows.rows],
        "units": unit_choices(),
        "roles": role_choices(),
        "states": STATES.items(),
        "export": scope.current().has("exports.create") and f"{reverse('export-agents')}?{request.GET.urlencode()}",
        "previous": rows.previous and with_query(request, before=str(rows.previous), after=None),
        "next": rows.next and with_query(request, after=str(rows.next), before=None),
    }
    return answer(request, "portal/agents.html", context, as_of=now)


def wanted_of(query: QueryDict) -> Wanted:
    """Return the filters of a query; what is no filter is ignored."""
    return Wanted(
        unit=query.get("unit", "")[:24],
        role=query.get("role", "")[:24],
        state=query.get("state", "") if query.get("state") in STATES else "",
        words=query.get("q", "").strip().lower()[:120],
    )


@needs("units.view")
@require_safe
def show(request: HttpRequest, unit: str, agent: str) -> HttpResponse:
    """Show an agent: who it is, what it does, who came before and after it."""
    now = timezone.now()
    data = profile(find(unit, agent), now=now)
    claims = [(kpi, getattr(data.claim, kpi.field)) for kpi in KPIS] if data.claim else []
    return answer(request, "portal/agent.html", {"data": data, "claims": claims}, as_of=now)
