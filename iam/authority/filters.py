"""Filters of the API's approvals."""

import django_filters as filters

from holding.models import Unit
from iam.authority.models import Approval, Matter


class ApprovalFilter(filters.FilterSet):  # type: ignore[misc]  # django-filter ships no types
    """Approvals by state, matter and unit."""

    state = filters.ChoiceFilter(choices=Approval.State.choices)
    matter = filters.ModelChoiceFilter(
        queryset=Matter.objects.all(), to_field_name="slug", help_text="Slug of a matter."
    )
    unit = filters.ModelChoiceFilter(
        queryset=lambda _request: Unit.objects.all(), to_field_name="slug", help_text="Slug of a unit."
    )

    class Meta:
        model = Approval
        fields: list[str] = []
