"""`/authority/rates/`: the register of exchange rates."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from holding import clock, scope
from iam.access.rules import needs
from iam.authority import services
from iam.authority.models import ExchangeRate
from portal.forms import RateForm
from portal.keyset import page, position
from portal.views.answers import acting, answer, with_query

PAGE_SIZE = 50


@needs("authority.view")
@require_safe
def listing(request: HttpRequest) -> HttpResponse:
    """Show the rates that count now and all that were recorded."""
    return _listing(request, RateForm(initial={"on": clock.now().date()}))


@needs("authority.manage")
@require_POST
def record(request: HttpRequest) -> HttpResponse:
    """Record a rate; 422 with what was typed when that cannot be."""
    form = RateForm(request.POST)
    if form.is_valid():
        try:
            made = services.record_rate(actor=acting(request).get_username(), **form.cleaned_data)
        except services.RateError as error:
            form.add_error("confirmed" if isinstance(error, services.UnusualRateError) else None, str(error))
        else:
            messages.success(request, _("Recorded: %(rate)s.") % {"rate": made})
            return redirect("rates")
    return _listing(request, form, status=422)


def _listing(request: HttpRequest, form: RateForm, *, status: int = 200) -> HttpResponse:
    now = clock.now()
    found = page(ExchangeRate.objects.all(), position(request), size=PAGE_SIZE, newest_first=True)
    context = {
        "counting": list(ExchangeRate.objects.newest_of_each(now.date())),
        "rates": found.rows,
        "form": form if scope.current().has("authority.manage") else None,
        "previous": status == 200
        and found.previous
        and with_query(request, before=str(found.previous), after=None),
        "next": status == 200 and found.next and with_query(request, after=str(found.next), before=None),
    }
    return answer(request, "authority/rates.html", context, as_of=now, status=status)
