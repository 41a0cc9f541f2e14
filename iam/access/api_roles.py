"""The REST API of roles, and of what groups of the identity provider give."""

from django.db.models import QuerySet
from django.http import Http404
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.mixins import ListModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ReadOnlyModelViewSet

from iam.access.api_answers import NUMBER, NamedViewSet, caller, refusals
from iam.access.filters import GroupFilter
from iam.access.models import AccessRole, GroupMapping
from iam.access.roles import change_role, define_role, groups_in_view, map_group, unmap_group
from iam.access.serializers_roles import (
    GroupMapSerializer,
    GroupSerializer,
    RoleChangeSerializer,
    RoleDefinitionSerializer,
    RoleSerializer,
)

ID = OpenApiParameter("id", OpenApiTypes.INT, OpenApiParameter.PATH, description="Number of the mapping.")
SLUG = OpenApiParameter("slug", OpenApiTypes.STR, OpenApiParameter.PATH, description="Slug of the role.")


@extend_schema_view(
    list=extend_schema(summary="List the roles of access", description="What each gives."),
    retrieve=extend_schema(summary="Read a role of access", parameters=[SLUG]),
)
class RoleViewSet(ReadOnlyModelViewSet[AccessRole]):
    """Named sets of permissions."""

    permission = {
        "list": "people.view",
        "retrieve": "people.view",
        "create": "roles.manage",
        "partial_update": "roles.manage",
    }
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

    @extend_schema(
        summary="Define a role",
        description="Of permissions that the caller holds for the whole holding.",
        request=RoleDefinitionSerializer,
        responses={201: RoleSerializer},
    )
    def create(self, request: Request) -> Response:
        """Define a role of the house. Raises PermissionDenied, ValidationError."""
        asked = RoleDefinitionSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        with refusals():
            role = define_role(by=caller(request), **asked.validated_data)
        return Response(RoleSerializer(role).data, status=status.HTTP_201_CREATED)

    @extend_schema(
        summary="Change a role",
        description="For everybody who holds it. Roles that come with the portal do not change.",
        parameters=[SLUG],
        request=RoleChangeSerializer,
        responses=RoleSerializer,
    )
    def partial_update(self, request: Request, slug: str) -> Response:
        """Change what is named, keep the rest. Raises PermissionDenied, ValidationError, Http404."""
        role = self.get_object()
        asked = RoleChangeSerializer(data=request.data, partial=True)
        asked.is_valid(raise_exception=True)
        kept = {"name_es": role.name_es, "name_en": role.name_en, "permissions": role.permissions}
        with refusals():
            role = change_role(by=caller(request), role=role, **{**kept, **asked.validated_data})
        return Response(RoleSerializer(role).data)


@extend_schema_view(
    list=extend_schema(
        summary="List what groups give",
        description="The newest first, for units where the caller may see people.",
    ),
)
class GroupViewSet(ListModelMixin, NamedViewSet[GroupMapping]):
    """What membership in groups of the identity provider gives."""

    permission = {"list": "people.view", "create": "bindings.grant", "destroy": "bindings.grant"}
    queryset = GroupMapping.objects.all()
    serializer_class = GroupSerializer
    filterset_class = GroupFilter
    lookup_value_regex = NUMBER
    missing = gettext_lazy("There is no mapping %(key)s.")

    def get_queryset(self) -> QuerySet[GroupMapping]:
        """Return the mappings in view."""
        return groups_in_view()

    @extend_schema(
        summary="Let a group give a role",
        description="To whoever is in it when they sign in. The caller must hold all of the role there.",
        request=GroupMapSerializer,
        responses={201: GroupSerializer},
    )
    def create(self, request: Request) -> Response:
        """Map a group. Raises PermissionDenied, ValidationError."""
        asked = GroupMapSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        with refusals():
            mapping = map_group(by=caller(request), **asked.validated_data)
        return Response(GroupSerializer(mapping).data, status=status.HTTP_201_CREATED)

    @extend_schema(
        summary="Let a group give a role no more",
        description="Who has it by the group loses it at the next sign-in.",
        parameters=[ID],
        responses={204: None},
    )
    def destroy(self, request: Request, pk: str) -> Response:
        """Delete a mapping. Raises PermissionDenied, Http404."""
        mapping = self.get_object()
        with refusals():
            unmap_group(by=caller(request), mapping=mapping)
        return Response(status=status.HTTP_204_NO_CONTENT)
