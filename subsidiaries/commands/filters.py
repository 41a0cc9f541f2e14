"""Filters of commands."""

import django_filters as filters

from holding.models import Unit
from subsidiaries.commands.models import Command


class CommandFilter(filters.FilterSet):  # type: ignore[misc]  # django-filter ships no types
    """Commands by unit, verb and state."""

    unit = filters.ModelChoiceFilter(queryset=Unit.objects.all(), to_field_name="slug", help_text="Slug of a unit.")
    verb = filters.ChoiceFilter(choices=Command.Verb.choices, help_text="What was ordered.")
    state = filters.ChoiceFilter(choices=Command.State.choices, help_text="How it stands.")

    class Meta:
        model = Command
        fields: list[str] = []
