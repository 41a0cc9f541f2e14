"""The REST API of bindings, roles and people. Writes go through the services."""

from typing import Any

from django.db.models import QuerySet
from django.http import Http404
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ReadOnlyModelViewSet

from iam.access import explaining
from iam.access.bindings import grant_role, revoke_binding
from iam.access.filters import BindingFilter, PersonFilter
from iam.access.models import AccessRole, RoleBinding, User
from iam.access.rights import NotHeldError, RefusedError
from iam.access.serializers import (
    BindingSerializer,
    GrantSerializer,
    PersonSerializer,
    RevocationSerializer,
    RoleSerializer,
)

ID = OpenApiParameter("id", OpenApiTypes.INT, OpenApiParameter.PATH, description="Number of the binding.")
SLUG = OpenApiParameter("slug", OpenApiTypes.STR, OpenApiParameter.PATH, description="Slug of the role.")
USERNAME = OpenApiParameter("username", OpenApiTypes.STR, OpenApiParameter.PATH, description="Username.")


def _refused(error: RefusedError) -> PermissionDenied | ValidationError:
    """Return the answer to an act that a service refuses: 403 for a right that is lacking, 400 for the rest."""
    if isinstance(error, NotHeldError):
        return PermissionDenied(str(error))
    return ValidationError({"detail": [str(error)]})


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
    lookup_value_regex = "[0-9]{1,18}"

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
        try:
            binding = grant_role(by=_caller(request), **asked.wanted())
        except RefusedError as error:
            raise _refused(error) from error
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
        try:
            revoke_binding(by=_caller(request), binding=binding, reason=asked.validated_data["reason"])
        except RefusedError as error:
            raise _refused(error) from error
        return Response(BindingSerializer(self.get_object()).data)


def _caller(request: Request) -> User:
    user: Any = request.user  # `MayDo` lets only accounts through
    caller: User = user
    return caller


@extend_schema_view(
    list=extend_schema(summary="List the roles of access", description="What each gives."),
    retrieve=extend_schema(summary="Read a role of access", parameters=[SLUG]),
)
class RoleViewSet(ReadOnlyModelViewSet[AccessRole]):
    """Named sets of permissions."""

    permission = "people.view"
    queryset = AccessRole.objects.all()
    serializer_class = RoleSerializer
    ordering = "slug"
    lookup_field = "slug"
    lookup_value_regex = r"[\w-]+"

    def get_object(self) -> AccessRole:
        """Return the role. Raises Http404."""
        try:
            return super().get_object()
        except Http404 as error:
            raise Http404(_("There is no role “%(slug)s”.") % {"slug": self.kwargs["slug"]}) from error


@extend_schema_view(
    list=extend_schema(
        summary="List the people", description="Those with a binding in units where the caller may see people."
    ),
    retrieve=extend_schema(summary="Read a person", parameters=[USERNAME]),
)
class PersonViewSet(ReadOnlyModelViewSet[User]):
    """People, services and agents with an account."""

    permission = "people.view"
    queryset = User.objects.all()
    serializer_class = PersonSerializer
    filterset_class = PersonFilter
    ordering = "username"
    lookup_field = "username"
    lookup_value_regex = r"[\w.@+-]+"

    def get_queryset(self) -> QuerySet[User]:
        """Return the accounts in view."""
        return explaining.people_in_view().select_related("owner")

    def get_object(self) -> User:
        """Return the account. Raises Http404."""
        try:
            return super().get_object()
        except Http404 as error:
            raise Http404(_("There is nobody called “%(name)s”.") % {"name": self.kwargs["username"]}) from error
