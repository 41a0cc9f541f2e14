"""The REST API of exchange rates."""

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.mixins import ListModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from iam.authority import services
from iam.authority.api.answers import MANAGE, VIEW, caller, refuse, valid
from iam.authority.filters import RateFilter
from iam.authority.models import ExchangeRate
from iam.authority.serializers import RateSerializer, RecordRateSerializer


@extend_schema_view(
    list=extend_schema(summary="List the exchange rates", description="As they were recorded, the newest first."),
)
class RateViewSet(ListModelMixin, GenericViewSet[ExchangeRate]):
    """Euros for one of a currency, by which amounts are judged."""

    permission = {"list": VIEW, "create": MANAGE}
    serializer_class = RateSerializer
    filterset_class = RateFilter

    def get_queryset(self) -> QuerySet[ExchangeRate]:
        """Return all rates: within the clearance they are no secret."""
        return ExchangeRate.objects.order_by("-id")

    @extend_schema(summary="Record an exchange rate", request=RecordRateSerializer, responses={201: RateSerializer})
    def create(self, request: Request) -> Response:
        """Record the rate of a day; it stays, and a later one corrects it. Who recorded it does not ask by it."""
        given = valid(RecordRateSerializer(data=request.data))
        try:
            made = services.record_rate(actor=caller(request).get_username(), **given)
        except services.RateError as error:
            refuse(error)
        return Response(RateSerializer(made).data, status=status.HTTP_201_CREATED)
