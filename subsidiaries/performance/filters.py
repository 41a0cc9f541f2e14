"""Filters of the API's KPIs."""

import django_filters as filters
from django.utils.translation import gettext_lazy as _

from holding.models import Unit
from holding.services import role_choices
from subsidiaries.performance.models import KpiMinute


class KpiMinuteFilter(filters.FilterSet):  # type: ignore[misc]  # django-filter ships no types
    """Minutes by unit, role and time."""

    unit = filters.ModelChoiceFilter(queryset=Unit.objects.all(), to_field_name="slug", help_text="Slug of a unit.")
    role = filters.ChoiceFilter(
        choices=role_choices,
        help_text="A role of subsidiaries (`operator`), or a body of the parent company (`c-suite`).",
    )
    since = filters.IsoDateTimeFilter(
        field_name="minute",
        lookup_expr="gte",
        error_messages={"invalid": _("Write a time as in ISO 8601: 2026-11-22T16:40:00Z.")},
        help_text="Minutes from this time on (ISO 8601), such as `2026-11-22T16:40:00Z`.",
    )

    class Meta:
        model = KpiMinute
        fields: list[str] = []
