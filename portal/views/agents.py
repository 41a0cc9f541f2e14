"""`/agents/`: agents in office; `/a/<unit>/<agent>/`: one agent, of whatever generation."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from holding import scope
from holding.models import Agent
from iam.access.models import User
from iam.access.rights import RefusedError
from iam.access.rules import needs
from portal.agents import Wanted, address, find, listed, profile, role_choices, shown, unit_choices
from portal.keyset import page, position
from portal.kpis import KPIS
from portal.states import STAGES, STATES
from portal.views.answers import acting, answer, with_query
from subsidiaries.replacement.isolation import PERMISSION as ISOLATE
from subsidiaries.replacement.isolation import quarantine_agent, release_agent
from subsidiaries.replacement.succession import PERMISSION as ORDER
from subsidiaries.replacement.succession import reorder

PAGE_SIZE = 50
LARGEST_ID_DIGITS = 18


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
        "stages": STAGES.items(),
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
        stage=query.get("stage", "") if query.get("stage") in STAGES else "",
    )


@needs("units.view")
@require_safe
def show(request: HttpRequest, unit: str, agent: str) -> HttpResponse:
    """Show an agent: who it is, what it does, who came before and after it."""
    return _show(request, find(unit, agent))


def _show(request: HttpRequest, agent: Agent, *, error: str = "", status: int = 200) -> HttpResponse:
    now = timezone.now()
    data = profile(agent, now=now)
    claims = [(kpi, getattr(data.claim, kpi.field)) for kpi in KPIS] if data.claim else []
    context = {"data": data, "claims": claims, "error": error}
    return answer(request, "portal/agent.html", context, as_of=now, status=status)


@needs(ISOLATE)
@require_POST
def isolate(request: HttpRequest, unit: str, agent: str) -> HttpResponse:
    """Isolate an agent: paused at once, replaced by the next cycle."""
    return _act(request, find(unit, agent), quarantine_agent)


@needs(ISOLATE)
@require_POST
def release(request: HttpRequest, unit: str, agent: str) -> HttpResponse:
    """Let an isolated agent run again."""
    return _act(request, find(unit, agent), release_agent)


@needs(ORDER)
@require_POST
def order_succession(request: HttpRequest, unit: str, agent: str) -> HttpResponse:
    """Put one successor of the seat first, or let ARP rank them again."""
    first = request.POST.get("first", "")
    wanted = [int(first)] if first.isascii() and first.isdigit() and len(first) <= LARGEST_ID_DIGITS else []

    def act(*, by: User, agent: Agent, reason: str) -> None:
        if first and not wanted:
            raise RefusedError(_("Choose a successor of the list."))
        reorder(by=by, seat=agent.seat, successors=wanted, reason=reason)

    return _act(request, find(unit, agent), act)


def _act(request: HttpRequest, agent: Agent, act: Callable[..., object]) -> HttpResponse:
    try:
        act(by=acting(request), agent=agent, reason=request.POST.get("reason", ""))
    except RefusedError as error:
        return _show(request, agent, error=str(error), status=422)
    return HttpResponseRedirect(address(agent))
