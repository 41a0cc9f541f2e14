"""The REST API of approvals and of the matrix."""

from datetime import UTC, datetime, time
from typing import Any, NoReturn

from django.db.models import QuerySet, prefetch_related_objects
from django.http import Http404
from django.utils.dateparse import parse_date
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.exceptions import APIException, PermissionDenied, ValidationError
from rest_framework.mixins import ListModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from holding import clock, scope
from iam.access.models import User
from iam.authority import services
from iam.authority.filters import ApprovalFilter
from iam.authority.models import Approval, Decision
from iam.authority.serializers import (
    ApprovalSerializer,
    AskSerializer,
    DecideSerializer,
    MatrixSerializer,
    TitleSerializer,
    WithdrawSerializer,
)

VIEW = "authority.view"
ID = OpenApiParameter("id", OpenApiTypes.INT, OpenApiParameter.PATH, description="Number of the approval.")


class ConflictError(APIException):
    """The key is of another request."""

    status_code = status.HTTP_409_CONFLICT
    default_code = "conflict"


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
        given = _valid(AskSerializer(data=request.data))
        if not scope.current().allows("approvals.request", given["unit"].pk):
            raise PermissionDenied(_("You may not ask for approvals of this unit."))
        matter, key = given.pop("matter"), given.pop("key")
        person = _person(request)
        asks = services.Request(matter=matter.slug, key=f"api-{person.pk}-{key}", requester=person, **given)
        try:
            approval = services.request_approval(request=asks)
        except ValueError as error:
            _refuse(error)
        return Response(self._shown(approval.pk), status=status.HTTP_201_CREATED)

    @extend_schema(
        summary="Decide an approval", parameters=[ID], request=DecideSerializer, responses=ApprovalSerializer
    )
    @action(detail=True, methods=["post"])
    def decide(self, request: Request, pk: str) -> Response:
        """Approve or reject; 403 says why the caller may not. What is approved is carried out at once."""
        given = _valid(DecideSerializer(data=request.data))
        approval = self._find(int(pk))
        try:
            services.decide(
                approval=approval,
                person=_person(request),
                verdict=Decision.Verdict(given["verdict"]),
                note=given["note"],
                acting_as=given["acting_as"],
            )
        except ValueError as error:
            _refuse(error)
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
        approval = self._find(int(pk))
        found: Any = services.titles(approval=approval, person=_person(request))
        return Response(TitleSerializer(found, many=True).data)

    @extend_schema(
        summary="Withdraw an approval", parameters=[ID], request=WithdrawSerializer, responses=ApprovalSerializer
    )
    @action(detail=True, methods=["post"])
    def withdraw(self, request: Request, pk: str) -> Response:
        """Take back one's own request while it waits."""
        given = _valid(WithdrawSerializer(data=request.data))
        approval = self._find(int(pk))
        try:
            services.withdraw(approval=approval, person=_person(request), reason=given["reason"])
        except ValueError as error:
            _refuse(error)
        return Response(self._shown(approval.pk))

    def _find(self, pk: int) -> Approval:
        found = services.visible(pk=pk, person=_person(self.request), units=scope.current().units(VIEW))
        if found is None:
            raise Http404(_("There is no approval %(id)s.") % {"id": pk})
        return found

    def _shown(self, pk: int) -> Any:
        approval = self._find(pk)  # under the caller's own scope
        with scope.opened(scope.EVERYTHING):
            return ApprovalSerializer(approval).data


class MatrixView(APIView):
    """The delegation of authority matrix."""

    permission = VIEW

    @extend_schema(
        summary="Read the authority matrix",
        responses=MatrixSerializer,
        parameters=[OpenApiParameter("on", OpenApiTypes.DATE, description="In force on this day; default: now.")],
        tags=["authority"],
    )
    def get(self, request: Request) -> Response:
        """Answer with the version in force, and its rules."""
        if unknown := set(request.query_params) - {"on"}:
            raise ValidationError({name[:60]: [_("Unknown parameter.")] for name in unknown})
        when = clock.now()
        if text := request.query_params.get("on"):
            when = min(when, _end_of(text))
        version = services.matrix_at(when)
        if version is None:
            raise Http404(_("No matrix was in force then."))
        prefetch_related_objects([version], "rules__matter", "rules__office")
        return Response(MatrixSerializer(version).data)


def _end_of(text: str) -> datetime:
    try:
        day = parse_date(text[:20])
    except ValueError:
        day = None
    if day is None:
        raise ValidationError({"on": [_("Write a day as 2026-03-31.")]})
    return datetime.combine(day, time.max, UTC)


def _valid(serializer: Any) -> dict[str, Any]:
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)


def _refuse(error: ValueError) -> NoReturn:
    """Answer with why a service refused."""
    if isinstance(error, services.NotAllowedError):
        raise PermissionDenied(str(error)) from error
    if isinstance(error, services.KeyInUseError):
        raise ConflictError(str(error)) from error
    raise ValidationError({"detail": [str(error)]}) from error


def _person(request: Request) -> User:
    """Return who calls; `MayDo` has let nobody else through."""
    if not isinstance(request.user, User):
        raise PermissionDenied
    return request.user
