"""`/escalations/`: what agents could not settle among themselves, and the decisions about it."""

import json
from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from iam.access.models import User
from iam.access.rights import RefusedError
from iam.access.rules import needs
from portal import escalations
from portal.agents import unit_choices
from portal.escalations import ALL, OPEN, Wanted
from portal.keyset import page, position
from portal.views.answers import acting, answer, with_query
from subsidiaries.escalations import services
from subsidiaries.escalations.filters import SEVERITIES
from subsidiaries.escalations.models import Escalation

PAGE_SIZE = 50
TEXT = 500


@needs("units.view")
@require_safe
def listing(request: HttpRequest) -> HttpResponse:
    """List what waits, the most urgent first; what is settled, the newest first."""
    now, wanted = timezone.now(), _wanted(request)
    context: dict[str, Any] = {
        "now": now,
        "wanted": wanted,
        "units": unit_choices(),
        "matters": Escalation.Matter.choices,
        "severities": SEVERITIES,
        "states": Escalation.State.choices,
        "waiting": escalations.total(escalations.counts(at=now).values()),
    }
    if wanted.state == OPEN:
        rows = escalations.most_urgent(escalations.listed(wanted))
        context["more"] = len(rows) == escalations.SHOWN
    else:
        found = page(escalations.listed(wanted), position(request), size=PAGE_SIZE, newest_first=True)
        rows = found.rows
        context["previous"] = found.previous and with_query(request, before=str(found.previous), after=None)
        context["next"] = found.next and with_query(request, after=str(found.next), before=None)
    holders = escalations.holders(rows, at=now)
    context["rows"] = [(row, holders.get(row.office_id or 0, "")) for row in rows]
    return answer(request, "portal/escalations.html", context, as_of=now)


def _wanted(request: HttpRequest) -> Wanted:
    get = request.GET.get
    state, matter, severity = get("state", OPEN), get("matter", ""), get("severity", "")
    return Wanted(
        unit=get("unit", "")[:24].replace("\x00", ""),
        matter=matter if matter in Escalation.Matter.values else "",
        severity=severity if severity in dict(SEVERITIES) else "",
        state=state if state in (ALL, *Escalation.State.values) else OPEN,
    )


@needs("units.view")
@require_safe
def show(request: HttpRequest, pk: int) -> HttpResponse:
    """Show an escalation: what is needed, who was asked and when, who has it, what was decided."""
    return _dossier(request, pk)


def _dossier(request: HttpRequest, pk: int, *, error: str = "", status: int = 200) -> HttpResponse:
    now = timezone.now()
    data = escalations.dossier(escalations.find(pk), acting(request), at=now)
    context = {
        "data": data,
        "row": data.row,
        "now": now,
        "overdue": data.row.overdue_by(now),
        "age": (data.row.settled_at or now) - data.row.raised_at,
        "error": error,
        "decision": request.POST.get("decision", "")[:TEXT],
        "given": request.POST.get("input", "")[: services.MOST_INPUT],
    }
    return answer(request, "portal/escalation.html", context, as_of=now, status=status)


@needs(services.DECIDE)
@require_POST
def take(request: HttpRequest, pk: int) -> HttpResponse:
    """Take it; 422 when that cannot be."""
    return _act(request, pk, lambda row: services.take(escalation=row, by=acting(request)), _("It is yours now."))


@needs(services.DECIDE)
@require_POST
def assign(request: HttpRequest, pk: int) -> HttpResponse:
    """Hand it to somebody else; 422 when that cannot be."""

    def hand(row: Escalation) -> Escalation:
        name = request.POST.get("person", "")[:150].replace("\x00", "")
        person = User.objects.filter(username=name, kind=User.Kind.PERSON).first()
        if person is None:
            raise RefusedError(_("Choose whom it is handed to."))
        return services.assign(escalation=row, to=person, by=acting(request))

    return _act(request, pk, hand, _("It is handed over."))


@needs(services.DECIDE)
@require_POST
def resolve(request: HttpRequest, pk: int) -> HttpResponse:
    """Decide it; 422 with what was typed when that cannot be."""

    def decide(row: Escalation) -> Escalation:
        text = request.POST.get("input", "").strip()
        return services.resolve(
            escalation=row, by=acting(request), decision=request.POST.get("decision", ""), given=_input(text)
        )

    return _act(request, pk, decide, _("The decision is noted, and the agent is told."))


def _input(text: str) -> Any:
    """Return what was typed as JSON, or as a text when it is none."""
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return text


def _act(request: HttpRequest, pk: int, act: Callable[[Escalation], Escalation], done: str) -> HttpResponse:
    row = escalations.find(pk)
    try:
        act(row)
    except RefusedError as error:
        return _dossier(request, pk, error=str(error), status=422)
    messages.success(request, done)
    return redirect("escalation", pk=pk)
