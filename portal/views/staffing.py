"""`/staffing/`: subsidiaries against their staffing plans; changing plans and caps, retiring agents by plan."""

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlencode

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from holding.models import Unit
from iam.access.confirmation import is_confirmed
from iam.access.rights import RefusedError
from iam.access.rules import needs
from iam.authority.models import Approval
from portal import staffing
from portal.staffing_forms import CapForm, PlanForm, ReasonedForm, RetireForm
from portal.views.answers import acting, answer
from subsidiaries.replacement import delegating, outlook, retiring
from subsidiaries.replacement import staffing as plans
from subsidiaries.replacement.planning import CapDelegation, Retirement
from subsidiaries.replacement.reserve import TARGET

ASK: Final = plans.PERMISSION
RETIRE: Final = retiring.PERMISSION
ACTS: Final[Mapping[str, Callable[..., Retirement]]] = {
    "pause": retiring.pause,
    "resume": retiring.resume,
    "abort": retiring.abort,
}


@needs("units.view")
@require_safe
def listing(request: HttpRequest) -> HttpResponse:
    """List the subsidiaries: floor, establishment, live agents, reserve that is needed, cap of the day."""
    now = timezone.now()
    rows = staffing.overview(now=now)
    context = {
        "rows": rows,
        "short": sum(row.short > 0 for row in rows),
        "thin": sum(not row.enough for row in rows),
        "target": TARGET,
    }
    return answer(request, "portal/staffing.html", context, as_of=now)


@needs("units.view")
@require_safe
def show(request: HttpRequest, slug: str) -> HttpResponse:
    """Show a subsidiary's plan, what reserve it needs and why, its caps and its planned retirements."""
    return _show(request, staffing.find(slug))


def _show(request: HttpRequest, unit: Unit, *, error: str = "", status: int = 200) -> HttpResponse:
    now = timezone.now()
    data = staffing.page_of(unit, now=now)
    caps = [(one, staffing.has_ended(one)) for one in data.delegations]
    context = {
        "unit": unit,
        "data": data,
        "own": data.outlook,
        "target": TARGET,
        "caps": caps,
        "acts": any(one.state in Retirement.GOING for one, _progress in data.retirements)
        or not all(ended for _cap, ended in caps),
        "reason": request.POST.get("reason", "")[: retiring.REASON_LENGTH],
        "may_ask": staffing.may(ASK, unit),
        "may_retire": staffing.may(RETIRE, unit),
        "error": error,
    }
    return answer(request, "portal/staffing_unit.html", context, as_of=now, status=status)


@needs(ASK)
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def change(request: HttpRequest, slug: str) -> HttpResponse:
    """Ask for another plan; say first which seats it opens or closes, and who decides."""
    unit = staffing.find(slug)
    plan = staffing.plan_of(unit)
    context = {"unit": unit, "plan": plan, "kind": "plan"}
    if request.method != "POST":
        initial = {"floor": plan.floor, "reserve": plan.reserve, "maximum": plan.maximum, **request.GET.dict()}
        return _form(request, PlanForm(initial=initial), context)
    form = PlanForm(request.POST)
    if not form.is_valid():
        return _form(request, form, context, status=422)
    wanted = form.change(plan)
    try:
        if "confirm" in request.POST:
            key = _key("plan", request, form)
            asked = plans.ask(change=wanted, by=acting(request), reason=form.cleaned_data["reason"], key=key)
            return _asked(request, unit, asked)
        preview = plans.preview(change=wanted, by=acting(request))
    except RefusedError as error:
        form.add_error(None, str(error))
        return _form(request, form, context, status=422)
    [own] = outlook.outlook(units=[unit], now=timezone.now())
    others = own.reserve - plan.reserve
    after = own.below_after(floor=own.floor - plan.floor + wanted.floor, seats=others + wanted.reserve)
    return answer(
        request,
        "portal/staffing_preview.html",
        {
            **context,
            "form": form,
            "wanted": wanted,
            "preview": preview,
            "own": own,
            "after": after,
            "target": TARGET,
            "given": form.given(),
            "back": f"{request.path}?{_query(form)}",
        },
    )


