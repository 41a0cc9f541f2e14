"""The REST API of commands."""

from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.exceptions import APIException
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from iam.access.api_answers import NUMBER, NamedViewSet, caller, refusals, require_confirmation
from subsidiaries.commands import services
from subsidiaries.commands.filters import CommandFilter
from subsidiaries.commands.models import Command, Target
from subsidiaries.commands.orders import PAUSE, Order
from subsidiaries.commands.serializers import CommandSerializer, OrderSerializer, ReasonSerializer

ID = OpenApiParameter("id", OpenApiTypes.INT, OpenApiParameter.PATH, description="Number of the command.")


class KeyTaken(APIException):
    """The key belongs to another order."""

    status_code = status.HTTP_409_CONFLICT


@extend_schema_view(
    list=extend_schema(summary="List the commands", description="Of the units in view, the newest first."),
    retrieve=extend_schema(summary="Read a command", parameters=[ID]),
)
class CommandViewSet(ListModelMixin, RetrieveModelMixin, NamedViewSet[Command]):
    """Orders to agents and hosts. They are obeyed by manifest generation, and confirmed by presence."""

    permission = {
        "list": "units.view",
        "retrieve": "units.view",
        **dict.fromkeys(("create", "halt", "proceed", "abort"), PAUSE),
    }
    queryset = Command.objects.for_listing()
    serializer_class = CommandSerializer
    filterset_class = CommandFilter
    lookup_value_regex = NUMBER
    missing = gettext_lazy("There is no command %(key)s.")

    def get_queryset(self) -> QuerySet[Command]:
        """Return the commands of the units in view."""
        return Command.objects.for_listing()

    def paginate_queryset(self, queryset: Any) -> Any:
        """Return a page, and read the counts of its commands at once."""
        page = super().paginate_queryset(queryset) or []
        self._counts = Target.objects.counted(timezone.now(), of=[command.pk for command in page])
        return page

    def get_serializer_context(self) -> dict[str, Any]:
        """Give the serializer the counts of the page."""
        return {**super().get_serializer_context(), "counts": getattr(self, "_counts", None)}

    @extend_schema(
        summary="Give a command",
        description=(
            "Pause, resume and report need `commands.pause`, the others `commands.issue`, for the unit; about the "
            "whole holding, a role everywhere or a host, for the whole holding. The last ones and a retirement ask "
            "a session to have been confirmed in the last ten minutes. 409: the key is another order's."
        ),
        request=OrderSerializer,
        responses={201: CommandSerializer},
    )
    def create(self, request: Request) -> Response:
        """Give it. Raises PermissionDenied, ValidationError."""
        asked = OrderSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        given: dict[str, Any] = dict(asked.validated_data)
        person = caller(request)
        given["key"] = f"api-{person.pk}-{given['key']}"
        if (lifts := given.get("lifts")) is not None and given["verb"] == Command.Verb.RESUME:
            order = services.lifting(lifts, reason=given["reason"], key=given["key"])
        else:
            order = Order(**{**given, "lifts": None})
        if services.needs_confirmation(order):
            require_confirmation(request)
        with refusals():
            try:
                command = services.issue(order=order, by=person)
            except services.KeyTakenError as error:
                raise KeyTaken(str(error)) from error
        return Response(self.get_serializer(command).data, status=status.HTTP_201_CREATED)

    @extend_schema(
        summary="Halt a roll-out", parameters=[ID], request=ReasonSerializer, responses=CommandSerializer
    )
    @action(detail=True, methods=["post"])
    def halt(self, request: Request, pk: str) -> Response:
        """Begin no further step. Raises PermissionDenied, ValidationError, Http404."""
        return self._act(services.halt, request)

    @extend_schema(
        summary="Let a halted command go on",
        description="The failures so far are accepted.",
        parameters=[ID],
        request=ReasonSerializer,
        responses=CommandSerializer,
    )
    @action(detail=True, methods=["post"], url_path="continue")
    def proceed(self, request: Request, pk: str) -> Response:
        """Go on. Raises PermissionDenied, ValidationError, Http404."""
        return self._act(services.proceed, request)

    @extend_schema(
        summary="Abort a command",
        description="What was done stays, until it is lifted.",
        parameters=[ID],
        request=ReasonSerializer,
        responses=CommandSerializer,
    )
    @action(detail=True, methods=["post"])
    def abort(self, request: Request, pk: str) -> Response:
        """End it before its last step. Raises PermissionDenied, ValidationError, Http404."""
        return self._act(services.abort, request)

    def _act(self, act: Any, request: Request) -> Response:
        command = self.get_object()
        asked = ReasonSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        with refusals():
            act(command=command, by=caller(request), reason=asked.validated_data["reason"])
        return Response(self.get_serializer(self.get_object()).data)
