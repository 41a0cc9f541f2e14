"""The REST API of the matrix: the one in force, and its versions."""

from datetime import UTC, datetime, time

from django.db.models import prefetch_related_objects
from django.http import Http404
from django.utils.dateparse import parse_date
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.mixins import ListModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from holding import clock
from iam.authority import services
from iam.authority.api.answers import MANAGE, VIEW, caller, refuse, valid
from iam.authority.models import MatrixVersion
from iam.authority.serializers import (
    AdoptSerializer,
    DraftSerializer,
    MatrixSerializer,
    VersionDetailSerializer,
    VersionSerializer,
)

NUMBER = OpenApiParameter("number", OpenApiTypes.INT, OpenApiParameter.PATH, description="Number of the version.")


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


@extend_schema_view(
    list=extend_schema(summary="List the versions of the matrix", description="Drafts too, the newest first."),
)
class VersionViewSet(ListModelMixin, GenericViewSet[MatrixVersion]):
    """Versions of the matrix: drafted by one person, adopted by another."""

    permission = {"list": VIEW, "retrieve": VIEW, "create": MANAGE, "adopt": MANAGE}
    queryset = MatrixVersion.objects.all()
    serializer_class = VersionSerializer
    lookup_field = "number"
    lookup_value_regex = "[0-9]{1,9}"

    @extend_schema(summary="Read a version of the matrix", parameters=[NUMBER], responses=VersionDetailSerializer)
    def retrieve(self, request: Request, number: str) -> Response:
        """Answer with its rules, and what it changes of the version before it."""
        self.filter_queryset(MatrixVersion.objects.none())  # refuses parameters
        return Response(VersionDetailSerializer(_version(number)).data)

    @extend_schema(
        summary="Draft the next version of the matrix",
        request=DraftSerializer,
        responses={201: VersionDetailSerializer},
    )
    def create(self, request: Request) -> Response:
        """Write all rules of the next version as a draft; it decides nothing until somebody else adopts it."""
        given = valid(DraftSerializer(data=request.data))
        try:
            proposal = services.propose(rules=[services.RuleText(**rule) for rule in given["rules"]])
        except services.MatrixError as error:
            raise ValidationError({"rules": list(error.mistakes)}) from error
        if not proposal.changes:
            raise ValidationError({"rules": [_("It says the same as the matrix before it.")]})
        version = services.draft_matrix(
            author=caller(request).get_username(), rules=proposal.rules, reason=given["reason"]
        )
        return Response(VersionDetailSerializer(version).data, status=status.HTTP_201_CREATED)

    @extend_schema(
        summary="Adopt a version of the matrix",
        parameters=[NUMBER],
        request=AdoptSerializer,
        responses=VersionDetailSerializer,
    )
    @action(detail=True, methods=["post"])
    def adopt(self, request: Request, number: str) -> Response:
        """Put a draft of somebody else in force, now or later; the version before it ends then."""
        given = valid(AdoptSerializer(data=request.data))
        version = _version(number)
        try:
            services.adopt_matrix(number=version.number, approver=caller(request).get_username(), **given)
        except ValueError as error:
            refuse(error)
        return Response(VersionDetailSerializer(_version(number)).data)


def _version(number: str) -> MatrixVersion:
    found = MatrixVersion.objects.filter(number=int(number)).first()
    if found is None:
        raise Http404(_("There is no version %(number)s of the matrix.") % {"number": int(number)})
    return found
