"""The REST API of escalations."""

from django.db.models import QuerySet
from django.utils.translation import gettext_lazy
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from iam.access.api_answers import NUMBER, NamedViewSet, caller, refusals
from subsidiaries.escalations import services
from subsidiaries.escalations.filters import EscalationFilter
from subsidiaries.escalations.models import Escalation
from subsidiaries.escalations.serializers import (
    AssignSerializer,
    EscalationDetailSerializer,
    EscalationSerializer,
    ResolveSerializer,
)

ID = OpenApiParameter("id", OpenApiTypes.INT, OpenApiParameter.PATH, description="Number of the escalation.")


@extend_schema_view(
    list=extend_schema(summary="List the escalations", description="Of the units in view, the newest first."),
    retrieve=extend_schema(
        summary="Read an escalation",
        description="With each level that was asked, and what people did.",
        parameters=[ID],
        responses=EscalationDetailSerializer,
    ),
)
class EscalationViewSet(ListModelMixin, RetrieveModelMixin, NamedViewSet[Escalation]):
    """What agents could not settle among themselves."""

    permission = {
        "list": "units.view",
        "retrieve": "units.view",
        "take": services.DECIDE,
        "assign": services.DECIDE,
        "resolve": services.DECIDE,
    }
    queryset = Escalation.objects.for_listing()
    serializer_class = EscalationSerializer
    filterset_class = EscalationFilter
    lookup_value_regex = NUMBER
    missing = gettext_lazy("There is no escalation %(key)s.")

    def get_queryset(self) -> QuerySet[Escalation]:
        """Return those of the units in view; one alone with its steps."""
        rows = Escalation.objects.for_listing()
        return rows.prefetch_related("steps") if self.action == "retrieve" else rows

    def get_serializer_class(self) -> type[BaseSerializer[Escalation]]:
        """Return the serializer: steps are told of one at a time."""
        return EscalationDetailSerializer if self.action == "retrieve" else EscalationSerializer

    @extend_schema(
        summary="Take an escalation",
        description="From then on it is the caller's.",
        parameters=[ID],
        request=None,
        responses=EscalationSerializer,
    )
    @action(detail=True, methods=["post"])
    def take(self, request: Request, pk: str) -> Response:
        """Take it. Raises PermissionDenied, ValidationError, Http404."""
        with refusals():
            services.take(escalation=self.get_object(), by=caller(request))
        return self._now()

    @extend_schema(
        summary="Assign an escalation",
        description="To a person who may decide it.",
        parameters=[ID],
        request=AssignSerializer,
        responses=EscalationSerializer,
    )
    @action(detail=True, methods=["post"])
    def assign(self, request: Request, pk: str) -> Response:
        """Hand it over. Raises PermissionDenied, ValidationError, Http404."""
        row = self.get_object()
        asked = AssignSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        with refusals():
            services.assign(escalation=row, to=asked.validated_data["person"], by=caller(request))
        return self._now()

    @extend_schema(
        summary="Decide an escalation",
        description="The agent that raised it gets the decision and the new input as a directed message.",
        parameters=[ID],
        request=ResolveSerializer,
        responses=EscalationSerializer,
    )
    @action(detail=True, methods=["post"])
    def resolve(self, request: Request, pk: str) -> Response:
        """Decide it. Raises PermissionDenied, ValidationError, Http404."""
        row = self.get_object()
        asked = ResolveSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        with refusals():
            services.resolve(
                escalation=row,
                by=caller(request),
                decision=asked.validated_data["decision"],
                given=asked.validated_data["input"],
            )
        return self._now()

    def _now(self) -> Response:
        return Response(EscalationSerializer(self.get_object()).data)
