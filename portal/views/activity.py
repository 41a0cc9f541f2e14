"""`/activity/`: everything that happened."""

from datetime import datetime

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from iam.access.rules import needs
from portal.activity import KINDS, feed
from portal.views.answers import answer, with_query

PAGE_SIZE = 50


@needs("units.view")
@require_safe
def show(request: HttpRequest) -> HttpResponse:
    """Show replacements, incidents and acts of the ledger, newest first."""
    asked = request.GET.get("kind", "")
    kind = asked if asked in KINDS else ""
    data = feed(limit=PAGE_SIZE, before=_moment(request.GET.get("before", "")), kind=kind)
    context = {
        "feed": data,
        "kind": kind,
        "kinds": [("replacements", _("Replacements")), ("incidents", _("Incidents")), ("ledger", _("Ledger"))],
        "older": data.older and with_query(request, before=data.older.isoformat()),
    }
    return answer(request, "portal/activity.html", context, as_of=timezone.now())


def _moment(text: str) -> datetime | None:
    try:
        moment = parse_datetime(text.replace(" ", "+"))
    except ValueError:
        return None
    if moment is None:
        return None
    return moment if timezone.is_aware(moment) else timezone.make_aware(moment)
