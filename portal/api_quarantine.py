"""The REST API of refused messages and suspect sources."""

from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext_lazy
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework.decorators import action
from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from bus.models import QuarantinedMessage, Suspect
from bus.quarantine import RefusedActError
from iam.access.api_answers import NUMBER, NamedViewSet, caller
from portal import quarantine
from portal.filters_quarantine import QuarantineFilter, SuspectFilter
from portal.serializers_quarantine import (
    DiscardSerializer,
    QuarantinedDetailSerializer,
    QuarantinedSerializer,
    SuspectSerializer,
)

ID = OpenApiParameter("id", OpenApiTypes.INT, OpenApiParameter.PATH, description="Number in the quarantine.")


@extend_schema_view(
    list=extend_schema(summary="List refused messages", description="The newest first, without their bytes."),
    retrieve=extend_schema(
        summary="Read a refused message", parameters=[ID], responses=QuarantinedDetailSerializer
    ),
)
class QuarantineViewSet(ListModelMixin, RetrieveModelMixin, NamedViewSet[QuarantinedMessage]):
    """Messages that were refused: held, then sent again, discarded, or expired after ninety days."""

    permission = {
        "list": quarantine.VIEW,
        "retrieve": quarantine.VIEW,
        "replay": quarantine.DECIDE,
        "discard": quarantine.DECIDE,
    }
    queryset = QuarantinedMessage.objects.all()
    serializer_class = QuarantinedSerializer
    filterset_class = QuarantineFilter
    lookup_value_regex = NUMBER
    missing = gettext_lazy("There is no quarantined message %(key)s.")

    def get_queryset(self) -> QuerySet[QuarantinedMessage]:
        """Return the messages in view."""
        rows = quarantine.in_view()
        return rows.defer("body") if self.action == "list" else rows.select_related("replay")

    def get_serializer_class(self) -> type[BaseSerializer[QuarantinedMessage]]:
        """Return the serializer: bytes are told of one message at a time."""
        return QuarantinedSerializer if self.action == "list" else QuarantinedDetailSerializer

    def get_serializer_context(self) -> dict[str, Any]:
        """Add the slugs of the units in view."""
        return {**super().get_serializer_context(), "slugs": quarantine.slugs()}

    @extend_schema(
        summary="Send a refused message again",
        description="With the same subject, headers, message id and body; what is not kept whole cannot be.",
        parameters=[ID],
        request=None,
        responses=QuarantinedDetailSerializer,
    )
    @action(detail=True, methods=["post"])
    def replay(self, request: Request, pk: str) -> Response:
        """Send it again. Raises PermissionDenied, ValidationError, Http404."""
        message = self.get_object()
        try:
            quarantine.replay(by=caller(request), message=message)
        except (RefusedActError, quarantine.NotAllowedError) as error:
            raise _answer(error) from error
        return Response(self.get_serializer(self.get_object()).data)

    @extend_schema(
        summary="Discard a refused message",
        description="For a reason. Its bytes stay to be seen until it expires.",
        parameters=[ID],
        request=DiscardSerializer,
        responses=QuarantinedDetailSerializer,
    )
    @action(detail=True, methods=["post"])
    def discard(self, request: Request, pk: str) -> Response:
        """Throw it away. Raises PermissionDenied, ValidationError, Http404."""
        message = self.get_object()
        asked = DiscardSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        try:
            quarantine.discard(by=caller(request), message=message, reason=asked.validated_data["reason"])
        except (RefusedActError, quarantine.NotAllowedError) as error:
            raise _answer(error) from error
        return Response(self.get_serializer(self.get_object()).data)


def _answer(error: Exception) -> Exception:
    if isinstance(error, quarantine.NotAllowedError):
        return PermissionDenied(str(error))
    return ValidationError({"detail": [str(error)]})


@extend_schema_view(
    list=extend_schema(
        summary="List suspect sources",
        description="The newest first: agents, hosts and others of which twenty messages were refused in a minute.",
    ),
)
class SuspectViewSet(ListModelMixin, NamedViewSet[Suspect]):
    """Sources whose messages are refused again and again, until none is for ten minutes."""

    permission = quarantine.VIEW
    queryset = Suspect.objects.all()
    serializer_class = SuspectSerializer
    filterset_class = SuspectFilter

    def get_queryset(self) -> QuerySet[Suspect]:
        """Return those of the units in view."""
        return quarantine.suspects_in_view()
