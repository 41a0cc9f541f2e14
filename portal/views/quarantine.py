"""`/quarantine/`: messages that were refused, why, and what becomes of them; sources that are suspect."""

from datetime import datetime

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from bus.models import QuarantinedMessage
from bus.quarantine import MAX_KEPT_BODY, RefusedActError, why_not_replayed
from holding import scope
from iam.access.rules import needs
from portal import quarantine
from portal.agents import unit_choices
from portal.keyset import page, position
from portal.quarantine import NO_UNIT, Wanted
from portal.views.answers import acting, answer, with_query

PAGE_SIZE = 50
SUSPECTS = 20
CLEARED = 10


@needs("quarantine.view")
@require_safe
def listing(request: HttpRequest) -> HttpResponse:
    """List refused messages, the newest first, with their reasons counted, and who is suspect."""
    wanted = wanted_of(request.GET)
    matching = quarantine.listed(wanted)
    rows = page(matching, position(request), size=PAGE_SIZE, newest_first=True)
    slugs = quarantine.slugs()
    suspects = quarantine.suspects_in_view()
    context = {
        "messages": [
            (one, slugs.get(one.unit_id or 0, ""), *quarantine.split_reason(one.reason)) for one in rows.rows
        ],
        "wanted": wanted,
        "histogram": quarantine.histogram(matching),
        "held": quarantine.held_count(),
        "suspects": list(suspects.filter(closed_at=None).order_by("-last_at")[:SUSPECTS]),
        "cleared": list(suspects.exclude(closed_at=None).order_by("-closed_at")[:CLEARED]),
        "units": unit_choices(),
        "whole": scope.current().units(quarantine.VIEW) is None,
        "no_unit": NO_UNIT,
        "stages": QuarantinedMessage.Stage.choices,
        "states": QuarantinedMessage.State.choices,
        "streams": quarantine.streams(),
        "previous": rows.previous and with_query(request, before=str(rows.previous), after=None),
        "next": rows.next and with_query(request, after=str(rows.next), before=None),
    }
    return answer(request, "portal/quarantine.html", context, as_of=timezone.now())


def wanted_of(query: QueryDict) -> Wanted:
    """Return the filters of a query; what is no filter is ignored."""
    return Wanted(
        stream=_clean(query.get("stream", ""), 40),
        stage=query.get("stage", "") if query.get("stage") in QuarantinedMessage.Stage.values else "",
        rule=_clean(query.get("rule", ""), 60),
        source=_clean(query.get("source", ""), 255),
        unit=_clean(query.get("unit", ""), 24),
        state=query.get("state", "") if query.get("state") in QuarantinedMessage.State.values else "",
        since=_moment(query.get("since", "")),
        until=_moment(query.get("until", "")),
    )


def _clean(text: str, length: int) -> str:
    return text.replace("\0", "").strip()[:length]


def _moment(text: str) -> datetime | None:
    try:
        moment = parse_datetime(text.replace(" ", "+"))
    except ValueError:
        return None
    if moment is None:
        return None
    return moment if timezone.is_aware(moment) else timezone.make_aware(moment)


@needs("quarantine.view")
@require_safe
def show(request: HttpRequest, number: int) -> HttpResponse:
    """Show a refused message: why, its headers and bytes, and what became of it."""
    return _show(request, _found(number))


def _found(number: int) -> QuarantinedMessage:
    message = quarantine.in_view().select_related("replay").filter(pk=number).first()
    if message is None:
        raise Http404(_("There is no quarantined message %(number)d.") % {"number": number})
    return message


def _show(
    request: HttpRequest, message: QuarantinedMessage, *, error: str = "", note: str = "", status: int = 200
) -> HttpResponse:
    body = bytes(message.body)
    reason, path = quarantine.split_reason(message.reason)
    held = message.state == QuarantinedMessage.State.HELD
    context = {
        "message": message,
        "reason": reason,
        "path": path,
        "unit": quarantine.slugs().get(message.unit_id or 0, ""),
        "headers": sorted(message.headers.items()),
        "text": quarantine.as_text(body),
        "hex": quarantine.as_hex(body),
        "hex_cut": len(body) > quarantine.HEX_BYTES,
        "kept": len(body),
        "cut": message.size > len(body),
        "most": MAX_KEPT_BODY,
        "may_decide": held and quarantine.may_decide(message),
        "obstacle": why_not_replayed(message) if held else "",
        "error": error,
        "note": note,
    }
    return answer(request, "portal/quarantined.html", context, as_of=timezone.now(), status=status)


@needs("quarantine.decide")
@require_POST
def replay(request: HttpRequest, number: int) -> HttpResponse:
    """Send a message again."""
    message = _found(number)
    try:
        quarantine.replay(by=acting(request), message=message)
    except (RefusedActError, quarantine.NotAllowedError) as error:
        return _refused(request, message, error)
    return HttpResponseRedirect(reverse("quarantined", args=[number]))


@needs("quarantine.decide")
@require_POST
def discard(request: HttpRequest, number: int) -> HttpResponse:
    """Throw a message away, for a reason."""
    message = _found(number)
    note = request.POST.get("reason", "")[:600]
    try:
        quarantine.discard(by=acting(request), message=message, reason=note)
    except (RefusedActError, quarantine.NotAllowedError) as error:
        return _refused(request, message, error, note)
    return HttpResponseRedirect(reverse("quarantined", args=[number]))


def _refused(request: HttpRequest, message: QuarantinedMessage, error: Exception, note: str = "") -> HttpResponse:
    status = 403 if isinstance(error, quarantine.NotAllowedError) else 422
    return _show(request, message, error=str(error), note=note, status=status)
