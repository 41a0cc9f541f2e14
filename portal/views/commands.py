"""`/commands/`: what was ordered and what became of it; giving a command, halting, continuing, aborting one."""

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

from holding import scope
from iam.access.confirmation import is_confirmed
from iam.access.models import User
from iam.access.rights import RefusedError
from iam.access.rules import needs
from portal import commands
from portal.agents import unit_choices
from portal.commands import Wanted
from portal.keyset import page, position
from portal.order_forms import OrderForm
from portal.views.answers import acting, answer, with_query
from subsidiaries.commands import services
from subsidiaries.commands.models import REASON_LENGTH, Command, Target
from subsidiaries.commands.orders import PAUSE

PAGE_SIZE = 50


@needs("units.view")
@require_safe
def listing(request: HttpRequest) -> HttpResponse:
    """List the commands, the newest first, with what became of each."""
    now, wanted = timezone.now(), _wanted(request)
    found = page(commands.listed(wanted), position(request), size=PAGE_SIZE, newest_first=True)
    counts = Target.objects.counted(now, of=[row.pk for row in found.rows])
    context = {
        "rows": [(row, counts[row.pk]) for row in found.rows],
        "going": Command.objects.going().filter(state=Command.State.ROLLING_OUT).count(),
        "halted": Command.objects.going().filter(state=Command.State.HALTED).count(),
        "wanted": wanted,
        "units": unit_choices(),
        "verbs": Command.Verb.choices,
        "states": Command.State.choices,
        "may_order": scope.current().has(PAUSE),
        "previous": found.previous and with_query(request, before=str(found.previous), after=None),
        "next": found.next and with_query(request, after=str(found.next), before=None),
    }
    return answer(request, "portal/commands.html", context, as_of=now)


def _wanted(request: HttpRequest) -> Wanted:
    get = request.GET.get
    verb, state = get("verb", ""), get("state", "")
    return Wanted(
        unit=get("unit", "")[:24].replace("\x00", ""),
        verb=verb if verb in Command.Verb.values else "",
        state=state if state in Command.State.values else "",
    )


@needs("units.view")
@require_safe
def show(request: HttpRequest, pk: int) -> HttpResponse:
    """Show a command: how far it is obeyed, and by which divisions not, with the words of their hosts."""
    return _show(request, commands.find(pk))


def _show(request: HttpRequest, command: Command, *, error: str = "", status: int = 200) -> HttpResponse:
    now = timezone.now()
    state = request.GET.get("state", "")
    state = state if state in Target.State.values else ""
    found = page(commands.targets(command, at=now, state=state), position(request), size=PAGE_SIZE)
    counts = Target.objects.counted(now, of=[command.pk])[command.pk]
    context = {
        "command": command,
        "counts": counts,
        "rate": counts.failure_rate(command.accepted) / 100,
        "targets": found.rows,
        "state": state,
        "states": Target.State.choices,
        "may_act": commands.may_act(command),
        "may_lift": commands.may_give(Command.Verb.RESUME, None if command.whole else command.unit_id),
        "error": error,
        "reason": request.POST.get("reason", "")[:REASON_LENGTH],
        "most": REASON_LENGTH,
        "previous": found.previous and with_query(request, before=str(found.previous), after=None),
        "next": found.next and with_query(request, after=str(found.next), before=None),
    }
    return answer(request, "portal/command.html", context, as_of=now, status=status)


@needs(PAUSE)
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    """Ask what to order; say how many agents and divisions that is about; give it when that is confirmed."""
    if request.method != "POST":
        return answer(request, "portal/order.html", {"form": OrderForm(initial=request.GET.dict())})
    form = OrderForm(request.POST)
    if not form.is_valid():
        return answer(request, "portal/order.html", {"form": form}, status=422)
    person = acting(request)
    order = form.order(person.pk)
    try:
        services.require(by=person, verb=order.verb, place=order.place)
        reach = services.preview(order=order, by=person) if "confirm" not in request.POST else []
        if services.needs_confirmation(order) and not is_confirmed(request):
            return _confirm_first(request)
        if "confirm" in request.POST:
            command = services.issue(order=order, by=person)
            messages.success(request, _("The command is given."))
            return redirect("command", pk=command.pk)
    except RefusedError as error:
        form.add_error(None, str(error))
        return answer(request, "portal/order.html", {"form": form}, status=422)
    context = {
        "form": form,
        "order": order,
        "verb": Command.Verb(order.verb).label,
        "divisions": len(reach),
        "agents": sum(one.agents for one in reach),
        "units": len({one.division.unit_id for one in reach}),
        "settings": dict(order.settings),
        "given": [(name, value) for name, value in request.POST.items() if name in form.fields and value],
        "back": f"{request.path}?{_query(request)}",
        "steps": -(-100 // order.percent),
    }
    return answer(request, "portal/order_preview.html", context)


def _confirm_first(request: HttpRequest) -> HttpResponse:
    """Lead to where people show again who they are, and back to the form as it was."""
    back = f"{request.path}?{_query(request)}"
    return redirect(f"{reverse('confirm')}?{urlencode({'next': back})}")


def _query(request: HttpRequest) -> str:
    """Return what the form says as a query that fills it in again."""
    names = [name for name in OrderForm().fields if name != "key"]
    return urlencode({name: request.POST[name] for name in names if request.POST.get(name)})


@needs(PAUSE)
@require_POST
def halt(request: HttpRequest, pk: int) -> HttpResponse:
    """Begin no further step; 422 when that cannot be."""
    return _act(request, pk, services.halt, _("The command is halted."))


@needs(PAUSE)
@require_POST
def proceed(request: HttpRequest, pk: int) -> HttpResponse:
    """Let a halted command go on; 422 when that cannot be."""
    return _act(request, pk, services.proceed, _("The command goes on."))


@needs(PAUSE)
@require_POST
def abort(request: HttpRequest, pk: int) -> HttpResponse:
    """End a command before its last step; 422 when that cannot be."""
    return _act(request, pk, services.abort, _("The command is aborted. What was done stays until it is lifted."))


def _act(request: HttpRequest, pk: int, act: Callable[..., Command], done: str) -> HttpResponse:
    command = commands.find(pk)
    by: User = acting(request)
    try:
        act(command=command, by=by, reason=request.POST.get("reason", ""))
    except RefusedError as error:
        return _show(request, command, error=str(error), status=422)
    messages.success(request, done)
    return redirect("command", pk=command.pk)
