"""`/org/`: the field of all agents, and who reports to whom."""

from hashlib import blake2b

from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.http import quote_etag
from django.utils.translation import gettext as _
from django.views.decorators.http import condition, require_safe

from holding.models import Unit
from iam.access.rules import needs
from portal.agents import seat_address
from portal.organisation import CLASSES, bodies, field_bytes, patches, seats_under
from portal.views.answers import answer


@needs("units.view")
@require_safe
def show(request: HttpRequest) -> HttpResponse:
    """Show the field of every unit, problems first, and the roots of the tree."""
    now = timezone.now()
    fields = patches(now=now)
    context = {
        "patches": fields,
        "seats": sum(patch.seats for patch in fields),
        "live": sum(patch.live for patch in fields),
        "troubled": sum(bool(patch.problems) for patch in fields),
        "classes": _class_names(),
        "bodies": bodies(),
        "subsidiaries": Unit.objects.subsidiaries(),
    }
    return answer(request, "portal/organisation.html", context, as_of=now)


def _class_names() -> list[tuple[str, str]]:
    names = [_("active"), _("starting"), _("degraded"), _("paused"), _("offline or unknown")]
    return list(zip(CLASSES, names, strict=True))


@needs("units.view")
@require_safe
def field(request: HttpRequest) -> HttpResponse:
    """Answer with one byte per seat (see `portal.organisation.field_bytes`)."""
    raw = field_bytes(now=timezone.now())
    etag = quote_etag(blake2b(raw, digest_size=12).hexdigest())

    @condition(etag_func=lambda _request: etag)
    def body(_request: HttpRequest) -> HttpResponse:
        return HttpResponse(
            raw, content_type="application/octet-stream", headers={"Cache-Control": "private, no-cache"}
        )

    return body(request)


@needs("units.view")
@require_safe
def children(request: HttpRequest, kind: str, key: str) -> HttpResponse:
    """Show the seats under a body, a unit or a seat. Raises Http404."""
    seats = seats_under(kind, key)
    if seats is None:
        raise Http404(_("There is no such seat."))
    context = {"seats": [(seat, seat_address(seat)) for seat in seats]}
    return answer(request, "portal/children.html", context)
