"""`/s/<slug>/`: one unit."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.views.decorators.http import require_safe

from holding.models import Unit
from iam.access.rules import needs
from portal.commands import may_give, with_pauses
from portal.kpis import KPIS
from portal.subsidiaries import unit_page
from portal.views.answers import answer
from subsidiaries.commands.models import Command


@needs("units.view")
@require_safe
def show(request: HttpRequest, slug: str) -> HttpResponse:
    """Show a unit's headcount, KPIs, divisions, incidents, replacements and chain of command."""
    unit = get_object_or_404(with_pauses(Unit.objects.select_related("sector")), slug=slug)
    data = unit_page(unit, as_of=timezone.now())
    context = {"data": data, "unit": unit, "kpis": KPIS, "may_pause": may_give(Command.Verb.PAUSE, unit.pk)}
    return answer(request, "portal/unit.html", context, as_of=data.as_of)
