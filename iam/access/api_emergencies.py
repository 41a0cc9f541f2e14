"""The REST API of emergency access."""

from django.db.models import QuerySet
from django.utils.translation import gettext_lazy
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from iam.access.api_answers import NUMBER, NamedViewSet, caller, refusals
from iam.access.emergencies import decide_emergency, end_emergency, request_emergency, visible_to
from iam.access.filters import EmergencyFilter
from iam.access.models import EmergencyAccess
from iam.access.serializers_emergencies import (
    EmergencyDecisionSerializer,
    EmergencyDetailSerializer,
    EmergencyRequestSerializer,
    EmergencySerializer,
)

ID = OpenApiParameter("id", OpenApiTypes.INT, OpenApiParameter.PATH, description="Number of the emergency access.")


@extend_schema_view(
    list=extend_schema(
        summary="List emergency access",
        description="The newest first: one's own, and that for units where the caller may see people.",
    ),
    retrieve=extend_schema(
        summary="Read an emergency access",
        description="With what its person did in that time.",
        parameters=[ID],
        responses=EmergencyDetailSerializer,
    ),
)
class EmergencyViewSet(ListModelMixin, RetrieveModelMixin, NamedViewSet[EmergencyAccess]):
    """Break-glass: a role asked for in an emergency, decided by a second person, for at most a few hours."""

    permission = {
        "list": "people.view",
        "retrieve": "people.view",
        "create": "break-glass.request",
        "decide": "break-glass.approve",
        "end": "people.view",
    }
    queryset = EmergencyAccess.objects.all()
    serializer_class = EmergencySerializer
    filterset_class = EmergencyFilter
    lookup_value_regex = NUMBER
    missing = gettext_lazy("There is no emergency access %(key)s.")

    def get_queryset(self) -> QuerySet[EmergencyAccess]:
        """Return those in view."""
        return visible_to(caller(self.request))

    def get_serializer_class(self) -> type[BaseSerializer[EmergencyAccess]]:
        """Return the serializer: what was done in that time is told of one at a time."""
        return EmergencyDetailSerializer if self.action == "retrieve" else EmergencySerializer

    @extend_schema(
        summary="Ask for emergency access",
        description="A second person must approve within an hour.",
        request=EmergencyRequestSerializer,
        responses={201: EmergencySerializer},
    )
    def create(self, request: Request) -> Response:
        """Ask for a role. Raises PermissionDenied, ValidationError."""
        asked = EmergencyRequestSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        with refusals():
            emergency = request_emergency(user=caller(request), **asked.validated_data)
        return Response(EmergencySerializer(emergency).data, status=status.HTTP_201_CREATED)

    @extend_schema(
        summary="Decide a request for emergency access",
        description="By a second person, within an hour. Approved, the role is in force at once.",
        parameters=[ID],
        request=EmergencyDecisionSerializer,
        responses=EmergencySerializer,
    )
    @action(detail=True, methods=["post"])
    def decide(self, request: Request, pk: str) -> Response:
        """Approve or refuse. Raises PermissionDenied, ValidationError, Http404."""
        emergency = self.get_object()
        asked = EmergencyDecisionSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        with refusals():
            emergency = decide_emergency(by=caller(request), emergency=emergency, **asked.validated_data)
        return Response(EmergencySerializer(emergency).data)

    @extend_schema(
        summary="End emergency access",
        description="Before its time: by its person, or by whoever may approve it.",
        parameters=[ID],
        request=None,
        responses=EmergencySerializer,
    )
    @action(detail=True, methods=["post"])
    def end(self, request: Request, pk: str) -> Response:
        """End it now. Raises PermissionDenied, ValidationError, Http404."""
        emergency = self.get_object()
        with refusals():
            end_emergency(by=caller(request), emergency=emergency)
        return Response(EmergencySerializer(self.get_object()).data)
