"""The REST API of bindings and people. Writes go through the services."""

from django.db.models import QuerySet
from django.http import Http404
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ReadOnlyModelViewSet

from iam.access import explaining
from iam.access.api_answers import NUMBER, USERNAME, caller, refusals
from iam.access.bindings import grant_role, revoke_binding
from iam.access.filters import BindingFilter, PersonFilter
from iam.access.models import RoleBinding, User
from iam.access.serializers import (
    BindingSerializer,
    GrantSerializer,
    PersonSerializer,
    RevocationSerializer,
)

ID = OpenApiParameter("id", OpenApiTypes.INT, OpenApiParameter.PATH, description="Number of the binding.")
NAME = OpenApiParameter("username", OpenApiTypes.STR, OpenApiParameter.PATH, description="Username.")


@extend_schema_view(
    list=extend_schema(
        summary="List the bindings",
        description="The newest first, in force, for units where the caller may see people.",
    ),
    retrieve=extend_schema(summary="Read a binding", parameters=[ID]),
)
class BindingViewSet(ReadOnlyModelViewSet[RoleBinding]):
    """Who holds which role, where, until when, and why."""

    permission = {
        "list": "people.view",
        "retrieve": "people.view",
        "create": "bindings.grant",
        "revoke": "bindings.grant",
    }
    queryset = RoleBinding.objects.all()
    serializer_class = BindingSerializer
    filterset_class = BindingFilter
    lookup_value_regex = NUMBER

    def get_queryset(self) -> QuerySet[RoleBinding]:
        """Return the bindings in view."""
        return RoleBinding.objects.in_view().select_related("user", "role", "unit", "granted_by")

    def get_object(self) -> RoleBinding:
        """Return the binding. Raises Http404."""
        try:
            return super().get_object()
        except Http404 as error:
            raise Http404(_("There is no binding %(id)s.") % {"id": self.kwargs["pk"]}) from error

    @extend_schema(
        summary="Grant a role",
        description="Nobody grants what they do not hold, nor anything to themselves.",
        request=GrantSerializer,
        responses={201: BindingSerializer},
    )
    def create(self, request: Request) -> Response:
        """Bind a role to somebody. Raises PermissionDenied, ValidationError."""
        asked = GrantSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        with refusals():
            binding = grant_role(by=caller(request), **asked.wanted())
        return Response(BindingSerializer(binding).data, status=status.HTTP_201_CREATED)

    @extend_schema(
        summary="Revoke a binding",
        description="At once. The last administrator stays.",
        parameters=[ID],
        request=RevocationSerializer,
        responses=BindingSerializer,
    )
    @action(detail=True, methods=["post"])
    def revoke(self, request: Request, pk: str) -> Response:
        """End a binding now. Raises PermissionDenied, ValidationError, Http404."""
        binding = self.get_object()
        asked = RevocationSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        with refusals():
            revoke_binding(by=caller(request), binding=binding, reason=asked.validated_data["reason"])
        return Response(BindingSerializer(self.get_object()).data)


@extend_schema_view(
    list=extend_schema(
        summary="List the people", description="Those with a binding in units where the caller may see people."
    ),
    retrieve=extend_schema(summary="Read a person", parameters=[NAME]),
)
class PersonViewSet(ReadOnlyModelViewSet[User]):
    """People, services and agents with an account."""

    permission = "people.view"
    queryset = User.objects.all()
    serializer_class = PersonSerializer
    filterset_class = PersonFilter
    ordering = "username"
    lookup_field = "username"
    lookup_value_regex = USERNAME

    def get_queryset(self) -> QuerySet[User]:
        """Return the accounts in view."""
        return explaining.people_in_view().select_related("owner")

    def get_object(self) -> User:
        """Return the account. Raises Http404."""
        try:
            return super().get_object()
        except Http404 as error:
            raise Http404(_("There is nobody called “%(name)s”.") % {"name": self.kwargs["username"]}) from error
