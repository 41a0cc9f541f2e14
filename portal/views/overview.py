"""`/`: the executive overview."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from holding import clock
from iam.access.rules import needs
from portal.approvals import waiting_count
from portal.commands import may_give
from portal.kpis import KPIS
from portal.overview import SORTS, overview
from portal.views.answers import answer, with_query
from subsidiaries.commands.models import Command

# The first click on a column shows the end that needs a look: the lowest, or the most replacements.
DESCENDING_FIRST = ("replacements",)


@needs("units.view")
@require_safe
def show(request: HttpRequest) -> HttpResponse:
    """Show who is below the floor, how the KPIs compare, what happened."""
    asked = request.GET.get("sort", "")
    sort = asked.removeprefix("-")
    if sort not in SORTS:
        asked = sort = "worst"
    data = overview(sort=sort, descending=asked.startswith("-"))
    context = {
        "data": data,
        "columns": _columns(request, asked),
        "waiting_count": waiting_count(request.user, at=clock.now()),
        "may_pause": may_give(Command.Verb.PAUSE, None),
    }
    return answer(request, "portal/overview.html", context, as_of=data.as_of)


def _columns(request: HttpRequest, sorted_by: str) -> list[dict[str, Any]]:
    columns = [
        ("name", _("Subsidiary"), _("Sort by name"), False),
        ("headcount", _("Headcount / floor"), _("Sort by headcount against the floor"), False),
        *((kpi.field, kpi.short, kpi.name, True) for kpi in KPIS),
        ("replacements", _("Replaced, 24 h"), _("Sort by replacements in 24 h"), True),
        ("coverage", _("Coverage"), _("Sort by the share of seats heard of"), True),
    ]
    return [
        {
            "name": name,
            "hint": hint,
            "numeric": numeric,
            "url": with_query(request, sort=_next(field, sorted_by)),
            "sorted": {field: "ascending", f"-{field}": "descending"}.get(sorted_by, ""),
        }
        for field, name, hint, numeric in columns
    ]


def _next(field: str, sorted_by: str) -> str:
    first, second = (f"-{field}", field) if field in DESCENDING_FIRST else (field, f"-{field}")
    return second if sorted_by == first else first
