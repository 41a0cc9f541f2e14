"""`/rollouts/`: versions that are rolled out, how far each is; starting, pausing, rolling back, aborting one."""

from collections.abc import Callable
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from iam.access.confirmation import is_confirmed
from iam.access.rights import RefusedError
from iam.access.rules import needs
from portal import blueprints
from portal.agents import unit_choices
from portal.keyset import page, position
from portal.rollout_forms import RolloutForm
from portal.views.answers import acting, answer, with_query
from subsidiaries.replacement import rollout_orders
from subsidiaries.replacement.progress import Progress, progress_of
from subsidiaries.replacement.rollout_models import REASON_LENGTH, Rollout, RolloutSeat

PAGE_SIZE = 50


@needs("units.view")
@require_safe
def listing(request: HttpRequest) -> HttpResponse:
    """List the rollouts, the newest first, with how far each is."""
    unit, state = request.GET.get("unit", "")[:24].replace("\x00", ""), request.GET.get("state", "")
    state = state if state in Rollout.State.values else ""
    found = page(
        blueprints.listed_rollouts(unit=unit, state=state), position(request), size=PAGE_SIZE, newest_first=True
    )
    progress = progress_of([row.pk for row in found.rows])
    context = {
        "rows": [(row, _sums(progress[row.pk])) for row in found.rows],
        "going": Rollout.objects.going().exclude(state=Rollout.State.PAUSED).count(),
        "paused": Rollout.objects.filter(state=Rollout.State.PAUSED).count(),
        "units": unit_choices(),
        "unit": unit,
        "state": state,
        "states": Rollout.State.choices,
        "may_start": blueprints.may_roll_out(),
        "previous": found.previous and with_query(request, before=str(found.previous), after=None),
        "next": found.next and with_query(request, after=str(found.next), before=None),
    }
    return answer(request, "portal/rollouts.html", context, as_of=timezone.now())


def _sums(parts: list[Progress]) -> dict[str, int]:
    names = ("agents", "canaries", "begun", "live", "failed", "restored", "surge")
    return {name: sum(getattr(part, name) for part in parts) for name in names}


@needs("units.view")
@require_safe
def show(request: HttpRequest, pk: int) -> HttpResponse:
    """Show a rollout: its canary, how far each unit is, and the seats that it has changed."""
    return _show(request, blueprints.find_rollout(pk))


def _show(request: HttpRequest, rollout: Rollout, *, error: str = "", status: int = 200) -> HttpResponse:
    parts = progress_of([rollout.pk])[rollout.pk]
    seats = RolloutSeat.objects.filter(rollout=rollout).select_related("unit", "seat__unit", "seat__body", "former")
    if failed := request.GET.get("failed") == "1":
        seats = seats.exclude(failed_at=None)
    found = page(seats, position(request), size=PAGE_SIZE, newest_first=True)
    canaries = RolloutSeat.objects.filter(rollout=rollout, canary=True)
    context = {
        "rollout": rollout,
        "parts": parts,
        "sums": _sums(parts),
        "canary_begun": canaries.count(),
        "canary_live": canaries.filter(state=RolloutSeat.State.LIVE).count(),
        "canary_failed": canaries.exclude(failed_at=None).count(),
        "seats": found.rows,
        "failed": failed,
        "going": rollout.state in Rollout.GOING,
        "forward": rollout.state in (*Rollout.FORWARD, Rollout.State.PAUSED),
        "may_act": blueprints.may_roll_out(rollout),
        "error": error,
        "reason": request.POST.get("reason", "")[:REASON_LENGTH],
        "most": REASON_LENGTH,
        "previous": found.previous and with_query(request, before=str(found.previous), after=None),
        "next": found.next and with_query(request, after=str(found.next), before=None),
    }
    return answer(request, "portal/rollout.html", context, as_of=timezone.now(), status=status)


@needs(rollout_orders.MANAGE)
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    """Ask what to roll out; say what that would do, by unit; start it when that is confirmed."""
    if request.method != "POST":
        return answer(request, "portal/rollout_new.html", {"form": RolloutForm(initial=request.GET.dict())})
    form = RolloutForm(request.POST)
    if not form.is_valid():
        return answer(request, "portal/rollout_new.html", {"form": form}, status=422)
    person = acting(request)
    order = form.order(person.pk)
    try:
        if "confirm" in request.POST:
            if order.unit is None and not is_confirmed(request):
                return redirect(f"{reverse('confirm')}?{urlencode({'next': f'{request.path}?{_query(request)}'})}")
            rollout = rollout_orders.start(order=order, by=person)
            messages.success(request, _("The rollout has started."))
            return redirect("rollout", pk=rollout.pk)
        plans = rollout_orders.preview(order=order, by=person)
    except RefusedError as error:
        form.add_error(None, str(error))
        return answer(request, "portal/rollout_new.html", {"form": form}, status=422)
    context = {
        "order": order,
        "plans": plans,
        "agents": sum(plan.agents for plan in plans),
        "canaries": sum(plan.canaries for plan in plans),
        "surge": sum(plan.surge for plan in plans),
        "waves": max(plan.waves for plan in plans),
        "given": [(name, value) for name, value in request.POST.items() if name in form.fields and value],
        "back": f"{request.path}?{_query(request)}",
    }
    return answer(request, "portal/rollout_preview.html", context)


def _query(request: HttpRequest) -> str:
    """Return what the form says as a query that fills it in again."""
    names = [name for name in RolloutForm().fields if name != "key"]
    return urlencode({name: request.POST[name] for name in names if request.POST.get(name)})


@needs(rollout_orders.MANAGE)
@require_POST
def pause(request: HttpRequest, pk: int) -> HttpResponse:
    """Begin no further agent; 422 when that cannot be."""
    return _act(request, pk, rollout_orders.pause, _("The rollout is paused."))


@needs(rollout_orders.MANAGE)
@require_POST
def resume(request: HttpRequest, pk: int) -> HttpResponse:
    """Let a paused rollout go on; 422 when that cannot be."""
    return _act(request, pk, rollout_orders.resume, _("The rollout goes on."))


@needs(rollout_orders.MANAGE)
@require_POST
def back(request: HttpRequest, pk: int) -> HttpResponse:
    """Roll a rollout back; 422 when that cannot be."""
    return _act(request, pk, rollout_orders.roll_back, _("The rollout goes back."))


@needs(rollout_orders.MANAGE)
@require_POST
def abort(request: HttpRequest, pk: int) -> HttpResponse:
    """End a rollout as it is; 422 when that cannot be."""
    return _act(request, pk, rollout_orders.abort, _("The rollout is aborted. What was changed stays."))


def _act(request: HttpRequest, pk: int, act: Callable[..., Rollout], done: str) -> HttpResponse:
    rollout = blueprints.find_rollout(pk)
    try:
        act(rollout=rollout, by=acting(request), reason=request.POST.get("reason", ""))
    except RefusedError as error:
        return _show(request, rollout, error=str(error), status=422)
    messages.success(request, done)
    return redirect("rollout", pk=rollout.pk)