@needs(ASK)
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def cap(request: HttpRequest, slug: str) -> HttpResponse:
    """Ask whoever may allow so many replacements to delegate another cap to ARP."""
    unit = staffing.find(slug)
    context = {"unit": unit, "kind": "cap"}
    if request.method != "POST":
        return _form(request, CapForm(initial=request.GET.dict()), context)
    form = CapForm(request.POST)
    if not form.is_valid():
        return _form(request, form, context, status=422)
    try:
        asked = delegating.ask(
            cap=form.cap_of(unit),
            by=acting(request),
            reason=form.cleaned_data["reason"],
            key=_key("cap", request, form),
        )
    except RefusedError as error:
        form.add_error(None, str(error))
        return _form(request, form, context, status=422)
    return _asked(request, unit, asked)


@needs(RETIRE)
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def retire(request: HttpRequest, slug: str) -> HttpResponse:
    """Order that agents be followed by their next generation; say which before it is confirmed."""
    unit = staffing.find(slug)
    plan = staffing.plan_of(unit)
    context = {"unit": unit, "plan": plan, "kind": "retire"}
    if request.method != "POST":
        return _form(request, RetireForm(initial=request.GET.dict()), context)
    form = RetireForm(request.POST)
    if not form.is_valid():
        return _form(request, form, context, status=422)
    person, order = acting(request), form.order(plan)
    try:
        if "confirm" not in request.POST:
            agents = retiring.preview(order=order, by=person)
            extra = {"form": form, "order": order, "agents": agents, "given": form.given()}
            back = f"{request.path}?{_query(form)}"
            return answer(request, "portal/retirement_preview.html", {**context, **extra, "back": back})
        if not is_confirmed(request):
            back = f"{request.path}?{_query(form)}"
            return redirect(f"{reverse('confirm')}?{urlencode({'next': back})}")
        key = _key("retire", request, form)
        retiring.begin(order=order, by=person, reason=form.cleaned_data["reason"], key=key)
    except RefusedError as error:
        form.add_error(None, str(error))
        return _form(request, form, context, status=422)
    messages.success(request, _("The planned retirement is ordered."))
    return redirect("staffing-unit", slug=unit.slug)


@needs(RETIRE)
@require_POST
def act(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    """Pause, resume or abort a planned retirement; 422 when that cannot be."""
    if verb not in ACTS:
        raise Http404(_("There is no such page."))
    found = get_object_or_404(Retirement.objects.select_related("unit__sector", "role"), pk=pk)
    try:
        ACTS[verb](retirement=found, by=acting(request), reason=request.POST.get("reason", ""))
    except RefusedError as error:
        return _show(request, found.unit, error=str(error), status=422)
    messages.success(request, _("Done: the ledger keeps it."))
    return redirect("staffing-unit", slug=found.unit.slug)


@needs(RETIRE)
@require_POST
def revoke(request: HttpRequest, pk: int) -> HttpResponse:
    """End a delegated cap; 422 when that cannot be."""
    found = get_object_or_404(CapDelegation.objects.select_related("unit__sector"), pk=pk)
    try:
        delegating.revoke(delegation=found, by=acting(request), reason=request.POST.get("reason", ""))
    except RefusedError as error:
        return _show(request, found.unit, error=str(error), status=422)
    messages.success(request, _("The cap is revoked."))
    return redirect("staffing-unit", slug=found.unit.slug)


def _form(request: HttpRequest, form: ReasonedForm, context: dict[str, Any], *, status: int = 200) -> HttpResponse:
    return answer(request, "portal/staffing_form.html", {**context, "form": form}, status=status)


def _key(kind: str, request: HttpRequest, form: ReasonedForm) -> str:
    return f"staffing-{kind}/{acting(request).pk}/{form.cleaned_data['key']}"


def _query(form: ReasonedForm) -> str:
    """Return what the form says as a query that fills it in again."""
    return urlencode([(name, value) for name, value in form.given() if name != "key"])


def _asked(request: HttpRequest, unit: Unit, asked: Approval) -> HttpResponse:
    """Say what became of a request, and lead to where it waits or to what it changed."""
    if asked.state == Approval.State.PENDING:
        messages.success(request, _("This is beyond the delegated limit: it waits for a decision."))
        return redirect("approval", pk=asked.pk)
    if asked.state == Approval.State.FAILED:
        messages.error(request, asked.failure)
    else:
        messages.success(request, _("The plan is changed."))
    return redirect("staffing-unit", slug=unit.slug)
