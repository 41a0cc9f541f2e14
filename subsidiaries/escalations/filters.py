"""Filters of the API's escalations."""

import django_filters as filters
from django.db.models import QuerySet
from django.utils import timezone

from holding.models import Unit
from subsidiaries.escalations.models import Escalation

SEVERITIES = [(severity.name.lower(), severity.label) for severity in Escalation.Severity]


def _units(_request: object) -> QuerySet[Unit]:
    return Unit.objects.order_by("position")  # those in view of the request, not of the process that began


class EscalationFilter(filters.FilterSet):  # type: ignore[misc]  # django-filter ships no types
    """Escalations by unit, state, matter, severity and agent; open ones, or those that are overdue."""

    unit = filters.ModelChoiceFilter(queryset=_units, to_field_name="slug", help_text="Slug of a unit.")
    state = filters.ChoiceFilter(choices=Escalation.State.choices, help_text="How it stands.")
    matter = filters.ChoiceFilter(choices=Escalation.Matter.choices, help_text="Whose it is at the holding.")
    severity = filters.ChoiceFilter(choices=SEVERITIES, method="as_severe", help_text="How urgent it is.")
    agent = filters.CharFilter(max_length=200, help_text="Subject of the agent that raised it.")
    open = filters.BooleanFilter(method="that_wait", help_text="`true`: raised or taken; `false`: settled.")
    overdue = filters.BooleanFilter(method="that_are_late", help_text="`true`: open, and past their time.")

    class Meta:
        model = Escalation
        fields: list[str] = []

    def as_severe(self, queryset: QuerySet[Escalation], name: str, value: str) -> QuerySet[Escalation]:
        """Keep those of a severity."""
        return queryset.filter(severity=Escalation.Severity[value.upper()])

    def that_wait(self, queryset: QuerySet[Escalation], name: str, value: bool) -> QuerySet[Escalation]:
        """Keep the open ones, or the settled ones."""
        return queryset & Escalation.objects.open() if value else queryset.exclude(settled_at=None)

    def that_are_late(self, queryset: QuerySet[Escalation], name: str, value: bool) -> QuerySet[Escalation]:
        """Keep the open ones whose time is over; with `false` all others."""
        now = timezone.now()
        late = queryset.filter(settled_at=None, due_at__lt=now)
        return late if value else queryset.exclude(settled_at=None, due_at__lt=now)
