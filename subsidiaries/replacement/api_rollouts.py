"""The REST API of blueprint versions and rollouts."""

from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext_lazy
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.exceptions import APIException
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from holding.models import BlueprintVersion
from iam.access.api_answers import NUMBER, NamedViewSet, caller, refusals, require_confirmation
from subsidiaries.replacement import rollout_orders, versions
from subsidiaries.replacement.filters_rollouts import RolloutFilter, VersionFilter
from subsidiaries.replacement.progress import progress_of
from subsidiaries.replacement.rollout_models import Rollout, RolloutSeat
from subsidiaries.replacement.serializers_rollouts import (
    BlueprintChangeSerializer,
    BlueprintDraftSerializer,
    BlueprintSubmittedSerializer,
    BlueprintVersionSerializer,
    RolloutOrderSerializer,
    RolloutSeatSerializer,
    RolloutSerializer,
    UnitPlanSerializer,
    WhySerializer,
)

VERSION_ID = OpenApiParameter("id", OpenApiTypes.INT, OpenApiParameter.PATH, description="Id of the version.")
ROLLOUT_ID = OpenApiParameter("id", OpenApiTypes.INT, OpenApiParameter.PATH, description="Number of the rollout.")


class RolloutKeyTaken(APIException):
    """The key belongs to another rollout."""

    status_code = status.HTTP_409_CONFLICT


@extend_schema_view(
    list=extend_schema(summary="List the blueprint versions", description="The newest first."),
    retrieve=extend_schema(summary="Read a blueprint version", parameters=[VERSION_ID]),
)
class VersionViewSet(ListModelMixin, RetrieveModelMixin, NamedViewSet[BlueprintVersion]):
    """The recipes by which agents are made. What is approved never changes."""

    permission = {
        "list": "units.view",
        "retrieve": "units.view",
        **dict.fromkeys(("create", "partial_update", "submit", "withdraw", "revoke", "release"), versions.MANAGE),
    }
    queryset = BlueprintVersion.objects.for_listing()
    serializer_class = BlueprintVersionSerializer
    filterset_class = VersionFilter
    lookup_value_regex = NUMBER
    missing = gettext_lazy("There is no blueprint version %(key)s.")

    def get_queryset(self) -> QuerySet[BlueprintVersion]:
        """Return the versions."""
        return BlueprintVersion.objects.for_listing()

    @extend_schema(
        summary="Draft a version",
        description="The next version of a blueprint. 400 names each mistake of the specification.",
        request=BlueprintDraftSerializer,
        responses={201: BlueprintVersionSerializer},
    )
    def create(self, request: Request) -> Response:
        """Write it. Raises PermissionDenied, ValidationError."""
        asked = BlueprintDraftSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        with refusals():
            version = versions.draft(by=caller(request), **asked.validated_data)
        return Response(BlueprintVersionSerializer(version).data, status=status.HTTP_201_CREATED)

    @extend_schema(
        summary="Edit a draft",
        description="One's own, while no approval of it is pending.",
        parameters=[VERSION_ID],
        request=BlueprintChangeSerializer,
        responses=BlueprintVersionSerializer,
    )
    def partial_update(self, request: Request, pk: str) -> Response:
        """Change it. Raises PermissionDenied, ValidationError, Http404."""
        asked = BlueprintChangeSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        version = self.get_object()
        with refusals():
            versions.edit(version=version, by=caller(request), **asked.validated_data)
        return self._now()

    @extend_schema(
        summary="Submit a draft",
        description="Asks for its approval, which its author cannot give. The same again is the same approval.",
        parameters=[VERSION_ID],
        request=None,
        responses=BlueprintSubmittedSerializer,
    )
    @action(detail=True, methods=["post"])
    def submit(self, request: Request, pk: str) -> Response:
        """Ask. Raises PermissionDenied, ValidationError, Http404."""
        with refusals():
            approval = versions.submit(version=self.get_object(), by=caller(request))
        return Response(BlueprintSubmittedSerializer({"approval": approval.pk, "state": approval.state}).data)

    @extend_schema(
        summary="Withdraw a draft",
        parameters=[VERSION_ID],
        request=WhySerializer,
        responses=BlueprintVersionSerializer,
    )
    @action(detail=True, methods=["post"])
    def withdraw(self, request: Request, pk: str) -> Response:
        """End one's own draft. Raises PermissionDenied, ValidationError, Http404."""
        return self._act(versions.withdraw, request)

    @extend_schema(
        summary="Revoke a version",
        description="No further agent is made by it, and ARP replaces those that were. Needs a fresh sign-in.",
        parameters=[VERSION_ID],
        request=WhySerializer,
        responses=BlueprintVersionSerializer,
    )
    @action(detail=True, methods=["post"])
    def revoke(self, request: Request, pk: str) -> Response:
        """Revoke it. Raises PermissionDenied, ValidationError, Http404."""
        require_confirmation(request)
        return self._act(versions.revoke, request)

    @extend_schema(
        summary="Release a halted version",
        parameters=[VERSION_ID],
        request=WhySerializer,
        responses=BlueprintVersionSerializer,
    )
    @action(detail=True, methods=["post"])
    def release(self, request: Request, pk: str) -> Response:
        """Let agents be made by it again. Raises PermissionDenied, ValidationError, Http404."""
        return self._act(versions.release, request)

    def _act(self, act: Callable[..., BlueprintVersion], request: Request) -> Response:
        version = self.get_object()
        asked = WhySerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        with refusals():
            act(version=version, by=caller(request), reason=asked.validated_data["reason"])
        return self._now()

    def _now(self) -> Response:
        return Response(BlueprintVersionSerializer(self.get_object()).data)


