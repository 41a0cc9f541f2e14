"""The REST API of directed messages; read only."""

from typing import Any

from django.http import Http404
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework.viewsets import ReadOnlyModelViewSet

from bus.filters import DirectedMessageFilter
from bus.models import DirectedMessage
from bus.serializers import DirectedMessageSerializer

ID = OpenApiParameter("id", OpenApiTypes.INT, OpenApiParameter.PATH, description="Number of the message.")


@extend_schema_view(
    list=extend_schema(
        summary="List directed messages", description="Those to agents of the units in view, the newest first."
    ),
    retrieve=extend_schema(summary="Read a directed message", parameters=[ID]),
)
class DirectedMessageViewSet(ReadOnlyModelViewSet[DirectedMessage]):
    """Messages to single agents. The rows in view are cut by the database: the bus knows no units."""

    permission = "units.view"
    queryset = DirectedMessage.objects.defer("body")
    serializer_class = DirectedMessageSerializer
    filterset_class = DirectedMessageFilter
    lookup_value_regex = "[0-9]{1,18}"

    def get_object(self) -> Any:
        """Return the message. Raises Http404."""
        try:
            return super().get_object()
        except Http404 as error:
            raise Http404(_("There is no message %(id)s.") % {"id": self.kwargs["pk"]}) from error
