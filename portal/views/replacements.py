"""`/arp/`: how well ARP does, what it decided, newest first, and one case with its timeline."""

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from iam.access.rules import needs
from portal import arp
from portal.agents import unit_choices
from portal.keyset import page, position
from portal.views.answers import answer, with_query
from subsidiaries.replacement.models import FencedHost, Replacement, ServiceLevel

PAGE_SIZE = 50
FENCED_SHOWN = 20


@needs("units.view")
@require_safe
def listing(request: HttpRequest) -> HttpResponse:
    """Show the service levels, open incidents and back-offs, and list the replacements, of a unit or of all."""
    now = timezone.now()
    unit = request.GET.get("unit", "")[:24].replace("\x00", "")
    asked = request.GET.get("reason", "")
    reason = asked if asked in Replacement.Reason.values else ""
    wanted = request.GET.get("span", "")
    span = ServiceLevel.Span(wanted) if wanted in ServiceLevel.Span.values else ServiceLevel.Span.DAY
    queryset = Replacement.objects.select_related(
        "unit", "seat__body", "seat__unit", "old_agent", "new_agent", "promoted_from"
    )
    if unit:
        queryset = queryset.filter(unit__slug=unit)
    if reason:
        queryset = queryset.filter(reason=reason)
    rows = page(queryset, position(request), size=PAGE_SIZE, newest_first=True)
    fenced = FencedHost.objects.select_related("division__unit").order_by("-last_at", "-id")
    if unit:
        fenced = fenced.filter(division__unit__slug=unit)
    context = {
        "data": arp.summary(unit=unit, span=span, now=now),
        "spans": ServiceLevel.Span.choices,
        "span": span.value,
        "replacements": rows.rows,
        "fenced": fenced[:FENCED_SHOWN],
        "units": unit_choices(),
        "reasons": Replacement.Reason.choices,
        "unit": unit,
        "reason": reason,
        "previous": rows.previous and with_query(request, before=str(rows.previous), after=None),
        "next": rows.next and with_query(request, after=str(rows.next), before=None),
    }
    return answer(request, "portal/replacements.html", context, as_of=now)


@needs("units.view")
@require_safe
def show(request: HttpRequest, pk: int) -> HttpResponse:
    """Show one replacement: when it was detected, decided, taken up and live, and who told of it."""
    data = arp.case_file(pk)
    context = {"data": data, "row": data.row}
    return answer(request, "portal/replacement.html", context, as_of=timezone.now())
