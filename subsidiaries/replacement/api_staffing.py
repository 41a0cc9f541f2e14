"""The REST API of staffing: plans and what is live, delegated caps, planned retirements."""

from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from holding.models import Unit
from iam.access.api_answers import NUMBER, NamedViewSet, caller, refusals, require_confirmation
from iam.authority.models import Approval
from subsidiaries.replacement import delegating, outlook, retiring, staffing
from subsidiaries.replacement.filters import CapDelegationFilter, RetirementFilter
from subsidiaries.replacement.planning import CapDelegation, Retirement, StaffingPlan
from subsidiaries.replacement.serializers_staffing import (
    AskedSerializer,
    CapAskedSerializer,
    CapDelegationSerializer,
    PlanAskedSerializer,
    RetireAskedSerializer,
    RetirementSerializer,
    StaffingReasonSerializer,
    StaffingSerializer,
)

SLUG = OpenApiParameter("slug", OpenApiTypes.STR, OpenApiParameter.PATH, description="Slug of a subsidiary.")
ID = OpenApiParameter("id", OpenApiTypes.INT, OpenApiParameter.PATH, description="Its number.")


@extend_schema_view(
    list=extend_schema(
        summary="List how subsidiaries are staffed",
        description="Floor, establishment, live agents, the reserve that is needed and why, caps of the day.",
        responses=StaffingSerializer(many=True),
    ),
    retrieve=extend_schema(
        summary="Read how a subsidiary is staffed", parameters=[SLUG], responses=StaffingSerializer
    ),
)
class StaffingViewSet(ListModelMixin, RetrieveModelMixin, NamedViewSet[Unit]):
    """Staffing plans against what is live. What changes them is an approval, and done at once within the limit."""

    permission = {
        "list": "units.view",
        "retrieve": "units.view",
        **dict.fromkeys(("change", "cap"), staffing.PERMISSION),
        "retire": retiring.PERMISSION,
    }
    queryset = Unit.objects.subsidiaries()
    serializer_class = StaffingSerializer  # type: ignore[assignment]  # of what is read of a unit
    ordering = "position"
    lookup_field = "slug"
    lookup_value_regex = "[^/]+"
    missing = gettext_lazy("There is no subsidiary “%(key)s”.")

    def get_queryset(self) -> QuerySet[Unit]:
        """Return the subsidiaries in view."""
        return Unit.objects.subsidiaries()

    def paginate_queryset(self, queryset: Any) -> Any:
        """Return a page of units as they are staffed now."""
        return outlook.outlook(units=super().paginate_queryset(queryset) or [], now=timezone.now())

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Return one unit as it is staffed now. Raises Http404."""
        [found] = outlook.outlook(units=[self.get_object()], now=timezone.now())
        return Response(self.get_serializer(found).data)

    @extend_schema(
        summary="Ask for another staffing plan",
        description=(
            "Of the operators. `executed`: it was within the delegated limit and is done; `pending`: it waits for "
            "a decision. The same key again is the same request."
        ),
        parameters=[SLUG],
        request=PlanAskedSerializer,
        responses={201: AskedSerializer},
    )
    @action(detail=True, methods=["post"])
    def change(self, request: Request, slug: str) -> Response:
        """Ask for it. Raises PermissionDenied, ValidationError, Http404."""
        unit, plan = self._plan()
        said = _said(PlanAskedSerializer, request)
        wanted = staffing.Change(unit, plan.role, said["floor"], said["reserve"], said["maximum"])
        with refusals():
            asked = staffing.ask(
                change=wanted, by=caller(request), reason=said["reason"], key=_key("plan", request, said)
            )
        return _answer(asked)

    @extend_schema(
        summary="Ask for a delegated cap",
        description="From today on. Decided by whoever may allow so many replacements beyond the rule's cap.",
        parameters=[SLUG],
        request=CapAskedSerializer,
        responses={201: AskedSerializer},
    )
    @action(detail=True, methods=["post"])
    def cap(self, request: Request, slug: str) -> Response:
        """Ask for it. Raises PermissionDenied, ValidationError, Http404."""
        unit = self.get_object()
        said = _said(CapAskedSerializer, request)
        with refusals():
            asked = delegating.ask(
                cap=delegating.Cap(unit, said["cap"], delegating.today(), said["ends_on"]),
                by=caller(request),
                reason=said["reason"],
                key=_key("cap", request, said),
            )
        return _answer(asked)

    @extend_schema(
        summary="Retire agents by plan",
        description=(
            "Operators are followed by their next generation, never more at once than are live beyond the floor. A "
            "session must have been confirmed in the last ten minutes."
        ),
        parameters=[SLUG],
        request=RetireAskedSerializer,
        responses={201: RetirementSerializer},
    )
    @action(detail=True, methods=["post"])
    def retire(self, request: Request, slug: str) -> Response:
        """Order it. Raises PermissionDenied, ValidationError, Http404."""
        unit, plan = self._plan()
        said = _said(RetireAskedSerializer, request)
        require_confirmation(request)
        order = retiring.Order(
            unit=unit,
            role=plan.role,
            choice=said["choice"],
            count=said["count"],
            version=said["version"],
            named=tuple(dict.fromkeys(said["named"])),
            surge=said["surge"],
        )
        with refusals():
            made = retiring.begin(
                order=order, by=caller(request), reason=said["reason"], key=_key("retire", request, said)
            )
        return Response(RetirementSerializer(made).data, status=status.HTTP_201_CREATED)

    def _plan(self) -> tuple[Unit, StaffingPlan]:
        unit = self.get_object()
        plans = StaffingPlan.objects.filter(unit=unit).select_related("unit", "role")
        plan = outlook.elastic(plans)
        if plan is None:
            raise NotFound
        return unit, plan


def _said(kind: Any, request: Request) -> dict[str, Any]:
    asked = kind(data=request.data)
    asked.is_valid(raise_exception=True)
    return dict(asked.validated_data)


def _key(kind: str, request: Request, said: dict[str, Any]) -> str:
    return f"staffing-{kind}/api-{caller(request).pk}/{said['key']}"


def _answer(asked: Approval) -> Response:
    return Response(AskedSerializer(asked).data, status=status.HTTP_201_CREATED)


@extend_schema_view(
    list=extend_schema(summary="List the planned retirements", description="The newest first."),
    retrieve=extend_schema(summary="Read a planned retirement", parameters=[ID]),
)
class RetirementViewSet(ListModelMixin, RetrieveModelMixin, NamedViewSet[Retirement]):
    """Agents that are followed by their next generation, surge first, drain after."""

    permission = {
        "list": "units.view",
        "retrieve": "units.view",
        **dict.fromkeys(("pause", "resume", "abort"), retiring.PERMISSION),
    }
    queryset = Retirement.objects.select_related("unit", "role")
    serializer_class = RetirementSerializer
    filterset_class = RetirementFilter
    lookup_value_regex = NUMBER
    missing = gettext_lazy("There is no planned retirement %(key)s.")

    def paginate_queryset(self, queryset: Any) -> Any:
        """Return a page, and read how far its retirements have come at once."""
        page = super().paginate_queryset(queryset) or []
        self._progress = retiring.progress(*page)
        return page

    def get_serializer_context(self) -> dict[str, Any]:
        """Give the serializer the progress of the page."""
        return {**super().get_serializer_context(), "progress": getattr(self, "_progress", None)}

    @extend_schema(summary="Pause a planned retirement", parameters=[ID], request=StaffingReasonSerializer)
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: str) -> Response:
        """Take out no further agent. Raises PermissionDenied, ValidationError, Http404."""
        return self._act(retiring.pause, request)

    @extend_schema(summary="Let a paused retirement go on", parameters=[ID], request=StaffingReasonSerializer)
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: str) -> Response:
        """Go on. Raises PermissionDenied, ValidationError, Http404."""
        return self._act(retiring.resume, request)

    @extend_schema(summary="Abort a planned retirement", parameters=[ID], request=StaffingReasonSerializer)
    @action(detail=True, methods=["post"])
    def abort(self, request: Request, pk: str) -> Response:
        """End it; whoever was followed stays so. Raises PermissionDenied, ValidationError, Http404."""
        return self._act(retiring.abort, request)

    def _act(self, act: Callable[..., Retirement], request: Request) -> Response:
        found = self.get_object()
        said = _said(StaffingReasonSerializer, request)
        with refusals():
            act(retirement=found, by=caller(request), reason=said["reason"])
        return Response(self.get_serializer(self.get_object()).data)


@extend_schema_view(
    list=extend_schema(
        summary="List the delegated caps",
        description="The newest first; of a unit, the newest one in force counts.",
    )
)
class CapDelegationViewSet(ListModelMixin, NamedViewSet[CapDelegation]):
    """Replacements per business day that people delegated to ARP."""

    permission = {"list": "units.view", "revoke": delegating.REVOKE}
    queryset = CapDelegation.objects.select_related("unit")
    serializer_class = CapDelegationSerializer
    filterset_class = CapDelegationFilter
    lookup_value_regex = NUMBER
    missing = gettext_lazy("There is no delegated cap %(key)s.")

    @extend_schema(summary="Revoke a delegated cap", parameters=[ID], request=StaffingReasonSerializer)
    @action(detail=True, methods=["post"])
    def revoke(self, request: Request, pk: str) -> Response:
        """End it now. Raises PermissionDenied, ValidationError, Http404."""
        found = self.get_object()
        said = _said(StaffingReasonSerializer, request)
        with refusals():
            delegating.revoke(delegation=found, by=caller(request), reason=said["reason"])
        return Response(self.get_serializer(self.get_object()).data)
