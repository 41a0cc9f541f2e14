"""Filters of the API's refused messages and suspect sources."""

import django_filters as filters
from django.db.models import QuerySet

from bus.models import QuarantinedMessage, Suspect
from portal.quarantine import of_unit


class QuarantineFilter(filters.FilterSet):  # type: ignore[misc]  # django-filter ships no types
    """Refused messages by where they came from, why they were refused, and what became of them."""

    stream = filters.CharFilter(max_length=40, help_text="A stream (`CT_EVENTS`), or `request`.")
    stage = filters.ChoiceFilter(
        choices=QuarantinedMessage.Stage.choices, help_text="The check that it did not pass."
    )
    rule = filters.CharFilter(max_length=60, help_text="The rule that it broke, as in the answer.")
    source = filters.CharFilter(max_length=255, help_text="`ce-source`, in full.")
    unit = filters.CharFilter(
        method="of_unit", max_length=24, help_text="Slug of a unit; `-`: of no unit that the holding has."
    )
    state = filters.ChoiceFilter(choices=QuarantinedMessage.State.choices, help_text="What became of it.")
    since = filters.IsoDateTimeFilter("received_at", "gte", help_text="Received at this time or later.")
    until = filters.IsoDateTimeFilter("received_at", "lt", help_text="Received before this time.")

    class Meta:
        model = QuarantinedMessage
        fields: list[str] = []

    def of_unit(
        self, queryset: QuerySet[QuarantinedMessage], name: str, value: str
    ) -> QuerySet[QuarantinedMessage]:
        """Keep the messages of a unit."""
        return of_unit(queryset, value)


class SuspectFilter(filters.FilterSet):  # type: ignore[misc]  # as above
    """Suspect sources by name, and those of now."""

    source = filters.CharFilter(max_length=255, help_text="An agent's subject or `host/<id>`, in full.")
    open = filters.BooleanFilter(
        "closed_at", lookup_expr="isnull", help_text="`true`: suspect now; `false`: no longer."
    )

    class Meta:
        model = Suspect
        fields: list[str] = []
