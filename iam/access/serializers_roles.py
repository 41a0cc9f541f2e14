"""What the API says of roles and of groups of the identity provider, and what it takes to define and map them."""

from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

from iam.access.models import AccessRole, GroupMapping
from iam.access.permissions import PERMISSIONS
from iam.access.serializer_fields import PlaceField, RoleField, UnitField


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "A role",
            value={"slug": "viewer", "name": "Viewer", "permissions": ["units.view"], "built_in": True},
        )
    ]
)
class RoleSerializer(serializers.ModelSerializer[AccessRole]):
    """A named set of permissions."""

    name = serializers.CharField(help_text="Name in the language of the request (`Accept-Language`).")
    permissions = serializers.ListField(child=serializers.CharField(), help_text="Codes of permissions.")

    class Meta:
        model = AccessRole
        fields = ("slug", "name", "permissions", "built_in")
        read_only_fields = fields


class RoleChangeSerializer(serializers.Serializer[AccessRole]):
    """What a role of the house is to be: names, and what it gives."""

    name_es = serializers.CharField(max_length=100, help_text="Name in Spanish.")
    name_en = serializers.CharField(max_length=100, help_text="Name in English.")
    permissions = serializers.ListField(
        child=serializers.CharField(max_length=40), max_length=len(PERMISSIONS), help_text="Codes of permissions."
    )


class RoleDefinitionSerializer(RoleChangeSerializer):
    """A new role of the house."""

    slug = serializers.SlugField(
        max_length=40, help_text="Slug, for ever: bindings and groups name the role by it."
    )


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "A group",
            value={
                "id": 3,
                "group": "pricing-readers",
                "role": "viewer",
                "namespace": "subs-pricing",
                "unit": "pricing",
            },
            response_only=True,
        )
    ]
)
class GroupSerializer(serializers.ModelSerializer[GroupMapping]):
    """What membership in a group of the identity provider gives."""

    role = serializers.CharField(source="role.slug", help_text="Slug of the role.")
    namespace = serializers.CharField(help_text="`holding`, or `subs-<unit>`.")
    unit = PlaceField()

    class Meta:
        model = GroupMapping
        fields = ("id", "group", "role", "namespace", "unit")
        read_only_fields = fields


class GroupMapSerializer(serializers.Serializer[GroupMapping]):
    """Which group is to give which role, where."""

    group = serializers.CharField(max_length=200, help_text="Name of the group, as the identity provider tells it.")
    role = RoleField(help_text="Slug of the role.")
    unit = UnitField()
