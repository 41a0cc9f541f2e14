"""`/iam/groups/`: what membership in groups of the identity provider gives."""

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from holding import scope
from iam.access.forms import GroupForm
from iam.access.rights import RefusedError
from iam.access.roles import groups_in_view, map_group, unmap_group
from iam.access.rules import needs
from portal.keyset import page, position
from portal.views.access import tabs
from portal.views.answers import acting, answer, with_query

PAGE_SIZE = 50


@needs("people.view")
@require_safe
def listing(request: HttpRequest) -> HttpResponse:
    """Show what groups give in view, the newest first, and the form that adds to it."""
    return _listing(request, GroupForm())


def _listing(request: HttpRequest, form: GroupForm, *, error: str = "", status: int = 200) -> HttpResponse:
    found = page(groups_in_view(), position(request), size=PAGE_SIZE, newest_first=True)
    context = {
        "groups": found.rows,
        "form": form,
        "error": error,
        "may_map": scope.current().has("bindings.grant"),
        "previous": status == 200
        and found.previous
        and with_query(request, before=str(found.previous), after=None),
        "next": status == 200 and found.next and with_query(request, after=str(found.next), before=None),
        "tabs": tabs(request),
    }
    return answer(request, "access/groups.html", context, as_of=timezone.now(), status=status)


@needs("bindings.grant")
@require_POST
def add(request: HttpRequest) -> HttpResponse:
    """Let a group give a role."""
    form = GroupForm(request.POST)
    if form.is_valid():
        try:
            map_group(by=acting(request), **form.cleaned_data)
            return HttpResponseRedirect(reverse("access-groups"))
        except RefusedError as error:
            form.add_error(None, str(error))
    return _listing(request, form, status=422)


@needs("bindings.grant")
@require_POST
def remove(request: HttpRequest, number: int) -> HttpResponse:
    """Let a group give a role no more. Raises Http404 for what is out of view."""
    mapping = groups_in_view().filter(pk=number).first()
    if mapping is None:
        raise Http404(_("There is no such mapping."))
    try:
        unmap_group(by=acting(request), mapping=mapping)
    except RefusedError as error:
        return _listing(request, GroupForm(), error=str(error), status=422)
    return HttpResponseRedirect(reverse("access-groups"))
