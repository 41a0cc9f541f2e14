"""The REST API of the ledger; read only."""

from typing import Any

from django.http import Http404
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework.viewsets import ReadOnlyModelViewSet

from audit.filters import LedgerFilter
from audit.models import LedgerEntry
from audit.serializers import LedgerEntrySerializer

ID = OpenApiParameter("id", OpenApiTypes.INT, OpenApiParameter.PATH, description="Number of the ledger entry.")


@extend_schema_view(
    list=extend_schema(summary="List ledger entries", description="The newest first, with their sealed bytes."),
    retrieve=extend_schema(summary="Read a ledger entry", parameters=[ID]),
)
class LedgerViewSet(ReadOnlyModelViewSet[LedgerEntry]):
    """The append-only ledger."""

    permission = "ledger.view"
    queryset = LedgerEntry.objects.values(*LedgerEntrySerializer.columns)
    serializer_class = LedgerEntrySerializer  # type: ignore[assignment]
    filterset_class = LedgerFilter
    lookup_value_regex = "[0-9]{1,18}"

    def get_object(self) -> Any:
        """Return the entry's row. Raises Http404."""
        try:
            return super().get_object()
        except Http404 as error:
            raise Http404(_("There is no ledger entry %(id)s.") % {"id": self.kwargs["pk"]}) from error
