"""The REST API of who holds authority: offices, appointments, delegations, substitutions, interests."""

from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

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

from holding import clock, scope
from iam.authority import services
from iam.authority.api.answers import MANAGE, VIEW, caller, refuse, valid
from iam.authority.filters import AppointmentFilter, DelegationFilter, InterestFilter, SubstitutionFilter
from iam.authority.models import Appointment, Delegation, Interest, Office, Substitution
from iam.authority.models.holders import Effective
from iam.authority.serializers import (
    AppointmentSerializer,
    AppointSerializer,
    DeclareSerializer,
    DelegateSerializer,
    DelegationSerializer,
    InterestSerializer,
    OfficeSerializer,
    SubstituteSerializer,
    SubstitutionSerializer,
)

ID = OpenApiParameter("id", OpenApiTypes.INT, OpenApiParameter.PATH, description="Its number.")
Held = TypeVar("Held", bound=Effective)


@extend_schema_view(
    list=extend_schema(summary="List the offices", description="By rank; within the clearance they are no secret."),
)
class OfficeViewSet(ListModelMixin, GenericViewSet[Office]):
    """Who may hold authority."""

    permission = VIEW
    queryset = Office.objects.all()
    serializer_class = OfficeSerializer
    ordering = ("rank", "slug")


class HeldViewSet(GenericViewSet[Held]):
    """What holds for a time: of the units in view, and the caller's own whatever the unit."""

    permission: ClassVar[Any] = {"list": VIEW, "retrieve": VIEW, "create": VIEW, "end": VIEW}
    lookup_value_regex = "[0-9]{1,18}"

    def list(self, request: Request) -> Response:
        """Answer with a page of rows."""
        rows: Any = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(self.shown(rows))

    def retrieve(self, request: Request, pk: str) -> Response:
        """Answer with one row."""
        return Response(self.shown([self.get_object()])[0])

    def get_queryset(self) -> QuerySet[Held]:
        """Return the rows that the caller may see; none to the generator of the schema, which nobody calls."""
        model = self.get_serializer_class().Meta.model  # type: ignore[attr-defined]  # all are model serializers
        return model.objects.none() if getattr(self, "swagger_fake_view", False) else self.seen()

    def seen(self) -> QuerySet[Held]:
        """Return the rows that the caller may see."""
        raise NotImplementedError

    def get_object(self) -> Held:
        """Return the row. Raises Http404 with a sentence."""
        try:
            return super().get_object()
        except Http404 as error:
            raise Http404(_("There is nothing of the number %(id)s here.") % {"id": self.kwargs["pk"]}) from error

    def shown(self, rows: Sequence[Held]) -> Any:
        """Return rows as they are told: with their unit also when it is out of view, since they are one's own."""
        serializer: Any = self.get_serializer_class()
        model: Any = self.get_queryset().model
        with scope.opened(scope.EVERYTHING):
            found = model.objects.in_bulk([row.pk for row in rows])
            return serializer([found[row.pk] for row in rows], many=True).data

    def created(self, row: Held) -> Response:
        """Answer with a row that was written."""
        return Response(self.shown([row])[0], status=status.HTTP_201_CREATED)


def _own(row_of: int, request: Request, sentence: str) -> None:
    if row_of != caller(request).pk:
        raise PermissionDenied(sentence)


@extend_schema_view(
    list=extend_schema(
        summary="List the appointments", description="To offices of the group, of the units in view, and one's own."
    ),
    retrieve=extend_schema(summary="Read an appointment", parameters=[ID]),
)
class AppointmentViewSet(HeldViewSet[Appointment]):
    """Who holds which office."""

    permission = {"list": VIEW, "retrieve": VIEW, "create": MANAGE, "end": MANAGE}
    serializer_class = AppointmentSerializer
    filterset_class = AppointmentFilter

    def seen(self) -> QuerySet[Appointment]:
        """Return the appointments that the caller may see."""
        return services.appointments_seen(person=caller(self.request), units=scope.current().units(VIEW))

    @extend_schema(
        summary="Appoint to an office", request=AppointSerializer, responses={201: AppointmentSerializer}
    )
    def create(self, request: Request) -> Response:
        """Give somebody an office from now on; nobody appoints themselves."""
        given = valid(AppointSerializer(data=request.data))
        office = given.pop("office").slug
        try:
            made = services.appoint_to_office(office=office, actor=caller(request).get_username(), **given)
        except services.HolderError as error:
            refuse(error)
        return self.created(made)

    @extend_schema(summary="End an appointment", parameters=[ID], request=None, responses=AppointmentSerializer)
    @action(detail=True, methods=["post"])
    def end(self, request: Request, pk: str) -> Response:
        """End it now, and what was lent from it; one that has ended stays as it is."""
        ended = services.end_appointment(appointment=self.get_object(), actor=caller(request).get_username())
        return Response(self.shown([ended])[0])


