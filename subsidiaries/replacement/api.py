"""The REST API of agents and their replacements."""

from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet
from django.http import Http404
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.viewsets import GenericViewSet, ReadOnlyModelViewSet

from holding.models import Agent, StageChange
from iam.access.api_answers import NUMBER, NamedViewSet, caller, refusals
from subsidiaries.replacement import responses, shown
from subsidiaries.replacement.filters import (
    AgentFilter,
    FencedHostFilter,
    IncidentFilter,
    ReplacementFilter,
    SeatBackoffFilter,
    ServiceLevelFilter,
)
from subsidiaries.replacement.isolation import PERMISSION, quarantine_agent, release_agent
from subsidiaries.replacement.models import FencedHost, Incident, Replacement, SeatBackoff, ServiceLevel
from subsidiaries.replacement.serializers import (
    AcknowledgeSerializer,
    AgentDetailSerializer,
    AgentSerializer,
    FencedHostSerializer,
    IncidentDetailSerializer,
    IncidentSerializer,
    IsolationSerializer,
    NoteSerializer,
    ReleaseSerializer,
    ReplacementSerializer,
    SeatBackoffSerializer,
    ServiceLevelSerializer,
    StageChangeSerializer,
)

LARGEST_ID_DIGITS = 18
TIMELINE = 100
INCIDENT = OpenApiParameter("id", OpenApiTypes.INT, OpenApiParameter.PATH, description="Number of the incident.")
ID = OpenApiParameter("id", OpenApiTypes.INT, OpenApiParameter.PATH, description="Number of the replacement.")
IDENTITY = OpenApiParameter(
    "identity",
    OpenApiTypes.STR,
    OpenApiParameter.PATH,
    description=(
        "The agent's id, or its subject (`org.claytom.pricing.operator.op-0042-g3`). Seats of the parent company "
        "keep their subject through generations; it names the agent in office."
    ),
)


@extend_schema_view(
    list=extend_schema(summary="List the agents", description="Those in office, the newest first."),
    retrieve=extend_schema(summary="Read an agent", parameters=[IDENTITY], responses=AgentDetailSerializer),
)
class AgentViewSet(ReadOnlyModelViewSet[Agent]):
    """Agents, where they stand, and the state that is known of them."""

    permission = {
        "list": "units.view", "retrieve": "units.view", "quarantine": PERMISSION, "release": PERMISSION,
    }  # fmt: skip
    queryset = Agent.objects.values(*shown.COLUMNS)
    serializer_class = AgentSerializer  # type: ignore[assignment]
    filterset_class = AgentFilter
    lookup_url_kwarg = "identity"
    lookup_value_regex = "[^/]+"

    def paginate_queryset(self, queryset: Any) -> Any:
        """Return a page of rows with each agent's state as of now."""
        return shown.add_shown_state(super().paginate_queryset(queryset) or [], now=timezone.now())

    def get_object(self) -> Any:
        """Return the agent's row. Raises Http404."""
        identity: str = self.kwargs["identity"]
        agents: Any = self.filter_queryset(self.get_queryset())  # of rows, not of agents
        if identity.isascii() and identity.isdigit() and len(identity) <= LARGEST_ID_DIGITS:
            row = agents.filter(pk=int(identity)).first()
        else:
            row = agents.filter(subject=identity.replace("\x00", "")).order_by("-generation").first()
        if row is None:
            raise Http404(_("There is no agent “%(identity)s”.") % {"identity": identity})
        return shown.add_shown_state([row], now=timezone.now())[0]

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Answer with the agent and its stages. Raises Http404."""
        return Response(_detail(self.get_object()))

    @extend_schema(
        summary="Isolate an agent",
        description="It is paused at once, no resume lets it run again, and ARP gives its seat to another within "
        "the day's cap.",
        parameters=[IDENTITY],
        request=IsolationSerializer,
        responses=AgentDetailSerializer,
    )
    @action(detail=True, methods=["post"])
    def quarantine(self, request: Request, identity: str) -> Response:
        """Isolate an agent. Raises PermissionDenied, ValidationError, Http404."""
        return self._decide(request, quarantine_agent)

    @extend_schema(
        summary="Release an agent",
        description="An isolated agent that has not been replaced yet runs again as what it was before.",
        parameters=[IDENTITY],
        request=IsolationSerializer,
        responses=AgentDetailSerializer,
    )
    @action(detail=True, methods=["post"])
    def release(self, request: Request, identity: str) -> Response:
        """Let an isolated agent run again. Raises PermissionDenied, ValidationError, Http404."""
        return self._decide(request, release_agent)

    def _decide(self, request: Request, act: Callable[..., Agent]) -> Response:
        row = self.get_object()
        asked = IsolationSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        agent = Agent.objects.select_related("unit").get(pk=row["id"])
        with refusals():
            act(by=caller(request), agent=agent, **asked.validated_data)
        return Response(_detail(self.get_object()))


def _detail(row: dict[str, Any]) -> dict[str, Any]:
    changes = StageChange.objects.filter(seat_id=row["seat_id"], agent_id=row["id"]).order_by("-pk")
    timeline = list(changes.values(*StageChangeSerializer.columns)[:TIMELINE])
    answer: dict[str, Any] = AgentDetailSerializer({**row, "timeline": timeline[::-1]}).data
    return answer


@extend_schema_view(
    list=extend_schema(summary="List the replacements", description="The newest first."),
    retrieve=extend_schema(summary="Read a replacement", parameters=[ID]),
)
class ReplacementViewSet(ReadOnlyModelViewSet[Replacement]):
    """What ARP decided."""

    permission = "units.view"
    queryset = Replacement.objects.order_by().values(*ReplacementSerializer.columns)
    serializer_class = ReplacementSerializer  # type: ignore[assignment]
    filterset_class = ReplacementFilter
    lookup_value_regex = "[0-9]{1,18}"

    def get_object(self) -> Any:
        """Return the replacement's row. Raises Http404."""
        try:
            return super().get_object()
        except Http404 as error:
            raise Http404(_("There is no replacement %(id)s.") % {"id": self.kwargs["pk"]}) from error


