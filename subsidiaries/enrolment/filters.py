"""Filters of the list of enrolments."""

from typing import Any

import django_filters
from django.db.models import QuerySet

from subsidiaries.enrolment.models import Enrolment


class EnrolmentFilter(django_filters.FilterSet):  # type: ignore[misc]  # django-filter ships no types
    """Enrolments by unit, and those that have not ended."""

    unit = django_filters.CharFilter(field_name="unit__slug", help_text="Slug of the unit.")
    open = django_filters.BooleanFilter(method="of_open", help_text="`true`: those that have not ended.")

    class Meta:
        model = Enrolment
        fields: tuple[str, ...] = ()

    def of_open(self, rows: QuerySet[Enrolment], name: str, value: Any) -> QuerySet[Enrolment]:
        """Keep those that have not ended, or only those that have."""
        return rows.filter(ended_at=None) if value else rows.exclude(ended_at=None)