@extend_schema_view(
    list=extend_schema(summary="List the rollouts", description="Of the units in view, the newest first."),
    retrieve=extend_schema(summary="Read a rollout", parameters=[ROLLOUT_ID]),
)
class RolloutViewSet(ListModelMixin, RetrieveModelMixin, NamedViewSet[Rollout]):
    """Agents of a role brought to another version: a canary first, then waves that never fall below the floor."""

    permission = {
        "list": "units.view",
        "retrieve": "units.view",
        "seats": "units.view",
        **dict.fromkeys(("create", "preview", "pause", "resume", "back", "abort"), rollout_orders.MANAGE),
    }
    queryset = Rollout.objects.for_listing()
    serializer_class = RolloutSerializer
    filterset_class = RolloutFilter
    lookup_value_regex = NUMBER
    missing = gettext_lazy("There is no rollout %(key)s.")

    def get_queryset(self) -> QuerySet[Rollout]:
        """Return the rollouts of the units in view."""
        return Rollout.objects.for_listing()

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Answer with a page, and the progress of its rollouts read at once."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset())) or []
        return self.get_paginated_response(self._told(page, many=True))

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Answer with one rollout."""
        return Response(self._told(self.get_object()))

    def _told(self, found: Any, *, many: bool = False) -> Any:
        rows = found if many else [found]
        context = {**self.get_serializer_context(), "progress": progress_of([row.pk for row in rows])}
        return RolloutSerializer(found, many=many, context=context).data

    @extend_schema(
        summary="Start a rollout",
        description=(
            "Needs `rollouts.manage` for the unit; everywhere, for the whole holding, with a fresh sign-in. ARP's "
            "next cycles carry it out. 409: the key is another rollout's."
        ),
        request=RolloutOrderSerializer,
        responses={201: RolloutSerializer},
    )
    def create(self, request: Request) -> Response:
        """Start it. Raises PermissionDenied, ValidationError."""
        order = self._order(request)
        if order.unit is None:
            require_confirmation(request)
        with refusals():
            try:
                rollout = rollout_orders.start(order=order, by=caller(request))
            except rollout_orders.RolloutKeyTakenError as error:
                raise RolloutKeyTaken(str(error)) from error
        return Response(self._told(rollout), status=status.HTTP_201_CREATED)

    @extend_schema(
        summary="Preview a rollout",
        description="What it would do by unit, as things are now; nothing is written.",
        request=RolloutOrderSerializer,
        responses=UnitPlanSerializer(many=True),
    )
    @action(detail=False, methods=["post"], pagination_class=None)
    def preview(self, request: Request) -> Response:
        """Answer with the plan. Raises PermissionDenied, ValidationError."""
        with refusals():
            plans = rollout_orders.preview(order=self._order(request), by=caller(request))
        return Response(UnitPlanSerializer(plans, many=True).data)

    def _order(self, request: Request) -> rollout_orders.Order:
        asked = RolloutOrderSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        given = dict(asked.validated_data)
        given["key"] = f"api-{caller(request).pk}-{given['key']}"
        return rollout_orders.Order(**given)

    @extend_schema(
        summary="List the seats of a rollout",
        description="Those that were changed, the newest first.",
        parameters=[ROLLOUT_ID],
        responses=RolloutSeatSerializer(many=True),
        filters=False,
    )
    @action(detail=True, methods=["get"], filterset_class=None)
    def seats(self, request: Request, pk: str) -> Response:
        """Answer with a page of them. Raises Http404."""
        rollout = self.get_object()
        rows: Any = RolloutSeat.objects.filter(rollout=rollout).select_related("unit", "seat", "former")
        page: Any = self.paginate_queryset(rows)
        return self.get_paginated_response(RolloutSeatSerializer(page, many=True).data)

    @extend_schema(
        summary="Pause a rollout", parameters=[ROLLOUT_ID], request=WhySerializer, responses=RolloutSerializer
    )
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: str) -> Response:
        """Begin no further agent. Raises PermissionDenied, ValidationError, Http404."""
        return self._act(rollout_orders.pause, request)

    @extend_schema(
        summary="Resume a paused rollout",
        parameters=[ROLLOUT_ID],
        request=WhySerializer,
        responses=RolloutSerializer,
    )
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: str) -> Response:
        """Go on. Raises PermissionDenied, ValidationError, Http404."""
        return self._act(rollout_orders.resume, request)

    @extend_schema(
        summary="Roll a rollout back",
        description="The seats that were changed get their former version again.",
        parameters=[ROLLOUT_ID],
        request=WhySerializer,
        responses=RolloutSerializer,
    )
    @action(detail=True, methods=["post"])
    def back(self, request: Request, pk: str) -> Response:
        """Go back. Raises PermissionDenied, ValidationError, Http404."""
        return self._act(rollout_orders.roll_back, request)

    @extend_schema(
        summary="Abort a rollout",
        description="What was changed stays.",
        parameters=[ROLLOUT_ID],
        request=WhySerializer,
        responses=RolloutSerializer,
    )
    @action(detail=True, methods=["post"])
    def abort(self, request: Request, pk: str) -> Response:
        """End it as it is. Raises PermissionDenied, ValidationError, Http404."""
        return self._act(rollout_orders.abort, request)

    def _act(self, act: Callable[..., Rollout], request: Request) -> Response:
        rollout = self.get_object()
        asked = WhySerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        with refusals():
            act(rollout=rollout, by=caller(request), reason=asked.validated_data["reason"])
        return Response(self._told(self.get_object()))
