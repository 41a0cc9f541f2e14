"""Filters of the API: of approvals, and of who holds authority."""

from typing import Any

import django_filters as filters
from django.db.models import Q, QuerySet

from holding import clock
from holding.models import Unit
from iam.authority import services
from iam.authority.models import (
    Appointment,
    Approval,
    Delegation,
    ExchangeRate,
    Interest,
    Matter,
    Office,
    Substitution,
)


def _units(_request: object) -> QuerySet[Unit]:
    return Unit.objects.order_by("position")  # those in view of the request, not of the process that began


class ApprovalFilter(filters.FilterSet):  # type: ignore[misc]  # django-filter ships no types
    """Approvals by state, matter and unit."""

    state = filters.ChoiceFilter(choices=Approval.State.choices)
    matter = filters.ModelChoiceFilter(
        queryset=Matter.objects.all(), to_field_name="slug", help_text="Slug of a matter."
    )
    unit = filters.ModelChoiceFilter(queryset=_units, to_field_name="slug", help_text="Slug of a unit.")

    class Meta:
        model = Approval
        fields: list[str] = []


class HeldFilter(filters.FilterSet):  # type: ignore[misc]  # as above
    """What holds for a time: one's own, and also what has ended when that is asked for."""

    own: tuple[str, ...] = ("person",)
    mine = filters.BooleanFilter(method="of_caller", help_text="`true`: only the caller's own.")
    all = filters.BooleanFilter(method="at_all", help_text="`true`: also what has ended.")

    def filter_queryset(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Apply the filters; without `all`, leave out what has ended."""
        rows: QuerySet[Any] = super().filter_queryset(queryset)
        return rows if self.form.cleaned_data["all"] else rows.filter(services.not_ended(clock.now()))

    def of_caller(self, queryset: QuerySet[Any], name: str, value: bool) -> QuerySet[Any]:
        """Keep what is the caller's own."""
        own = Q()
        for field in self.own:
            own |= Q(**{field: self.request.user})
        return queryset.filter(own) if value else queryset

    def at_all(self, queryset: QuerySet[Any], name: str, value: bool) -> QuerySet[Any]:
        """Keep all: see `filter_queryset`."""
        return queryset


class AppointmentFilter(HeldFilter):
    """Appointments by office, unit and person."""

    office = filters.ModelChoiceFilter(
        queryset=Office.objects.all(), to_field_name="slug", help_text="Slug of an office."
    )
    unit = filters.ModelChoiceFilter(queryset=_units, to_field_name="slug", help_text="Slug of a unit.")
    person = filters.CharFilter(field_name="person__username", max_length=150, help_text="Username.")

    class Meta:
        model = Appointment
        fields: list[str] = []


class DelegationFilter(HeldFilter):
    """Delegations: the caller's own are those given and those received."""

    own = ("delegator", "person")

    class Meta:
        model = Delegation
        fields: list[str] = []


class SubstitutionFilter(HeldFilter):
    """Substitutions: the caller's own are those of the caller and those by the caller."""

    own = ("person", "substitute")

    class Meta:
        model = Substitution
        fields: list[str] = []


class InterestFilter(HeldFilter):
    """Interests."""

    class Meta:
        model = Interest
        fields: list[str] = []


class RateFilter(filters.FilterSet):  # type: ignore[misc]  # as above
    """Exchange rates by currency."""

    currency = filters.CharFilter(max_length=3, help_text="Three capital letters.")

    class Meta:
        model = ExchangeRate
        fields: list[str] = []
