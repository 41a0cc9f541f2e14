"""`/arp/incidents/`: what ARP does not mend alone, and what people do about it."""

from collections.abc import Callable

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from iam.access.models import User
from iam.access.rights import RefusedError
from iam.access.rules import needs
from portal import arp
from portal.agents import unit_choices
from portal.keyset import page, position
from portal.views.answers import acting, answer, with_query
from subsidiaries.replacement import responses
from subsidiaries.replacement.models import Incident

PAGE_SIZE = 50


@needs("units.view")
@require_safe
def listing(request: HttpRequest) -> HttpResponse:
    """List the incidents of a unit or of all, open ones unless others are asked for, the newest first."""
    get = request.GET.get
    unit, kind, state = get("unit", "")[:24].replace("\x00", ""), get("kind", ""), get("state", arp.OPEN)
    kind = kind if kind in Incident.Kind.values else ""
    state = state if state in (arp.OPEN, arp.OVER, arp.ALL) else arp.OPEN
    rows = page(
        arp.incidents(unit=unit, kind=kind, state=state), position(request), size=PAGE_SIZE, newest_first=True
    )
    context = {
        "incidents": rows.rows,
        "units": unit_choices(),
        "kinds": Incident.Kind.choices,
        "unit": unit,
        "kind": kind,
        "state": state,
        "previous": rows.previous and with_query(request, before=str(rows.previous), after=None),
        "next": rows.next and with_query(request, after=str(rows.next), before=None),
    }
    return answer(request, "portal/incidents.html", context, as_of=timezone.now())


@needs("units.view")
@require_safe
def show(request: HttpRequest, pk: int) -> HttpResponse:
    """Show an incident: what is the matter, since when, who looks after it, what they wrote."""
    return _dossier(request, pk)


def _dossier(request: HttpRequest, pk: int, *, error: str = "", status: int = 200) -> HttpResponse:
    data = arp.dossier(pk)
    context = {
        "data": data,
        "row": data.row,
        "error": error,
        "note": request.POST.get("note", "")[: responses.LONGEST_NOTE],
        "most": responses.LONGEST_NOTE,
    }
    return answer(request, "portal/incident.html", context, as_of=timezone.now(), status=status)


@needs(responses.RESPOND)
@require_POST
def acknowledge(request: HttpRequest, pk: int) -> HttpResponse:
    """Say that one looks after it; 422 when that cannot be."""
    return _act(
        request,
        pk,
        lambda row, by, note: responses.acknowledge(incident=row, by=by, note=note),
        _("You look after it now."),
    )


@needs(responses.RESPOND)
@require_POST
def note(request: HttpRequest, pk: int) -> HttpResponse:
    """Write a note about it; 422 when that cannot be."""
    return _act(
        request, pk, lambda row, by, note: responses.annotate(incident=row, by=by, note=note), _("It is noted.")
    )


@needs(responses.RELEASE)
@require_POST
def release(request: HttpRequest, pk: int) -> HttpResponse:
    """Release the brake, with a reason; 422 when that cannot be."""
    return _act(
        request,
        pk,
        lambda row, by, note: responses.release(incident=row, by=by, reason=note),
        _("The brake is released: agents are replaced at full speed again."),
    )


def _act(request: HttpRequest, pk: int, act: Callable[[Incident, User, str], Incident], done: str) -> HttpResponse:
    row = arp.dossier(pk).row
    try:
        act(row, acting(request), request.POST.get("note", ""))
    except RefusedError as error:
        return _dossier(request, pk, error=str(error), status=422)
    messages.success(request, done)
    return redirect("incident", pk=pk)
