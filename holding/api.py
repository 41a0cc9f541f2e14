"""The REST API of units and seats; read only."""

from typing import Any

from django.http import Http404
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework.viewsets import ReadOnlyModelViewSet

from holding.filters import SeatFilter
from holding.models import Seat, Unit
from holding.serializers import SeatSerializer, UnitSerializer

ID = OpenApiParameter("id", OpenApiTypes.INT, OpenApiParameter.PATH, description="Number of the seat.")


@extend_schema_view(
    list=extend_schema(summary="List the units", description="The parent company first, then 35 subsidiaries."),
    retrieve=extend_schema(
        summary="Read a unit",
        parameters=[OpenApiParameter("slug", OpenApiTypes.STR, OpenApiParameter.PATH, description="Slug.")],
    ),
)
class UnitViewSet(ReadOnlyModelViewSet[Unit]):
    """The parent company and its subsidiaries."""

    permission = "units.view"
    queryset = Unit.objects.values(*UnitSerializer.columns)
    serializer_class = UnitSerializer  # type: ignore[assignment]
    ordering = "position"
    lookup_field = "slug"
    lookup_value_regex = "[^/]+"

    def get_object(self) -> Any:
        """Return the unit's row. Raises Http404."""
        try:
            return super().get_object()
        except Http404 as error:
            raise Http404(_("There is no unit “%(slug)s”.") % {"slug": self.kwargs["slug"]}) from error


@extend_schema_view(
    list=extend_schema(summary="List the seats", description="In the holding's order: superiors first."),
    retrieve=extend_schema(summary="Read a seat", parameters=[ID]),
)
class SeatViewSet(ReadOnlyModelViewSet[Seat]):
    """Permanent positions."""

    permission = "units.view"
    queryset = Seat.objects.with_desired().values(*SeatSerializer.columns)
    serializer_class = SeatSerializer  # type: ignore[assignment]
    filterset_class = SeatFilter
    ordering = "id"
    lookup_value_regex = "[0-9]{1,18}"

    def get_object(self) -> Any:
        """Return the seat's row. Raises Http404."""
        try:
            return super().get_object()
        except Http404 as error:
            raise Http404(_("There is no seat %(id)s.") % {"id": self.kwargs["pk"]}) from error
