"""Filters of the API's seats."""

import django_filters as filters
from django.db.models import QuerySet

from holding.models import Division, Role, Seat, Unit
from holding.services import role_choices


class SeatFilter(filters.FilterSet):  # type: ignore[misc]  # django-filter ships no types
    """Seats by unit, role, division and code."""

    unit = filters.ModelChoiceFilter(queryset=Unit.objects.all(), to_field_name="slug", help_text="Slug of a unit.")
    role = filters.ChoiceFilter(
        choices=role_choices,
        method="of_role",
        help_text="A role of subsidiaries (`operator`), or a body of the parent company (`c-suite`).",
    )
    division = filters.ModelChoiceFilter(
        queryset=Division.objects.all(), to_field_name="key", help_text="Key of a division, such as `pricing.1`."
    )
    q = filters.CharFilter(
        field_name="code", lookup_expr="istartswith", max_length=30, help_text="Beginning of the seat's code."
    )

    class Meta:
        model = Seat
        fields: list[str] = []

    def of_role(self, queryset: QuerySet[Seat], name: str, value: str) -> QuerySet[Seat]:
        """Keep the seats of a role or body."""
        role = Role.objects.filter(slug=value).first()  # by id: the planner knows how many each has
        if role is not None:
            return queryset.filter(role=role)
        return queryset.filter(body__slug=value)
