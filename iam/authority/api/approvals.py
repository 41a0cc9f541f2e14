"""The REST API of approvals."""

from typing import Any

from django.db.models import QuerySet
from django.http import Http404
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.exceptions import PermissionDenied
from rest_framework.mixins import ListModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from holding import scope
from iam.access.models import ApiToken
from iam.authority import services
from iam.authority.api.answers import VIEW, caller, refuse, valid
from iam.authority.filters import ApprovalFilter
from iam.authority.models import Approval, Decision
from iam.authority.serializers import (
    ApprovalSerializer,
    AskSerializer,
    DecideSerializer,
    TitleSerializer,
    WithdrawSerializer,
)

ID = OpenApiParameter("id", OpenApiTypes.INT, OpenApiParameter.PATH, description="Number of the approval.")


@extend_schema_view(
    list=extend_schema(
        summary="List the approvals", description="Of the units that you may see, the newest first."
    ),
)
class ApprovalViewSet(ListModelMixin, GenericViewSet[Approval]):
    """Requests for decisions: asked for, decided, withdrawn."""

    permission = {
        "list": VIEW,
        "retrieve": VIEW,
        "create": "approvals.request",
        "decide": "approvals.decide",
        "withdraw": "approvals.request",
        "titles": "approvals.decide",
    }
    serializer_class = ApprovalSerializer
    filterset_class = ApprovalFilter
    lookup_value_regex = "[0-9]{1,18}"

    def get_queryset(self) -> QuerySet[Approval]:
        """Return the approvals of the units that the caller may see."""
        return Approval.objects.of_units(scope.current().units(VIEW)).for_listing()

    @extend_schema(summary="Read an approval", parameters=[ID])
    def retrieve(self, request: Request, pk: str) -> Response:
        """Answer with an approval of the caller's units, or one that concerns the caller."""
        self.filter_queryset(Approval.objects.none())  # refuses parameters
        return Response(self._shown(int(pk)))

    @extend_schema(summary="Ask for an approval", request=AskSerializer, responses={201: ApprovalSerializer})
    def create(self, request: Request) -> Response:
        """Ask; within the limit that needs no person it is granted at once."""
        given = valid(AskSerializer(data=request.data))
        if not scope.current().allows("approvals.request", given["unit"].pk):
            raise PermissionDenied(_("You may not ask for approvals of this unit."))
        matter, key = given.pop("matter"), given.pop("key")
        person = caller(request)
        asks = services.Request(matter=matter.slug, key=f"api-{person.pk}-{key}", requester=person, **given)
        try:
            approval = services.request_approval(request=asks)
        except ValueError as error:
            refuse(error)
        return Response(self._shown(approval.pk), status=status.HTTP_201_CREATED)

    @extend_schema(
        summary="Decide an approval", parameters=[ID], request=DecideSerializer, responses=ApprovalSerializer
    )
    @action(detail=True, methods=["post"])
    def decide(self, request: Request, pk: str) -> Response:
        """Approve or reject; 403 says why the caller may not. What is approved is carried out at once."""
        given = valid(DecideSerializer(data=request.data))
        approval = self._find_for("approvals.decide", int(pk))
        try:
            services.decide(
                approval=approval,
                person=caller(request),
                verdict=Decision.Verdict(given["verdict"]),
                note=given["note"],
                acting_as=given["acting_as"],
            )
        except ValueError as error:
            refuse(error)
        return Response(self._shown(approval.pk))

    @extend_schema(
        summary="Read under which titles an approval may be decided",
        parameters=[ID],
        filters=False,
        responses=TitleSerializer(many=True),
    )
    @action(detail=True, methods=["get"], pagination_class=None)
    def titles(self, request: Request, pk: str) -> Response:
        """Answer with the caller's titles that suffice: without a choice the first is taken."""
        self.filter_queryset(Approval.objects.none())  # refuses parameters
        approval = self._find_for("approvals.decide", int(pk))
        found: Any = services.titles(approval=approval, person=caller(request))
        return Response(TitleSerializer(found, many=True).data)

    @extend_schema(
        summary="Withdraw an approval", parameters=[ID], request=WithdrawSerializer, responses=ApprovalSerializer
    )
    @action(detail=True, methods=["post"])
    def withdraw(self, request: Request, pk: str) -> Response:
        """Take back one's own request while it waits."""
        given = valid(WithdrawSerializer(data=request.data))
        approval = self._find_for("approvals.request", int(pk))
        try:
            services.withdraw(approval=approval, person=caller(request), reason=given["reason"])
        except ValueError as error:
            refuse(error)
        return Response(self._shown(approval.pk))

    def _find(self, pk: int) -> Approval:
        units, only = scope.current().units(VIEW), self._of_one_unit()
        found = services.visible(pk=pk, person=caller(self.request), units=units, only=only)
        if found is None:
            raise Http404(_("There is no approval %(id)s.") % {"id": pk})
        return found

    def _find_for(self, code: str, pk: int) -> Approval:
        """Find what is acted on; a token of one unit needs the permission for the unit of the approval."""
        found = self._find(pk)
        if self._of_one_unit() and not scope.current().allows(code, found.unit_id):
            raise PermissionDenied(_("This needs the permission %(code)s.") % {"code": code})
        return found

    def _of_one_unit(self) -> bool:
        token = self.request.auth
        return isinstance(token, ApiToken) and token.unit_id is not None

    def _shown(self, pk: int) -> Any:
        approval = self._find(pk)  # under the caller's own scope
        with scope.opened(scope.EVERYTHING):
            return ApprovalSerializer(approval).data
