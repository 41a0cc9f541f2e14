"""`/iam/emergency/`: emergency access, asked for, decided, ended, and what was done in that time."""

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from holding import scope
from iam.access.emergencies import (
    decide_emergency,
    done_meanwhile,
    end_emergency,
    request_emergency,
    visible_to,
)
from iam.access.forms import EmergencyForm
from iam.access.models import EmergencyAccess
from iam.access.rights import RefusedError
from iam.access.rules import needs
from portal.keyset import page, position
from portal.views.access import tabs
from portal.views.answers import acting, answer, with_query

PAGE_SIZE = 20


@needs("people.view")
@require_safe
def listing(request: HttpRequest) -> HttpResponse:
    """Show emergency access in view, the newest first, and the form that asks for it."""
    return _listing(request, EmergencyForm())


def _listing(request: HttpRequest, form: EmergencyForm, *, error: str = "", status: int = 200) -> HttpResponse:
    found = page(visible_to(acting(request)), position(request), size=PAGE_SIZE, newest_first=True)
    now, held, me = timezone.now(), scope.current(), acting(request)
    may_approve = held.has("break-glass.approve")
    rows = [
        {
            "emergency": one,
            "state": one.state_at(now),
            "word": EmergencyAccess.State(one.state_at(now)).label,
            "may_decide": may_approve and one.user_id != me.pk,
            "may_end": may_approve or one.user_id == me.pk,
        }
        for one in found.rows
    ]
    context = {
        "rows": rows,
        "form": form,
        "error": error,
        "may_request": held.has("break-glass.request"),
        "previous": status == 200
        and found.previous
        and with_query(request, before=str(found.previous), after=None),
        "next": status == 200 and found.next and with_query(request, after=str(found.next), before=None),
        "tabs": tabs(request),
    }
    return answer(request, "access/emergencies.html", context, as_of=now, status=status)


@needs("people.view")
@require_safe
def show(request: HttpRequest, number: int) -> HttpResponse:
    """Show one emergency access with everything that its person did while it was in force."""
    emergency = _found(request, number)
    now = timezone.now()
    state = emergency.state_at(now)
    context = {
        "emergency": emergency,
        "state": state,
        "word": EmergencyAccess.State(state).label,
        "acts": done_meanwhile(emergency),
        "tabs": tabs(request),
    }
    return answer(request, "access/emergency.html", context, as_of=now)


def _found(request: HttpRequest, number: int) -> EmergencyAccess:
    emergency = visible_to(acting(request)).filter(pk=number).first()
    if emergency is None:
        raise Http404(_("There is no such emergency access."))
    return emergency


@needs("break-glass.request")
@require_POST
def ask(request: HttpRequest) -> HttpResponse:
    """Ask for emergency access."""
    form = EmergencyForm(request.POST)
    if form.is_valid():
        try:
            request_emergency(user=acting(request), **form.wanted())
            return HttpResponseRedirect(reverse("access-emergencies"))
        except RefusedError as error:
            form.add_error(None, str(error))
    return _listing(request, form, status=422)


@needs("break-glass.approve")
@require_POST
def decide(request: HttpRequest, number: int) -> HttpResponse:
    """Approve or refuse a request."""
    emergency = _found(request, number)
    approve = request.POST.get("decision") == "approve"
    try:
        decide_emergency(
            by=acting(request), emergency=emergency, approve=approve, note=request.POST.get("note", "")
        )
    except RefusedError as error:
        return _listing(request, EmergencyForm(), error=str(error), status=422)
    return HttpResponseRedirect(reverse("access-emergencies"))


@needs("people.view")
@require_POST
def end(request: HttpRequest, number: int) -> HttpResponse:
    """End emergency access: its person, or whoever may approve it."""
    try:
        end_emergency(by=acting(request), emergency=_found(request, number))
    except RefusedError as error:
        return _listing(request, EmergencyForm(), error=str(error), status=422)
    return HttpResponseRedirect(reverse("access-emergencies"))
