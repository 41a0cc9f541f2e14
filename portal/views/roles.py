"""`/iam/roles/`: what each role gives; those of the house are defined here."""

from django.core.exceptions import ValidationError
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from holding import scope
from iam.access import explaining
from iam.access.forms import RoleForm
from iam.access.models import AccessRole, RoleBinding
from iam.access.permissions import PERMISSIONS
from iam.access.rights import RefusedError
from iam.access.roles import change_role, define_role
from iam.access.rules import needs
from portal.views.access import tabs
from portal.views.answers import acting, answer


@needs("people.view")
@require_safe
def listing(request: HttpRequest) -> HttpResponse:
    """List the roles, what they give, and how many bindings in view there are of each."""
    return _listing(request)


def _listing(request: HttpRequest) -> HttpResponse:
    bound = RoleBinding.objects.in_force().in_view().values("pk")
    roles = AccessRole.objects.annotate(bound=Count("bindings", filter=Q(bindings__in=bound)))
    context = {
        "roles": [(role, explaining.permission_names(role.permissions)) for role in roles],
        "may_manage": scope.current().has("roles.manage"),
        "tabs": tabs(request),
    }
    return answer(request, "access/roles.html", context, as_of=timezone.now())


@needs("roles.manage")
@require_http_methods(["GET", "HEAD", "POST"])
def define(request: HttpRequest) -> HttpResponse:
    """Ask for a new role, and define it."""
    form = RoleForm(request.POST if request.method == "POST" else None)
    if request.method != "POST":
        return _form(request, form)
    if form.is_valid():
        try:
            define_role(by=acting(request), **form.cleaned_data)
            return HttpResponseRedirect(reverse("access-roles"))
        except RefusedError as error:
            form.add_error(None, str(error))
        except ValidationError as error:
            form.add_error("slug", error)
    return _form(request, form, status=422)


@needs("roles.manage")
@require_http_methods(["GET", "HEAD", "POST"])
def change(request: HttpRequest, slug: str) -> HttpResponse:
    """Show a role's permissions, what a change would add and remove, and change it when that is confirmed."""
    role = get_object_or_404(AccessRole, slug=slug)
    start = {
        "slug": role.slug, "name_es": role.name_es, "name_en": role.name_en, "permissions": role.permissions,
    }  # fmt: skip
    if request.method != "POST":
        return _form(request, RoleForm(initial=start), role)
    form = RoleForm({**request.POST.dict(), "permissions": request.POST.getlist("permissions"), "slug": slug})
    if not form.is_valid():
        return _form(request, form, role, status=422)
    wanted = {name: form.cleaned_data[name] for name in ("name_es", "name_en", "permissions")}
    if "confirm" not in request.POST:
        return _form(request, form, role)
    try:
        change_role(by=acting(request), role=role, **wanted)
    except RefusedError as error:
        form.add_error(None, str(error))
        return _form(request, form, role, status=422)
    return HttpResponseRedirect(reverse("access-roles"))


def _form(
    request: HttpRequest, form: RoleForm, role: AccessRole | None = None, *, status: int = 200
) -> HttpResponse:
    wanted = set(form.cleaned_data.get("permissions", [])) if form.is_bound and form.is_valid() else set()
    planned = role is not None and bool(wanted) and status == 200
    before = set(role.permissions) if role else set()
    context = {
        "form": form,
        "role": role,
        "planned": planned,
        "added": explaining.permission_names(wanted - before) if planned else [],
        "removed": explaining.permission_names(before - wanted) if planned else [],
        "holders": role.bindings.in_force().count() if role else 0,
        "permissions": PERMISSIONS.items(),
        "heading": role.name if role else _("Define a role"),
        "tabs": tabs(request),
    }
    return answer(request, "access/role.html", context, status=status)
