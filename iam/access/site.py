"""The admin's door and its rule: one sign-in, the clearance, and nothing written past the services."""

from typing import Any

from django.contrib import messages
from django.contrib.admin import AdminSite, ModelAdmin
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from holding.scope import VIEW, Scope
from iam.access.rights import RefusedError

COUNTED = 10_000


class BoundedPaginator(Paginator):
    """Counts to ten thousand and no further, so that a list costs the same however long it is."""

    @cached_property
    def count(self) -> int:
        """The number of rows, or one more than `COUNTED` when there are more."""
        rows: QuerySet[Any] = self.object_list  # type: ignore[assignment]  # the admin gives nothing else
        return rows.order_by()[: COUNTED + 1].count()


class GatedAdmin(ModelAdmin):
    """Lists that stay quick at any number of rows, for those who hold the permission that the list names.

    `permission` is the code that one must hold to look, `write_permission` the one to write, which only an admin
    that writes by services has. A list that names none is closed to everybody. Only the rows of units are cut to
    what is in view, so every permission but that to see units must be held for the whole holding.
    """

    paginator = BoundedPaginator
    show_full_result_count = False
    list_per_page = 50
    list_max_show_all = 50
    actions = None

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether whoever asks may look."""
        return _may(request, getattr(self, "permission", ""))

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return whether whoever asks may add a row."""
        return _may(request, getattr(self, "write_permission", ""))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether whoever asks may change a row."""
        return _may(request, getattr(self, "write_permission", ""))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether whoever asks may delete a row."""
        return _may(request, getattr(self, "write_permission", ""))

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Return whether the index shows the list."""
        return self.has_view_permission(request)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Return whether a list may be asked by that column: by its filters only, or answers could be guessed."""
        filters = [one[0] if isinstance(one, tuple) else one for one in self.get_list_filter(request)]
        offered = lookup.partition("__")[0] in ("pk", "id", *filters)
        return offered and super().lookup_allowed(lookup, value, request)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        """Answer with the form; what a service refuses leads back to it with the sentence."""
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except RefusedError as error:
            return self._refused(request, error)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> Any:
        """Answer with the question; what a service refuses leads back to it with the sentence."""
        try:
            return super().delete_view(request, object_id, extra_context)
        except RefusedError as error:
            return self._refused(request, error)

    def _refused(self, request: HttpRequest, error: RefusedError) -> HttpResponse:
        messages.error(request, str(error))
        return HttpResponseRedirect(request.get_full_path())


def _may(request: HttpRequest, code: str) -> bool:
    held: Scope = request.scope  # type: ignore[attr-defined]
    return bool(code) and held.has(code) and (code == VIEW or held.units(code) is None)


class ReadOnlyAdmin(GatedAdmin):
    """Looks at rows; changes none. Columns are not sorted by, since few of them have an index."""

    sortable_by = ()

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return False."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False."""
        return False


class PortalAdminSite(AdminSite):
    """Stock admin. It has no sign-in of its own, so that the portal's limits on attempts hold here too.

    Every model is read-only, unless its admin says `writes_by_services = True`, and then keeps the word.
    """

    site_header = gettext_lazy("ClayTomSystems Holding")
    site_title = gettext_lazy("Administration")
    index_title = gettext_lazy("Administration")
    enable_nav_sidebar = False

    def register(self, model_or_iterable: Any, admin_class: type[ModelAdmin] | None = None, **options: Any) -> None:
        """Register models, each read-only unless its admin writes by services."""
        given = admin_class or ModelAdmin
        # Who writes by services may refuse more than the gate does; who does not cannot allow more than nothing.
        bases = (given, GatedAdmin) if getattr(given, "writes_by_services", False) else (ReadOnlyAdmin, given)
        admin_class = type(given.__name__, bases, {"__module__": given.__module__, "__doc__": given.__doc__})
        super().register(model_or_iterable, admin_class, **options)

    def has_permission(self, request: HttpRequest) -> bool:
        """Return whether the person is active, staff, cleared, and holds `admin.use`."""
        cleared = super().has_permission(request) and bool(getattr(request.user, "cleared", False))
        return cleared and _may(request, "admin.use")

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Lead strangers to the portal's sign-in; refuse the others. Raises PermissionDenied."""
        if self.has_permission(request):
            return HttpResponseRedirect(reverse("admin:index"))
        if request.user.is_authenticated:
            raise PermissionDenied(
                _("The administration needs the staff mark, the clearance and the permission admin.use.")
            )
        return redirect_to_login(request.GET.get("next") or reverse("admin:index"))

    def password_change(  # type: ignore[override]  # a redirect; the base class answers with a page
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Lead to the portal's page, which limits attempts, writes the ledger and ends other sessions."""
        return HttpResponseRedirect(reverse("password"))

    def password_change_done(  # type: ignore[override]  # as above
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Lead to the portal's page too."""
        return HttpResponseRedirect(reverse("account"))
