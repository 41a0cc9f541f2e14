"""Filters of the lists about access."""

import django_filters as filters
from django.db.models import QuerySet
from django.utils import timezone

from holding.models import Unit
from iam.access.models import (
    AccessReview,
    AccessRole,
    ApiToken,
    EmergencyAccess,
    GroupMapping,
    Invitation,
    ReviewItem,
    RoleBinding,
    User,
)
from iam.access.permissions import PERMISSIONS


def _units(_request: object) -> QuerySet[Unit]:
    return Unit.objects.order_by("position")  # those in view of the request, not of the process that began


class BindingFilter(filters.FilterSet):  # type: ignore[misc]  # django-filter ships no types
    """Bindings by person, role, unit, permission; those in force, unless ended and future ones are asked for."""

    person = filters.CharFilter(field_name="user__username", max_length=150, help_text="Username.")
    role = filters.ModelChoiceFilter(
        queryset=AccessRole.objects.all(), to_field_name="slug", help_text="Slug of a role."
    )
    unit = filters.ModelChoiceFilter(queryset=_units, to_field_name="slug", help_text="Slug of the binding's unit.")
    permission = filters.ChoiceFilter(
        choices=[(code, code) for code in PERMISSIONS],
        method="giving",
        help_text="Bindings that give this permission.",
    )
    all = filters.BooleanFilter(method="at_all", help_text="`true`: also those that ended or have not begun.")

    class Meta:
        model = RoleBinding
        fields: list[str] = []

    def filter_queryset(self, queryset: QuerySet[RoleBinding]) -> QuerySet[RoleBinding]:
        """Apply the filters; without `all`, keep those in force."""
        rows: QuerySet[RoleBinding] = super().filter_queryset(queryset)
        return rows if self.form.cleaned_data["all"] else rows & RoleBinding.objects.in_force()

    def giving(self, queryset: QuerySet[RoleBinding], name: str, value: str) -> QuerySet[RoleBinding]:
        """Keep the bindings that give a permission."""
        return queryset & RoleBinding.objects.giving(value)

    def at_all(self, queryset: QuerySet[RoleBinding], name: str, value: bool) -> QuerySet[RoleBinding]:
        """Keep all: see `filter_queryset`."""
        return queryset


class PersonFilter(filters.FilterSet):  # type: ignore[misc]  # as above
    """People by kind and by the beginning of their name."""

    kind = filters.ChoiceFilter(choices=User.Kind.choices, help_text="Kind of account.")
    q = filters.CharFilter(
        field_name="username", lookup_expr="istartswith", max_length=150, help_text="Beginning of the username."
    )

    class Meta:
        model = User
        fields: list[str] = []


class GroupFilter(filters.FilterSet):  # type: ignore[misc]  # as above
    """Mappings by group, role and unit."""

    group = filters.CharFilter(max_length=200, help_text="Name of the group.")
    role = filters.ModelChoiceFilter(
        queryset=AccessRole.objects.all(), to_field_name="slug", help_text="Slug of a role."
    )
    unit = filters.ModelChoiceFilter(queryset=_units, to_field_name="slug", help_text="Slug of the mapping's unit.")

    class Meta:
        model = GroupMapping
        fields: list[str] = []


class AccountFilter(filters.FilterSet):  # type: ignore[misc]  # as above
    """Accounts of services and agents, by kind, owner and the beginning of their name."""

    kind = filters.ChoiceFilter(
        choices=[(kind, kind.label) for kind in User.Kind if kind != User.Kind.PERSON], help_text="Kind of account."
    )
    owner = filters.CharFilter(field_name="owner__username", max_length=150, help_text="Username of the owner.")
    q = filters.CharFilter(
        field_name="username", lookup_expr="istartswith", max_length=150, help_text="Beginning of the username."
    )

    class Meta:
        model = User
        fields: list[str] = []


class TokenFilter(filters.FilterSet):  # type: ignore[misc]  # as above
    """Tokens by account."""

    account = filters.CharFilter(
        field_name="user__username", max_length=150, help_text="Username of the service or the agent."
    )

    class Meta:
        model = ApiToken
        fields: list[str] = []


class EmergencyFilter(filters.FilterSet):  # type: ignore[misc]  # as above
    """Emergency access by person, role and unit; or only what waits for a second person."""

    person = filters.CharFilter(field_name="user__username", max_length=150, help_text="Username.")
    role = filters.ModelChoiceFilter(
        queryset=AccessRole.objects.all(), to_field_name="slug", help_text="Slug of a role."
    )
    unit = filters.ModelChoiceFilter(queryset=_units, to_field_name="slug", help_text="Slug of the unit it is for.")
    waiting = filters.BooleanFilter(method="that_wait", help_text="`true`: only what can be decided now.")

    class Meta:
        model = EmergencyAccess
        fields: list[str] = []

    def that_wait(self, queryset: QuerySet[EmergencyAccess], name: str, value: bool) -> QuerySet[EmergencyAccess]:
        """Keep what waits, or all."""
        waiting = EmergencyAccess.objects.waiting(timezone.now())
        return queryset.filter(pk__in=waiting.values("pk")) if value else queryset


class ReviewFilter(filters.FilterSet):  # type: ignore[misc]  # as above
    """Reviews by reviewer and unit; open ones or closed ones."""

    reviewer = filters.CharFilter(field_name="reviewer__username", max_length=150, help_text="Username.")
    unit = filters.ModelChoiceFilter(queryset=_units, to_field_name="slug", help_text="Slug of the unit it is of.")
    open = filters.BooleanFilter(
        field_name="closed_at", lookup_expr="isnull", help_text="`true`: not closed yet; `false`: closed."
    )

    class Meta:
        model = AccessReview
        fields: list[str] = []


class ReviewItemFilter(filters.FilterSet):  # type: ignore[misc]  # as above
    """Bindings in a review by what was said of them."""

    verdict = filters.ChoiceFilter(choices=ReviewItem.Verdict.choices, help_text="What was said.")
    undecided = filters.BooleanFilter(method="that_wait", help_text="`true`: only those not decided yet.")

    class Meta:
        model = ReviewItem
        fields: list[str] = []

    def that_wait(self, queryset: QuerySet[ReviewItem], name: str, value: bool) -> QuerySet[ReviewItem]:
        """Keep what is not decided, or all."""
        return queryset.filter(verdict="") if value else queryset


class InvitationFilter(filters.FilterSet):  # type: ignore[misc]  # as above
    """Open invitations by the beginning of the address."""

    email = filters.CharFilter(lookup_expr="istartswith", max_length=254, help_text="Beginning of the address.")

    class Meta:
        model = Invitation
        fields: list[str] = []
