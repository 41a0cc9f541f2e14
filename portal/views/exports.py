"""`/agents/export.csv`: the filtered list of agents as a file; large ones need an approval."""

from decimal import Decimal

from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from audit import services as audit
from holding import scope
from iam.access.models import User
from iam.access.rules import needs
from iam.authority import services as authority
from portal import exports, services
from portal.agents import Wanted
from portal.views.agents import wanted_of
from portal.views.answers import answer


@needs(exports.EXPORT)
@require_safe
def agents(request: HttpRequest) -> HttpResponseBase:
    """Stream the agents that the filters want; 403 with the way to an approval above `FREE_ROWS`."""
    person, now, wanted = _person(request), timezone.now(), wanted_of(request.GET)
    ids = exports.exported(wanted, now=now)
    approval = None
    if exports.needs_approval(person, len(ids), now=now):
        approval = exports.usable_approval(person, wanted, len(ids))
        if approval is None:
            return _ask(request, wanted, len(ids))
    if request.method == "HEAD":  # nothing leaves
        return HttpResponse(content_type="text/csv; charset=utf-8")
    try:
        services.record_export(person=person, filters=exports.filters_of(wanted), rows=len(ids), approval=approval)
    except (IntegrityError, services.NeedsApprovalError):  # another file left in the same moment
        return _ask(request, wanted, len(ids))
    lines = exports.lines(ids, wanted=wanted, person=person, now=now)
    response = StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8")
    response.headers["Content-Disposition"] = f'attachment; filename="agents-{now:%Y%m%d-%H%M%S}.csv"'
    response.headers["Cache-Control"] = "private, no-store"
    return response


@needs("approvals.request")
@require_POST
def ask(request: HttpRequest) -> HttpResponse:
    """Ask for the approval of an export with these very filters."""
    person, wanted = _person(request), wanted_of(request.POST)
    if not scope.current().has(exports.EXPORT):
        return _ask(request, wanted, 0, error=_("You may not export."), status=403)
    rows = len(exports.exported(wanted, now=timezone.now()))
    unit = exports.unit_concerned(wanted)
    if unit is None or not scope.current().allows("approvals.request", unit.pk):
        return _ask(request, wanted, rows, error=_("Choose one unit first, then ask."), status=422)
    parameters = exports.filters_of(wanted)
    try:
        approval = authority.request_approval(
            request=authority.Request(
                matter=exports.MATTER,
                unit=unit,
                value=Decimal(rows),
                title=_("Export of %(count)s agents") % {"count": rows},
                reason=request.POST.get("reason", "")[:500],
                key=f"export-{person.pk}-{timezone.now():%Y%m%d%H%M}-{audit.digest(parameters)[:16]}",
                requester=person,
                parameters=parameters,
            )
        )
    except ValueError as error:
        return _ask(request, wanted, rows, error=str(error), status=422)
    return redirect("approval", pk=approval.pk)


def _ask(request: HttpRequest, wanted: Wanted, rows: int, *, error: str = "", status: int = 403) -> HttpResponse:
    context = {
        "wanted": wanted,
        "rows": rows,
        "free": exports.FREE_ROWS,
        "error": error,
        "reason": request.POST.get("reason", "")[:500],
        "may_ask": scope.current().has("approvals.request"),
    }
    return answer(request, "portal/export.html", context, as_of=timezone.now(), status=status)


def _person(request: HttpRequest) -> User:
    """Return who asks; the gate has let nobody else through."""
    if not isinstance(request.user, User):
        raise TypeError("The gate lets only people with an account through.")
    return request.user