@extend_schema_view(
    list=extend_schema(
        summary="List the fenced hosts",
        description="Hosts that acted for a division without holding its lease, the newest first.",
    )
)
class FencedHostViewSet(ListModelMixin, GenericViewSet[FencedHost]):
    """Who came back after it had lost its division, or claims one that it never had."""

    permission = "units.view"
    queryset = FencedHost.objects.order_by().values(*FencedHostSerializer.columns)
    serializer_class = FencedHostSerializer  # type: ignore[assignment]
    filterset_class = FencedHostFilter


@extend_schema_view(
    list=extend_schema(summary="List the incidents", description="What ARP does not mend alone, the newest first."),
    retrieve=extend_schema(summary="Read an incident", parameters=[INCIDENT], responses=IncidentDetailSerializer),
)
class IncidentViewSet(ListModelMixin, RetrieveModelMixin, NamedViewSet[Incident]):
    """What ARP does not mend alone."""

    permission = {
        "list": "units.view",
        "retrieve": "units.view",
        "acknowledge": responses.RESPOND,
        "note": responses.RESPOND,
        "release": responses.RELEASE,
    }
    queryset = Incident.objects.select_related("unit")
    serializer_class = IncidentSerializer
    filterset_class = IncidentFilter
    lookup_value_regex = NUMBER
    missing = gettext_lazy("There is no incident %(key)s.")

    def get_queryset(self) -> QuerySet[Incident]:
        """Return those of the units in view; one alone with its steps."""
        rows = Incident.objects.select_related("unit")
        return rows.prefetch_related("steps__incident") if self.action == "retrieve" else rows

    def get_serializer_class(self) -> type[BaseSerializer[Incident]]:
        """Return the serializer: steps are told of one at a time."""
        return IncidentDetailSerializer if self.action == "retrieve" else IncidentSerializer

    @extend_schema(
        summary="Acknowledge an incident",
        description="Says that the caller looks after it.",
        parameters=[INCIDENT],
        request=AcknowledgeSerializer,
        responses=IncidentSerializer,
    )
    @action(detail=True, methods=["post"])
    def acknowledge(self, request: Request, pk: str) -> Response:
        """Acknowledge it. Raises PermissionDenied, ValidationError, Http404."""
        row = self.get_object()
        asked = AcknowledgeSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        with refusals():
            responses.acknowledge(incident=row, by=caller(request), note=asked.validated_data["note"])
        return self._now()

    @extend_schema(
        summary="Note something about an incident",
        parameters=[INCIDENT],
        request=NoteSerializer,
        responses=IncidentSerializer,
    )
    @action(detail=True, methods=["post"])
    def note(self, request: Request, pk: str) -> Response:
        """Note it. Raises PermissionDenied, ValidationError, Http404."""
        row = self.get_object()
        asked = NoteSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        with refusals():
            responses.annotate(incident=row, by=caller(request), note=asked.validated_data["note"])
        return self._now()

    @extend_schema(
        summary="Release the brake",
        description="Missing agents are replaced at full speed again although many are silent, until more are.",
        parameters=[INCIDENT],
        request=ReleaseSerializer,
        responses=IncidentSerializer,
    )
    @action(detail=True, methods=["post"])
    def release(self, request: Request, pk: str) -> Response:
        """Release it. Raises PermissionDenied, ValidationError, Http404."""
        row = self.get_object()
        asked = ReleaseSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        with refusals():
            responses.release(incident=row, by=caller(request), reason=asked.validated_data["reason"])
        return self._now()

    def _now(self) -> Response:
        return Response(IncidentSerializer(self.get_object()).data)


@extend_schema_view(
    list=extend_schema(
        summary="List the service levels",
        description=(
            "Of each unit in view and, to whoever sees it whole, of the holding, over 24 hours, 7 and 30 days: "
            "times of detection and until restored (seconds), seconds below the floor, seats with two live agents, "
            "brakes applied, cost (EUR; 0 while no unit cost is set)."
        ),
    )
)
class ServiceLevelViewSet(ListModelMixin, GenericViewSet[ServiceLevel]):
    """How well ARP does."""

    permission = "units.view"
    queryset = ServiceLevel.objects.select_related("unit")
    serializer_class = ServiceLevelSerializer
    filterset_class = ServiceLevelFilter


@extend_schema_view(
    list=extend_schema(
        summary="List the back-offs", description="Seats whose agents did not last, the last replaced first."
    )
)
class SeatBackoffViewSet(ListModelMixin, GenericViewSet[SeatBackoff]):
    """Seats that wait before they are replaced again."""

    permission = "units.view"
    queryset = SeatBackoff.objects.select_related("unit", "seat")
    ordering = ("-decided_at", "-seat_id")
    serializer_class = SeatBackoffSerializer
    filterset_class = SeatBackoffFilter
