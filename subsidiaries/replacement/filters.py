"""Filters of the API's agents and replacements."""

import django_filters as filters
from django.db.models import QuerySet
from django.utils import timezone

from holding.lifecycle import ENDED, Stage
from holding.models import Agent, Role, Unit
from holding.services import role_choices
from subsidiaries.replacement.models import FencedHost, Incident, Replacement, SeatBackoff, ServiceLevel
from subsidiaries.replacement.planning import CapDelegation, Retirement
from subsidiaries.replacement.shown import SHOWN_STATES, in_shown_state

SUBJECT_START = "org."


def _units(_request: object) -> QuerySet[Unit]:
    return Unit.objects.order_by("position")  # those in view of the request, not of the process that began


class AgentFilter(filters.FilterSet):  # type: ignore[misc]  # django-filter ships no types
    """Agents by unit, role, state and identity; those in office, unless former ones are asked for."""

    unit = filters.ModelChoiceFilter(queryset=Unit.objects.all(), to_field_name="slug", help_text="Slug of a unit.")
    role = filters.ChoiceFilter(
        choices=role_choices,
        method="of_role",
        help_text="A role of subsidiaries (`operator`), or a body of the parent company (`c-suite`).",
    )
    state = filters.ChoiceFilter(
        choices=SHOWN_STATES,
        method="in_state",
        help_text="Agents in this state. `replaced` lists former agents; without it, those in office are listed.",
    )
    stage = filters.ChoiceFilter(
        choices=Stage.choices,
        help_text="Agents in this stage. `retired` and `replaced` list former agents.",
    )
    q = filters.CharFilter(
        method="matching",
        max_length=120,
        help_text="Beginning of the agent's id (`op-0042`), or of its subject (`org.claytom.pricing.`).",
    )

    class Meta:
        model = Agent
        fields: list[str] = []

    def filter_queryset(self, queryset: QuerySet[Agent]) -> QuerySet[Agent]:
        """Apply the filters; without a state, and a stage in which agents end, keep those in office."""
        rows: QuerySet[Agent] = super().filter_queryset(queryset)
        asked = self.form.cleaned_data
        return rows if asked["state"] or asked["stage"] in ENDED else self.unfiltered(rows)

    @staticmethod
    def unfiltered(queryset: QuerySet[Agent]) -> QuerySet[Agent]:
        """Return the agents that are listed when nothing is asked for: those in office."""
        return queryset.filter(retired_at=None)

    def of_role(self, queryset: QuerySet[Agent], name: str, value: str) -> QuerySet[Agent]:
        """Keep the agents on seats of a role or body."""
        role = Role.objects.filter(slug=value).first()  # by id: the planner knows how many each has
        if role is not None:
            return queryset.filter(seat__role=role)
        return queryset.filter(seat__body__slug=value)

    def in_state(self, queryset: QuerySet[Agent], name: str, value: str) -> QuerySet[Agent]:
        """Keep the agents that are shown in that state."""
        return in_shown_state(queryset, value, now=timezone.now())

    def matching(self, queryset: QuerySet[Agent], name: str, value: str) -> QuerySet[Agent]:
        """Keep the agents whose id, or subject, begins so."""
        words = value.strip().lower()
        if words.startswith(SUBJECT_START):
            return queryset.filter(subject__startswith=words)
        return queryset.filter(agent_id__startswith=words)


class ReplacementFilter(filters.FilterSet):  # type: ignore[misc]
    """Replacements by unit and reason."""

    unit = filters.ModelChoiceFilter(queryset=Unit.objects.all(), to_field_name="slug", help_text="Slug of a unit.")
    reason = filters.ChoiceFilter(choices=Replacement.Reason.choices, help_text="Why the seat got a new agent.")

    class Meta:
        model = Replacement
        fields: list[str] = []


class FencedHostFilter(filters.FilterSet):  # type: ignore[misc]
    """Fenced hosts by unit and reason."""

    unit = filters.ModelChoiceFilter(
        field_name="division__unit",
        queryset=Unit.objects.all(),
        to_field_name="slug",
        help_text="Slug of a unit.",
    )
    standing = filters.ChoiceFilter(choices=FencedHost.Standing.choices, help_text="Why they do not count.")

    class Meta:
        model = FencedHost
        fields: list[str] = []


class RetirementFilter(filters.FilterSet):  # type: ignore[misc]
    """Planned retirements by unit and state."""

    unit = filters.ModelChoiceFilter(queryset=Unit.objects.all(), to_field_name="slug", help_text="Slug of a unit.")
    state = filters.ChoiceFilter(choices=Retirement.State.choices, help_text="How it stands.")

    class Meta:
        model = Retirement
        fields: list[str] = []


class CapDelegationFilter(filters.FilterSet):  # type: ignore[misc]
    """Delegated caps by unit."""

    unit = filters.ModelChoiceFilter(queryset=Unit.objects.all(), to_field_name="slug", help_text="Slug of a unit.")

    class Meta:
        model = CapDelegation
        fields: list[str] = []


class IncidentFilter(filters.FilterSet):  # type: ignore[misc]
    """Incidents by unit and kind; open ones, or those that are over."""

    unit = filters.ModelChoiceFilter(queryset=_units, to_field_name="slug", help_text="Slug of a unit.")
    kind = filters.ChoiceFilter(choices=Incident.Kind.choices, help_text="What is the matter.")
    open = filters.BooleanFilter(
        field_name="closed_at", lookup_expr="isnull", help_text="`true`: open; `false`: over."
    )

    class Meta:
        model = Incident
        fields: list[str] = []


class ServiceLevelFilter(filters.FilterSet):  # type: ignore[misc]
    """Service levels by unit and span."""

    unit = filters.ModelChoiceFilter(queryset=_units, to_field_name="slug", help_text="Slug of a unit.")
    span = filters.ChoiceFilter(choices=ServiceLevel.Span.choices, help_text="The time looked at.")

    class Meta:
        model = ServiceLevel
        fields: list[str] = []


class SeatBackoffFilter(filters.FilterSet):  # type: ignore[misc]
    """Back-offs by unit."""

    unit = filters.ModelChoiceFilter(queryset=_units, to_field_name="slug", help_text="Slug of a unit.")

    class Meta:
        model = SeatBackoff
        fields: list[str] = []
