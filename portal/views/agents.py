"""`/agents/`: agents in office; `/a/<unit>/<agent>/`: one agent, of whatever generation."""

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

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
    wanted = Wanted(
        unit=request.GET.get("unit", "")[:24],
        role=request.GET.get("role", "")[:24],
        state=request.GET.get("state", "") if request.GET.get("state") in STATES else "",
        words=request.GET.get("q", "").strip().lower()[:120],
    )
    rows = page(listed(wanted, now=now), position(request), size=PAGE_SIZE)
    context = {
        "wanted": wanted,
        "agents": [(agent, shown(agent, now=now)) for agent in rows.rows],
        "units": unit_choices(),
        "roles": role_choices(),
        "states": STATES.items(),
        "previous": rows.previous and with_query(request, before=str(rows.previous), after=None),
        "next": rows.next and with_query(request, after=str(rows.next), before=None),
    }
    return answer(request, "portal/agents.html", context, as_of=now)


@needs("units.view")
@require_safe
def show(request: HttpRequest, unit: str, agent: str) -> HttpResponse:
    """Show an agent: who it is, what it does, who came before and after it."""
    now = timezone.now()
    data = profile(find(unit, agent), now=now)
    claims = [(kpi, getattr(data.claim, kpi.field)) for kpi in KPIS] if data.claim else []
    return answer(request, "portal/agent.html", {"data": data, "claims": claims}, as_of=now)
