"""`/enrol/`: seats for agents that people bring."""

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from holding import scope
from iam.access.confirmation import recently_confirmed
from iam.access.rights import RefusedError
from iam.access.rules import needs
from portal.enrolments import LOOKS, EnrolForm
from portal.keyset import page, position
from portal.views.answers import acting, answer, with_query
from subsidiaries.enrolment.models import Enrolment
from subsidiaries.enrolment.services import PERMISSION, enrol, withdraw
from subsidiaries.enrolment.snippets import snippets

PAGE_SIZE = 50


@needs("units.view")
@require_safe
def listing(request: HttpRequest) -> HttpResponse:
    """List the enrolments in view, and offer the form to whoever may enrol."""
    now = timezone.now()
    found = page(Enrolment.objects.for_listing(), position(request), size=PAGE_SIZE)
    context = {
        "enrolments": [(one, LOOKS[one.state_at(now)]) for one in found.rows],
        "may_enrol": scope.current().has(PERMISSION),
        "previous": found.previous and with_query(request, before=str(found.previous), after=None),
        "next": found.next and with_query(request, after=str(found.next), before=None),
    }
    return answer(request, "portal/enrolments.html", context, as_of=now)


@needs(PERMISSION)
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@recently_confirmed()
def offer(request: HttpRequest) -> HttpResponse:
    """Ask which seat to offer, and offer it; the token is shown this once."""
    form = EnrolForm(request.POST if request.method == "POST" else None, initial=request.GET.dict())
    status = 200
    if request.method == "POST":
        if form.is_valid():
            try:
                enrolment, token = enrol(by=acting(request), **form.wanted())
            except RefusedError as error:
                form.add_error(None, str(error))
            else:
                return _show(request, enrolment, token=token)
        status = 422
    return answer(request, "portal/enrol.html", {"form": form}, status=status)


@needs("units.view")
@require_safe
def show(request: HttpRequest, number: int) -> HttpResponse:
    """Show an enrolment: the page turns green when its agent is live."""
    return _show(request, _found(number))


@needs(PERMISSION)
@require_POST
def end(request: HttpRequest, number: int) -> HttpResponse:
    """Withdraw an enrolment: the seat goes back to the hosts."""
    enrolment = _found(number)
    try:
        withdraw(by=acting(request), enrolment=enrolment, reason=request.POST.get("reason", ""))
    except RefusedError as error:
        return _show(request, enrolment, error=str(error), status=422)
    return HttpResponseRedirect(reverse("enrolment", args=[enrolment.pk]))


def _found(number: int) -> Enrolment:
    enrolment = Enrolment.objects.for_listing().filter(pk=number).first()
    if enrolment is None:
        raise Http404(_("There is no enrolment %(key)s.") % {"key": number})
    return enrolment


def _show(
    request: HttpRequest, enrolment: Enrolment, *, token: str = "", error: str = "", status: int = 200
) -> HttpResponse:
    now = timezone.now()
    context = {
        "enrolment": enrolment,
        "look": LOOKS[enrolment.state_at(now)],
        "token": token,
        "snippets": snippets(token) if token else [],
        "error": error,
        "may_withdraw": enrolment.ended_at is None and scope.current().allows(PERMISSION, enrolment.unit_id),
    }
    return answer(request, "portal/enrolment.html", context, as_of=now, status=status)
