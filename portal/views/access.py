"""`/iam/`: who can do what, and why; grants and revocations."""

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from holding import scope
from iam.access import explaining
from iam.access.bindings import grant_role, plan_grant, revoke_binding
from iam.access.forms import GrantForm
from iam.access.models import RoleBinding, User
from iam.access.permissions import PERMISSIONS
from iam.access.rights import RefusedError
from iam.access.rules import needs
from portal.agents import unit_choices
from portal.keyset import page, position
from portal.views.answers import acting, answer, with_query

PAGE_SIZE = 50


@needs("people.view")
@require_safe
def listing(request: HttpRequest) -> HttpResponse:
    """List the bindings in force: of one person or all, those that reach a unit, those that give a permission."""
    name = request.GET.get("person", "").replace("\x00", "")[:150]
    slug = request.GET.get("unit", "")[:24]
    code = request.GET.get("permission", "")
    code = code if code in PERMISSIONS else ""
    units = unit_choices()
    unit = next((one for one in units if one.slug == slug), None)
    rows = explaining.who_can(permission=code, unit=unit)
    if name:
        rows = rows.filter(user__username__istartswith=name)
    if slug and unit is None:
        rows = rows.none()
    found = page(rows, position(request), size=PAGE_SIZE)
    context = {
        "bindings": [(one, explaining.is_over_wide(one), explaining.is_dormant(one.user)) for one in found.rows],
        "superusers": explaining.superusers().filter(username__istartswith=name),
        "units": units,
        "permissions": PERMISSIONS.items(),
        "name": name,
        "unit": slug,
        "permission": code,
        "previous": found.previous and with_query(request, before=str(found.previous), after=None),
        "next": found.next and with_query(request, after=str(found.next), before=None),
        "tabs": tabs(request),
        "may_grant": scope.current().has("bindings.grant"),
    }
    return answer(request, "access/listing.html", context, as_of=timezone.now())


def tabs(request: HttpRequest) -> list[dict[str, str]]:
    """Return the pages about access, and which of them this is."""
    entries = [
        ("access", _("Who can do what")),
        ("access-roles", _("Roles")),
        ("access-groups", _("Groups")),
        ("access-services", _("Services")),
        ("access-emergencies", _("Emergency access")),
    ]
    if scope.current().has("reviews.conduct"):
        entries.append(("access-reviews", _("Reviews")))
    name = request.resolver_match.url_name if request.resolver_match else ""
    return [
        {"url": reverse(entry), "name": label, "current": "page" if entry == name else ""}
        for entry, label in entries
    ]


@needs("people.view")
@require_safe
def person(request: HttpRequest, username: str) -> HttpResponse:
    """Show somebody in view: what they may do now, why, until when, and what they held or will hold."""
    return _person(request, _visible(username))


def _visible(username: str) -> User:
    people = explaining.people_in_view().select_related("owner")
    return get_object_or_404(people, username=username.replace("\x00", ""))


def _person(
    request: HttpRequest, user: User, *, error: str = "", revoking: int = 0, status: int = 200
) -> HttpResponse:
    # The newest hundred: whoever had more is better looked up in the ledger.
    bindings = user.bindings.all().in_view().for_listing().order_by("-id")[:100]
    now = timezone.now()
    context = {
        "person": user,
        "reasons": explaining.explain(user),
        "bindings": [(one, _time_of(one), explaining.is_over_wide(one)) for one in bindings],
        "dormant": explaining.is_dormant(user),
        "may_grant": scope.current().has("bindings.grant"),
        "tabs": tabs(request),
        "error": error,
        "revoking": revoking,
        "reason": request.POST.get("reason", ""),
    }
    return answer(request, "access/person.html", context, as_of=now, status=status)


def _time_of(binding: RoleBinding) -> str:
    """Return where a binding stands in time: `past`, `now` or `future`."""
    now = timezone.now()
    if binding.ends_at and binding.ends_at <= now:
        return "past"
    return "future" if binding.starts_at > now else "now"


@needs("bindings.grant")
@require_http_methods(["GET", "HEAD", "POST"])
def grant(request: HttpRequest) -> HttpResponse:
    """Ask for a grant; show what it would change; make it when that is confirmed."""
    if request.method != "POST":
        form = GrantForm(initial={"person": request.GET.get("person", ""), "unit": request.GET.get("unit", "")})
        return _grant_page(request, form)
    form = GrantForm(request.POST)
    if not form.is_valid():
        return _grant_page(request, form, status=422)
    wanted = form.wanted()
    try:
        if "confirm" not in request.POST:
            return _grant_page(request, form, plan=plan_grant(by=acting(request), **wanted))
        binding = grant_role(by=acting(request), **wanted)
    except RefusedError as error:
        form.add_error(None, str(error))
        return _grant_page(request, form, status=422)
    if explaining.people_in_view().filter(pk=binding.user_id).exists():
        return HttpResponseRedirect(reverse("access-person", args=[binding.user.username]))
    return HttpResponseRedirect(reverse("access"))  # it begins later: until then the person may be out of view


def _grant_page(request: HttpRequest, form: GrantForm, *, plan: Any = None, status: int = 200) -> HttpResponse:
    context = {
        "form": form,
        "plan": plan,
        "gains": explaining.permission_names(plan.gains) if plan else [],
        "has": explaining.permission_names(plan.has) if plan else [],
        "tabs": tabs(request),
    }
    return answer(request, "access/grant.html", context, status=status)


@needs("bindings.grant")
@require_POST
def revoke(request: HttpRequest, binding: int) -> HttpResponse:
    """End a binding now, with a reason. Raises Http404 for one that is out of view."""
    found = RoleBinding.objects.in_view().select_related("user", "role", "unit").filter(pk=binding).first()
    if found is None:
        raise Http404(_("There is no such binding."))
    try:
        revoke_binding(by=acting(request), binding=found, reason=request.POST.get("reason", ""))
    except RefusedError as error:
        return _person(request, found.user, error=str(error), revoking=found.pk, status=422)
    if explaining.people_in_view().filter(pk=found.user_id).exists():
        return HttpResponseRedirect(reverse("access-person", args=[found.user.username]))
    return HttpResponseRedirect(reverse("access"))
