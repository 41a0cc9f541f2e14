"""The REST API of enrolment: offer a seat, exchange the token, renew the login, withdraw."""

from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.exceptions import APIException, PermissionDenied
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from iam.access.api_answers import NUMBER, NamedViewSet, caller, refusals, require_confirmation
from subsidiaries.enrolment.credentials import NoMintError, server_address
from subsidiaries.enrolment.filters import EnrolmentFilter
from subsidiaries.enrolment.models import Enrolment
from subsidiaries.enrolment.serializers import (
    EnrolmentSerializer,
    EnrolSerializer,
    IssuedSerializer,
    LoginAskSerializer,
    OfferedSerializer,
    WithdrawAgentSerializer,
)
from subsidiaries.enrolment.services import Issued, TokenRefusedError, enrol, exchange, renew, withdraw

ID = OpenApiParameter("id", OpenApiTypes.INT, OpenApiParameter.PATH, description="Number of the enrolment.")
UNSTORED = {"Cache-Control": "no-store"}


class NotMintedError(APIException):
    """Logins cannot be made here, or not now."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "not-minted"


class EnrolView(APIView):
    """Offers a seat to an agent of one's own."""

    permission = "agents.enrol"

    @extend_schema(
        summary="Enrol an agent",
        description="Offers a seat of a subsidiary. The answer has a one-time token and lines to paste; until the "
        "token is exchanged nothing changes. A token offered before for the seat counts no more. A session must "
        "have been confirmed in the last ten minutes.",
        request=EnrolSerializer,
        responses={201: OfferedSerializer},
        tags=["agents"],
    )
    def post(self, request: Request) -> Response:
        """Offer a seat. Raises PermissionDenied, ValidationError."""
        asked = EnrolSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        wanted = asked.wanted()
        require_confirmation(request)
        with refusals():
            enrolment, token = enrol(by=caller(request), **wanted)
        answer = OfferedSerializer(enrolment, context={"token": token}).data
        return Response(answer, status=status.HTTP_201_CREATED, headers=UNSTORED)


class CredentialsView(APIView):
    """Gives logins to agents: they have no account, what they show is what opens."""

    authentication_classes = ()
    permission_classes = ()

    @extend_schema(
        summary="Get the login of an agent",
        description="For a one-time token: the seat's hosted agent is dismissed, and the caller holds the seat "
        "under its next generation. For a proof of the key: the login is renewed. 403: the token or the proof does "
        "not count, and why. 503: this portal mints no logins; the token still counts.",
        request=LoginAskSerializer,
        responses={201: IssuedSerializer},
        auth=[],
        tags=["agents"],
    )
    def post(self, request: Request) -> Response:
        """Exchange a token, or renew. Raises PermissionDenied, ValidationError, NotMintedError."""
        asked = LoginAskSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        try:
            with refusals():
                issued = _issue(dict(asked.validated_data))
        except _NotMinted as error:
            raise NotMintedError(str(error)) from error
        return Response(IssuedSerializer(_shown(issued)).data, status=status.HTTP_201_CREATED, headers=UNSTORED)


class _NotMinted(Exception):  # noqa: N818 - passes through `refusals`, which would call it the caller's fault
    pass


def _issue(asked: dict[str, Any]) -> Issued:
    try:
        return renew(**asked) if "signature" in asked else exchange(**asked)
    except TokenRefusedError as error:
        raise PermissionDenied(str(error)) from error
    except NoMintError as error:
        raise _NotMinted(str(error)) from error


def _shown(issued: Issued) -> dict[str, Any]:
    credential = issued.credential
    now = timezone.now()
    return {
        "subject": issued.enrolment.agent.subject if issued.enrolment.agent else "",
        "nats_url": server_address(),
        "inbox_prefix": credential.inbox_prefix,
        "jwt": credential.jwt,
        "creds": credential.creds_text if credential.seed else "",
        "public_key": credential.public_key,
        "expires_at": credential.expires_at,
        "renew_after": now + (credential.expires_at - now) / 2,
    }


@extend_schema_view(
    list=extend_schema(summary="List the enrolments", description="The newest first.", tags=["agents"]),
    retrieve=extend_schema(summary="Read an enrolment", parameters=[ID], tags=["agents"]),
)
class EnrolmentViewSet(ListModelMixin, RetrieveModelMixin, NamedViewSet[Enrolment]):
    """Seats offered to, or held by, agents of people's own."""

    permission = {"list": "units.view", "retrieve": "units.view", "withdraw": "agents.enrol"}
    queryset = Enrolment.objects.all()
    serializer_class = EnrolmentSerializer
    filterset_class = EnrolmentFilter
    lookup_value_regex = NUMBER
    missing = gettext_lazy("There is no enrolment %(key)s.")

    def get_queryset(self) -> QuerySet[Enrolment]:
        """Return the enrolments in view."""
        return Enrolment.objects.for_listing().order_by("-pk")

    @extend_schema(
        summary="Withdraw an enrolment",
        description="A token counts no more. A seat that is held goes back to the hosts under its next generation, "
        "and the agent's login is revoked.",
        parameters=[ID],
        request=WithdrawAgentSerializer,
        responses=EnrolmentSerializer,
        tags=["agents"],
    )
    @action(detail=True, methods=["post"])
    def withdraw(self, request: Request, pk: str) -> Response:
        """End an enrolment. Raises PermissionDenied, ValidationError, Http404."""
        enrolment = self.get_object()
        asked = WithdrawAgentSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        with refusals():
            withdraw(by=caller(request), enrolment=enrolment, **asked.validated_data)
        return Response(EnrolmentSerializer(self.get_object()).data)
