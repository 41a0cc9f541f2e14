"""The REST API of KPIs; read only."""

from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.mixins import ListModelMixin
from rest_framework.viewsets import GenericViewSet

from subsidiaries.performance.filters import KpiMinuteFilter
from subsidiaries.performance.models import KpiMinute
from subsidiaries.performance.serializers import KpiMinuteSerializer


@extend_schema_view(
    list=extend_schema(
        summary="List the KPIs by minute", description="The newest minute first; one row per unit and role."
    )
)
class KpiMinuteViewSet(ListModelMixin, GenericViewSet[KpiMinute]):
    """What agents claimed of their performance, minute by minute."""

    permission = "units.view"
    queryset = KpiMinute.objects.values(*KpiMinuteSerializer.columns)
    serializer_class = KpiMinuteSerializer  # type: ignore[assignment]
    filterset_class = KpiMinuteFilter
    ordering = ("-minute", "-id")
