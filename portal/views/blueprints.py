"""`/blueprints/`: versions of the recipes of agents; drafting, submitting, withdrawing, revoking, releasing one."""

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

from holding.models import BlueprintVersion
from iam.access.confirmation import is_confirmed
from iam.access.rights import RefusedError
from iam.access.rules import needs
from portal import blueprints
from portal.keyset import page, position
from portal.rollout_forms import VersionForm
from portal.views.answers import acting, answer, with_query
from subsidiaries.replacement import versions
from subsidiaries.replacement.versions import NOTE_LENGTH

PAGE_SIZE = 50
State = BlueprintVersion.State


@needs("units.view")
@require_safe
def listing(request: HttpRequest) -> HttpResponse:
    """List the versions, the newest first, with how many agents each made that are in office."""
    wanted, state = request.GET.get("blueprint", "")[:24].replace("\x00", ""), request.GET.get("state", "")
    state = state if state in State.values else ""
    found = page(
        blueprints.listed(blueprint=wanted, state=state), position(request), size=PAGE_SIZE, newest_first=True
    )
    agents = blueprints.agents_by_version([row.pk for row in found.rows])
    context = {
        "rows": [(row, agents.get(row.pk, 0)) for row in found.rows],
        "drafts": BlueprintVersion.objects.filter(state=State.DRAFT).count(),
        "halted": BlueprintVersion.objects.approved().exclude(halted_at=None).count(),
        "blueprints": blueprints.blueprint_choices(),
        "blueprint": wanted,
        "state": state,
        "states": State.choices,
        "may_write": blueprints.may_write(),
        "previous": found.previous and with_query(request, before=str(found.previous), after=None),
        "next": found.next and with_query(request, after=str(found.next), before=None),
    }
    return answer(request, "portal/blueprints.html", context, as_of=timezone.now())


@needs("units.view")
@require_safe
def show(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    """Show a version: what it says, how it differs from the one before, who was made by it, what it would make."""
    return _show(request, blueprints.find(slug, number))


def _show(request: HttpRequest, version: BlueprintVersion, *, error: str = "", status: int = 200) -> HttpResponse:
    context = {
        "shown": blueprints.shown(version, username=acting(request).get_username()),
        "version": version,
        "may_write": blueprints.may_write(),
        "may_roll_out": blueprints.may_roll_out(),
        "error": error,
        "reason": request.POST.get("reason", "")[:NOTE_LENGTH],
        "most": NOTE_LENGTH,
    }
    return answer(request, "portal/blueprint.html", context, as_of=timezone.now(), status=status)


@needs(versions.MANAGE)
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    """Write the next version of a blueprint as a draft, beginning with the newest one."""
    if request.method != "POST":
        slug = request.GET.get("blueprint", "")[:24].replace("\x00", "")
        approved = blueprints.listed(blueprint=slug, state=State.APPROVED).order_by("-version")
        newest = approved.first() if slug else None
        initial = {"blueprint": slug, "spec": blueprints.spec_text(newest.spec) if newest else ""}
        return _edit(request, VersionForm(initial=initial), None)
    form = VersionForm(request.POST)
    if not form.is_valid():
        return _edit(request, form, None, status=422)
    given = form.cleaned_data
    try:
        version = versions.draft(
            blueprint=given["blueprint"], spec=given["spec"], note=given["note"], by=acting(request)
        )
    except RefusedError as error:
        return _edit(request, form, None, mistakes=_mistakes(error), status=422)
    messages.success(request, _("The draft is saved. Submit it, so that somebody else approves it."))
    return _to(version)


@needs(versions.MANAGE)
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def edit(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    """Edit one's own draft."""
    version = blueprints.find(slug, number)
    if request.method != "POST":
        initial = {"spec": blueprints.spec_text(version.spec), "note": version.note}
        return _edit(request, VersionForm(initial=initial, fixed=True), version)
    form = VersionForm(request.POST, fixed=True)
    if not form.is_valid():
        return _edit(request, form, version, status=422)
    given = form.cleaned_data
    try:
        versions.edit(version=version, spec=given["spec"], note=given["note"], by=acting(request))
    except RefusedError as error:
        return _edit(request, form, version, mistakes=_mistakes(error), status=422)
    messages.success(request, _("The draft is saved."))
    return _to(version)


def _edit(
    request: HttpRequest,
    form: VersionForm,
    version: BlueprintVersion | None,
    *,
    mistakes: list[str] | None = None,
    status: int = 200,
) -> HttpResponse:
    context = {"form": form, "version": version, "mistakes": mistakes or []}
    return answer(request, "portal/blueprint_edit.html", context, status=status)


def _mistakes(error: RefusedError) -> list[str]:
    return error.faults if isinstance(error, versions.SpecRefusedError) else [str(error)]


def _to(version: BlueprintVersion) -> HttpResponse:
    return redirect("blueprint", slug=version.blueprint.slug, number=version.version)


@needs(versions.MANAGE)
@require_POST
def submit(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    """Ask for the approval of a draft; 422 when that cannot be."""
    version = blueprints.find(slug, number)
    try:
        approval = versions.submit(version=version, by=acting(request))
    except RefusedError as error:
        return _show(request, version, error=str(error), status=422)
    messages.success(request, _("Approval %(number)d is asked for.") % {"number": approval.pk})
    return _to(version)


@needs(versions.MANAGE)
@require_POST
def withdraw(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    """End one's own draft; 422 when that cannot be."""
    return _act(request, slug, number, versions.withdraw, _("The draft is withdrawn."))


@needs(versions.MANAGE)
@require_POST
def revoke(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    """Revoke a version; whoever does has shown lately who they are. 422 when it cannot be."""
    if not is_confirmed(request):
        back = reverse("blueprint", args=[slug, number])
        return redirect(f"{reverse('confirm')}?{urlencode({'next': back})}")
    return _act(request, slug, number, versions.revoke, _("The version is revoked. ARP replaces its agents."))


@needs(versions.MANAGE)
@require_POST
def release(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    """Let agents be made by a halted version again; 422 when that cannot be."""
    return _act(request, slug, number, versions.release, _("The version is released."))


def _act(
    request: HttpRequest, slug: str, number: int, act: Callable[..., BlueprintVersion], done: str
) -> HttpResponse:
    version = blueprints.find(slug, number)
    try:
        act(version=version, by=acting(request), reason=request.POST.get("reason", ""))
    except RefusedError as error:
        return _show(request, version, error=str(error), status=422)
    messages.success(request, done)
    return _to(version)
