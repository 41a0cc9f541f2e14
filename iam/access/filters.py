"""Filters of the API's bindings and people."""

import django_filters as filters
from django.db.models import QuerySet

from holding.models import Unit
from iam.access.models import AccessRole, RoleBinding, User
from iam.access.permissions import PERMISSIONS


def _units(_request: object) -> QuerySet[Unit]:
    return Unit.objects.order_by("position")  # those in view of the request, not of the process that began


class BindingFilter(filters.FilterSet):  # type: ignore[misc]  # django-filter ships no types
    """Bindings by person, role, unit, permission; those in force, unless ended and future ones are asked for."""

    person = filters.CharFilter(field_name="user__username", max_length=150, help_text="Username.")
    role = filters.ModelChoiceFilter(
        queryset=AccessRole.objects.all(), to_field_name="slug", help_text="Slug of a role."
    )
    unit = filters.ModelChoiceFilter(queryset=_units, to_field_name="slug", help_text="Slug of the binding's unit.")
    permission = filters.ChoiceFilter(
        choices=[(code, code) for code in PERMISSIONS],
        method="giving",
        help_text="Bindings that give this permission.",
    )
    all = filters.BooleanFilter(method="at_all", help_text="`true`: also those that ended or have not begun.")

    class Meta:
        model = RoleBinding
        fields: list[str] = []

    def filter_queryset(self, queryset: QuerySet[RoleBinding]) -> QuerySet[RoleBinding]:
        """Apply the filters; without `all`, keep those in force."""
        rows: QuerySet[RoleBinding] = super().filter_queryset(queryset)
        return rows if self.form.cleaned_data["all"] else rows & RoleBinding.objects.in_force()

    def giving(self, queryset: QuerySet[RoleBinding], name: str, value: str) -> QuerySet[RoleBinding]:
        """Keep the bindings that give a permission."""
        return queryset & RoleBinding.objects.giving(value)

    def at_all(self, queryset: QuerySet[RoleBinding], name: str, value: bool) -> QuerySet[RoleBinding]:
        """Keep all: see `filter_queryset`."""
        return queryset


class PersonFilter(filters.FilterSet):  # type: ignore[misc]  # as above
    """People by kind and by the beginning of their name."""

    kind = filters.ChoiceFilter(choices=User.Kind.choices, help_text="Kind of account.")
    q = filters.CharFilter(
        field_name="username", lookup_expr="istartswith", max_length=150, help_text="Beginning of the username."
    )

    class Meta:
        model = User
        fields: list[str] = []
