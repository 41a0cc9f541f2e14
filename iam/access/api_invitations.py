"""The REST API of invitations."""

from smtplib import SMTPException

from django.db.models import QuerySet
from django.utils.translation import gettext_lazy
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.exceptions import APIException
from rest_framework.mixins import ListModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from iam.access.api_answers import NUMBER, NamedViewSet, caller, refusals, require_confirmation
from iam.access.filters import InvitationFilter
from iam.access.invitations import invite_by_mail, open_invitations, revoke_invitation
from iam.access.models import Invitation
from iam.access.serializers_invitations import InvitationSerializer, InviteSerializer

ID = OpenApiParameter("id", OpenApiTypes.INT, OpenApiParameter.PATH, description="Number of the invitation.")


class MailError(APIException):
    """The mail server gave no answer."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = gettext_lazy("The mail server gave no answer. Try again later.")
    default_code = "mail"


@extend_schema_view(
    list=extend_schema(summary="List the open invitations", description="The newest first."),
)
class InvitationViewSet(ListModelMixin, NamedViewSet[Invitation]):
    """Invitations by e-mail: accepted once, within seven days."""

    permission = "people.manage"
    queryset = Invitation.objects.all()
    serializer_class = InvitationSerializer
    filterset_class = InvitationFilter
    lookup_value_regex = NUMBER
    missing = gettext_lazy("There is no open invitation %(key)s.")

    def get_queryset(self) -> QuerySet[Invitation]:
        """Return the invitations that can be accepted now."""
        return open_invitations().select_related("role", "unit", "invited_by")

    @extend_schema(
        summary="Invite somebody",
        description="To a role of which the caller holds everything there. An open invitation to the same address "
        "is revoked. A session must have been confirmed in the last ten minutes. 503: no mail could be sent, and "
        "nobody is invited.",
        request=InviteSerializer,
        responses={201: InvitationSerializer},
    )
    def create(self, request: Request) -> Response:
        """Invite by mail. Raises PermissionDenied, ValidationError, MailError."""
        asked = InviteSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        require_confirmation(request)
        try:
            with refusals():
                invitation = invite_by_mail(invited_by=caller(request), **asked.validated_data)
        except (OSError, SMTPException) as error:
            raise MailError from error
        return Response(InvitationSerializer(invitation).data, status=status.HTTP_201_CREATED)

    @extend_schema(
        summary="Revoke an invitation",
        description="Its link opens nothing any more.",
        parameters=[ID],
        request=None,
        responses={204: None},
    )
    @action(detail=True, methods=["post"])
    def revoke(self, request: Request, pk: str) -> Response:
        """Revoke an open invitation. Raises Http404."""
        revoke_invitation(invitation=self.get_object(), actor=caller(request).username)
        return Response(status=status.HTTP_204_NO_CONTENT)
