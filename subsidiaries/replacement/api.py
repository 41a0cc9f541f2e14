"""The REST API of agents and their replacements; read only."""

from typing import Any

from django.http import Http404
from django.utils import timezone
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework.mixins import ListModelMixin
from rest_framework.viewsets import GenericViewSet, ReadOnlyModelViewSet

from holding.models import Agent
from subsidiaries.replacement import shown
from subsidiaries.replacement.filters import AgentFilter, FencedHostFilter, ReplacementFilter
from subsidiaries.replacement.models import FencedHost, Replacement
from subsidiaries.replacement.serializers import AgentSerializer, FencedHostSerializer, ReplacementSerializer

LARGEST_ID_DIGITS = 18
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
    retrieve=extend_schema(summary="Read an agent", parameters=[IDENTITY]),
)
class AgentViewSet(ReadOnlyModelViewSet[Agent]):
    """Agents, and the state that is known of them."""

    permission = "units.view"
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
