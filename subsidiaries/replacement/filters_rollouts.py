"""Filters of the API's blueprint versions and rollouts."""

import django_filters as filters

from holding.models import Blueprint, BlueprintVersion, Unit
from subsidiaries.replacement.rollout_models import Rollout


class VersionFilter(filters.FilterSet):  # type: ignore[misc]  # django-filter ships no types
    """Blueprint versions by blueprint and state."""

    blueprint = filters.ModelChoiceFilter(
        queryset=Blueprint.objects.all(), to_field_name="slug", help_text="Slug of a role or body."
    )
    state = filters.ChoiceFilter(choices=BlueprintVersion.State.choices, help_text="How it stands.")

    class Meta:
        model = BlueprintVersion
        fields: list[str] = []


class RolloutFilter(filters.FilterSet):  # type: ignore[misc]
    """Rollouts by unit, blueprint and state."""

    unit = filters.ModelChoiceFilter(queryset=Unit.objects.all(), to_field_name="slug", help_text="Slug of a unit.")
    blueprint = filters.ModelChoiceFilter(
        queryset=Blueprint.objects.all(), to_field_name="slug", help_text="Slug of a role or body."
    )
    state = filters.ChoiceFilter(choices=Rollout.State.choices, help_text="How it stands.")

    class Meta:
        model = Rollout
        fields: list[str] = []
