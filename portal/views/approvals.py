"""`/approvals/`: what waits for a decision, what was asked for, and the decisions themselves."""

from decimal import Decimal
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from holding import clock, scope
from iam.access.models import User
from iam.access.rules import needs
from iam.authority import services
from iam.authority.models import Approval, Decision, ExchangeRate, Matter
from portal import approvals
from portal.agents import unit_choices
from portal.approvals import Wanted
from portal.forms import NOTE, RequestForm
from portal.keyset import page, position
from portal.views.answers import answer, is_fragment, with_query

PAGE_SIZE = 50
CENT = Decimal("0.01")
TITLE = 60  # characters of a title's key


@needs("authority.view")
@require_safe
def listing(request: HttpRequest) -> HttpResponse:
    """Show what waits for whoever looks, what they asked for, and all that they may see."""
    person, now = _person(request), clock.now()
    state = request.GET.get("state", "")
    wanted = Wanted(
        state=state if state in Approval.State.values else "",
        matter=request.GET.get("matter", "")[:24].replace("\x00", ""),
        unit=request.GET.get("unit", "")[:24].replace("\x00", ""),
    )
    inbox = {
        "now": now,
        "waiting": approvals.waiting(person, at=now) if scope.current().has("approvals.decide") else [],
        "mine": approvals.requested(person),
    }
    if is_fragment(request):  # what refreshes itself is the inbox alone
        return answer(request, "authority/approvals.html", inbox, as_of=now)
    rows = page(approvals.listed(wanted), position(request), size=PAGE_SIZE, newest_first=True)
    context = {
        **inbox,
        "approvals": rows.rows,
        "wanted": wanted,
        "states": Approval.State.choices,
        "matters": Matter.objects.all(),
        "units": unit_choices(),
        "may_ask": scope.current().has("approvals.request"),
        "previous": rows.previous and with_query(request, before=str(rows.previous), after=None),
        "next": rows.next and with_query(request, after=str(rows.next), before=None),
    }
    return answer(request, "authority/approvals.html", context, as_of=now)


@needs("authority.view")
@require_safe
def show(request: HttpRequest, pk: int) -> HttpResponse:
    """Show an approval: what, who may decide and why, what was decided."""
    return _dossier(request, pk)


@needs("approvals.decide")
@require_POST
def decide(request: HttpRequest, pk: int) -> HttpResponse:
    """Approve or reject; 422 with what was typed when that cannot be."""
    person = _person(request)
    approval = approvals.find(pk, person, at=clock.now())
    verdict, note = request.POST.get("verdict", ""), request.POST.get("note", "")[:NOTE]
    if verdict not in Decision.Verdict.values:
        return _dossier(request, pk, error=_("Approve it or reject it."), status=422)
    if verdict == Decision.Verdict.APPROVE and approval.action and not request.POST.get("confirm"):
        mistake = _("What is approved is carried out at once. Confirm that you want it.")
        return _dossier(request, pk, error=mistake, status=422)
    try:
        done = services.decide(
            approval=approval,
            person=person,
            verdict=Decision.Verdict(verdict),
            note=note,
            acting_as=request.POST.get("acting_as", "")[:TITLE],
        )
    except ValueError as error:
        return _dossier(request, pk, error=str(error), status=422)
    messages.success(
        request, _("Your decision is noted. The approval: %(state)s.") % {"state": done.get_state_display()}
    )
    return redirect("approval", pk=pk)


@needs("approvals.request")
@require_POST
def withdraw(request: HttpRequest, pk: int) -> HttpResponse:
    """Take back one's own request."""
    person = _person(request)
    approval = approvals.find(pk, person, at=clock.now())
    try:
        services.withdraw(approval=approval, person=person, reason=request.POST.get("reason", "")[:NOTE])
    except ValueError as error:
        return _dossier(request, pk, error=str(error), status=422)
    messages.success(request, _("Your request is withdrawn."))
    return redirect("approval", pk=pk)


def _dossier(request: HttpRequest, pk: int, *, error: str = "", status: int = 200) -> HttpResponse:
    person, now = _person(request), clock.now()
    data = approvals.dossier(approvals.find(pk, person, at=now), person, at=now)
    may = scope.current()
    context = {
        "data": data,
        "approval": data.approval,
        "error": error,
        "note": request.POST.get("note", "")[:NOTE],
        "acting_as": request.POST.get("acting_as", ""),
        "may_decide": data.answer.allowed and may.has("approvals.decide"),
        "may_withdraw": data.mine and data.pending and may.has("approvals.request"),
    }
    return answer(request, "authority/approval.html", context, as_of=now, status=status)


# --- asking ------------------------------------------------------------------------------------------------


@needs("approvals.request")
@require_http_methods(["GET", "HEAD", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    """Ask for an approval, or look first which office would decide it."""
    units = scope.current().units("approvals.request")
    if request.method != "POST":
        asked = {
            name: request.GET[name][:200] for name in ("matter", "unit", "value", "title") if name in request.GET
        }
        return _ask(request, RequestForm(units=units, rates=_rates(), initial=asked))
    form = RequestForm(request.POST, units=units, rates=_rates())
    if not form.is_valid():
        return _ask(request, form, status=422)
    asks = _request(_person(request), form.cleaned_data)
    try:
        if form.cleaned_data["foreign"] or "preview" in request.POST:
            preview = services.preview(request=asks)
            # Who asks in another currency has been shown before what it is in euros.
            unseen = preview.fx_on is not None and request.POST.get("converted") != str(_converted(preview))
            if unseen or "preview" in request.POST:
                return _ask(request, form, preview=preview)
        approval = services.request_approval(request=asks)
    except ValueError as error:
        form.add_error(None, str(error))
        return _ask(request, form, status=422)
    return redirect("approval", pk=approval.pk)


def _request(person: User, given: dict[str, Any]) -> services.Request:
    return services.Request(
        matter=given["matter"].slug,
        unit=given["unit"],
        value=given["value"],
        currency=given["currency"],
        title=given["title"],
        reason=given["reason"],
        counterparty=given["counterparty"],
        key=f"page-{person.pk}-{given['key']}",
        requester=person,
    )


def _rates() -> list[ExchangeRate]:
    return list(ExchangeRate.objects.newest_of_each(clock.now().date()))


def _converted(preview: services.Preview) -> Decimal:
    return preview.euros.quantize(CENT)


def _ask(
    request: HttpRequest,
    form: RequestForm,
    *,
    preview: services.Preview | None = None,
    status: int = 200,
) -> HttpResponse:
    converted = _converted(preview) if preview and preview.fx_on else None
    context = {"form": form, "preview": preview, "converted": converted}
    return answer(request, "authority/new.html", context, as_of=clock.now(), status=status)


def _person(request: HttpRequest) -> User:
    """Return who asks; the gate has let nobody else through."""
    if not isinstance(request.user, User):
        raise TypeError("The gate lets only people with an account through.")
    return request.user