@extend_schema_view(
    list=extend_schema(
        summary="List the delegations", description="Of offices of the units in view, and those given or received."
    ),
    retrieve=extend_schema(summary="Read a delegation", parameters=[ID]),
)
class DelegationViewSet(HeldViewSet[Delegation]):
    """Offices that their holders lent to others."""

    permission = {"list": VIEW, "retrieve": VIEW, "create": VIEW, "revoke": VIEW}
    serializer_class = DelegationSerializer
    filterset_class = DelegationFilter

    def seen(self) -> QuerySet[Delegation]:
        """Return the delegations that the caller may see."""
        return services.delegations_seen(person=caller(self.request), units=scope.current().units(VIEW))

    @extend_schema(summary="Lend an office", request=DelegateSerializer, responses={201: DelegationSerializer})
    def create(self, request: Request) -> Response:
        """Lend an office of the caller from now on; 403 when it is somebody else's."""
        given = valid(DelegateSerializer(data=request.data))
        matters = [matter.slug for matter in given.pop("matters", ())]
        try:
            made = services.delegate(delegator=caller(request), matters=matters, **given)
        except services.HolderError as error:
            refuse(error)
        return self.created(made)

    @extend_schema(summary="Revoke a delegation", parameters=[ID], request=None, responses=DelegationSerializer)
    @action(detail=True, methods=["post"])
    def revoke(self, request: Request, pk: str) -> Response:
        """End it now; 403 for who did not lend it."""
        row = self.get_object()
        _own(row.delegator_id, request, _("Only who lent an office takes it back."))
        ended = services.revoke_delegation(delegation=row, actor=caller(request).get_username())
        return Response(self.shown([ended])[0])


@extend_schema_view(
    list=extend_schema(
        summary="List the substitutions",
        description="For those who hold an office of the units in view, and for or by the caller.",
    ),
    retrieve=extend_schema(summary="Read a substitution", parameters=[ID]),
)
class SubstitutionViewSet(HeldViewSet[Substitution]):
    """Who stands in for whom."""

    serializer_class = SubstitutionSerializer
    filterset_class = SubstitutionFilter

    def seen(self) -> QuerySet[Substitution]:
        """Return the substitutions that the caller may see."""
        units = scope.current().units(VIEW)
        return services.substitutions_seen(person=caller(self.request), units=units, at=clock.now())

    @extend_schema(
        summary="Name a substitute", request=SubstituteSerializer, responses={201: SubstitutionSerializer}
    )
    def create(self, request: Request) -> Response:
        """Let somebody decide with all offices of the caller from now on."""
        given = valid(SubstituteSerializer(data=request.data))
        person = caller(request)
        try:
            made = services.substitute(person=person, actor=person.get_username(), **given)
        except services.HolderError as error:
            refuse(error)
        return self.created(made)

    @extend_schema(summary="End a substitution", parameters=[ID], request=None, responses=SubstitutionSerializer)
    @action(detail=True, methods=["post"])
    def end(self, request: Request, pk: str) -> Response:
        """End it now; 403 for anybody but the person who is absent."""
        row = self.get_object()
        _own(row.person_id, request, _("Only whom it stands in for ends a substitution."))
        ended = services.end_substitution(substitution=row, actor=caller(request).get_username())
        return Response(self.shown([ended])[0])


@extend_schema_view(
    list=extend_schema(
        summary="List the interests",
        description="Of those who hold an office of the units in view, and the caller's own.",
    ),
    retrieve=extend_schema(summary="Read an interest", parameters=[ID]),
)
class InterestViewSet(HeldViewSet[Interest]):
    """The register of interests."""

    serializer_class = InterestSerializer
    filterset_class = InterestFilter

    def seen(self) -> QuerySet[Interest]:
        """Return the interests that the caller may see."""
        units = scope.current().units(VIEW)
        return services.interests_seen(person=caller(self.request), units=units, at=clock.now())

    @extend_schema(summary="Declare an interest", request=DeclareSerializer, responses={201: InterestSerializer})
    def create(self, request: Request) -> Response:
        """Note an interest of the caller, who does not decide what touches it."""
        given = valid(DeclareSerializer(data=request.data))
        person = caller(request)
        try:
            made = services.declare_interest(person=person, actor=person.get_username(), **given)
        except services.HolderError as error:
            refuse(error)
        return self.created(made)

    @extend_schema(summary="End an interest", parameters=[ID], request=None, responses=InterestSerializer)
    @action(detail=True, methods=["post"])
    def end(self, request: Request, pk: str) -> Response:
        """End it now, for what is asked for from now on; 403 for anybody but the person."""
        row = self.get_object()
        _own(row.person_id, request, _("Only whose interest it is ends it."))
        ended = services.end_interest(interest=row, actor=caller(request).get_username())
        return Response(self.shown([ended])[0])
