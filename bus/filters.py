"""Filters of the API's directed messages."""

import django_filters as filters
from django.db.models import QuerySet

from bus.models import DirectedMessage
from claytom_agent.messages import BY_CE_TYPE
from claytom_agent.subjects import ROOT


class DirectedMessageFilter(filters.FilterSet):  # type: ignore[misc]  # django-filter ships no types
    """Directed messages by unit, agent, type and state."""

    unit = filters.CharFilter(method="of_unit", max_length=24, help_text="Slug of a unit.")
    agent = filters.CharFilter(field_name="address", max_length=120, help_text="Subject of an agent.")
    type = filters.ChoiceFilter(
        choices=[(kind.name, kind.name) for kind in BY_CE_TYPE.values() if kind.receiver == "agent"],
        method="of_type",
        help_text="Name of the message (`work.offer`).",
    )
    state = filters.ChoiceFilter(choices=DirectedMessage.State.choices, help_text="What became of it.")

    class Meta:
        model = DirectedMessage
        fields: list[str] = []

    def of_unit(self, queryset: QuerySet[DirectedMessage], name: str, value: str) -> QuerySet[DirectedMessage]:
        """Keep the messages to agents of a unit."""
        return queryset.filter(address__startswith=f"{ROOT}.{value}.") if "\0" not in value else queryset.none()

    def of_type(self, queryset: QuerySet[DirectedMessage], name: str, value: str) -> QuerySet[DirectedMessage]:
        """Keep the messages of a type."""
        return queryset.filter(type=f"{ROOT}.{value}.v1")
