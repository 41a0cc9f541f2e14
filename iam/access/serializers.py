"""What the API says of bindings and people, and what it takes to grant and revoke."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

from iam.access.explaining import is_dormant
from iam.access.models import RoleBinding, User
from iam.access.rights import REASON_LENGTH
from iam.access.serializer_fields import AccountField, RoleField, UnitField


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "A binding",
            value={
                "id": 7,
                "person": "eva",
                "role": "viewer",
                "namespace": "subs-pricing",
                "unit": "pricing",
                "starts_at": "2026-11-22T16:40:12Z",
                "expires_at": None,
                "revoked_at": None,
                "granted_by": "head-pricing",
                "source": "granted",
                "reason": "joins the team",
            },
            response_only=True,
        )
    ]
)
class BindingSerializer(serializers.ModelSerializer[RoleBinding]):
    """A role held by somebody for a unit and all below it, or for the whole holding."""

    person = serializers.CharField(source="user.username", help_text="Username.")
    role = serializers.CharField(source="role.slug", help_text="Slug of the role.")
    namespace = serializers.CharField(help_text="`holding`, or `subs-<unit>`.")
    unit = serializers.CharField(
        source="unit.slug", allow_null=True, default=None, help_text="Slug of the unit; null for the whole holding."
    )
    granted_by = serializers.CharField(
        source="granted_by.username", allow_null=True, default=None, help_text="Null for the portal itself."
    )

    class Meta:
        model = RoleBinding
        fields = (
            "id", "person", "role", "namespace", "unit", "starts_at", "expires_at", "revoked_at", "granted_by",
            "source", "reason",
        )  # fmt: skip
        read_only_fields = fields


class GrantSerializer(serializers.Serializer[RoleBinding]):
    """Who is to have which role, where, from when until when, and why."""

    person = AccountField(help_text="Username of the account.")
    role = RoleField(help_text="Slug of the role.")
    unit = UnitField()
    starts_at = serializers.DateTimeField(required=False, allow_null=True, default=None, help_text="Default: now.")
    expires_at = serializers.DateTimeField(
        required=False, allow_null=True, default=None, help_text="Null for no end."
    )
    reason = serializers.CharField(max_length=REASON_LENGTH, help_text="Why; the ledger keeps it.")

    def wanted(self) -> dict[str, Any]:
        """Return what `grant_role` takes."""
        data = dict(self.validated_data)
        return {"user": data.pop("person"), **data}


class RevocationSerializer(serializers.Serializer[RoleBinding]):
    """Why a binding ends."""

    reason = serializers.CharField(max_length=REASON_LENGTH, help_text="Why; the ledger keeps it.")


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "A person",
            value={
                "username": "eva",
                "name": "Eva Ruiz",
                "kind": "person",
                "owner": None,
                "is_active": True,
                "cleared": True,
                "last_login": "2026-11-22T16:40:12Z",
                "dormant": False,
            },
        )
    ]
)
class PersonSerializer(serializers.ModelSerializer[User]):
    """A person, a service or an agent with an account."""

    name = serializers.CharField(help_text="Full name, or the username.")
    owner = serializers.CharField(
        source="owner.username", allow_null=True, default=None, help_text="Who answers for a service or an agent."
    )
    dormant = serializers.SerializerMethodField(help_text="Whether the person has not signed in for 90 days.")

    class Meta:
        model = User
        fields = ("username", "name", "kind", "owner", "is_active", "cleared", "last_login", "dormant")
        read_only_fields = fields

    def get_dormant(self, user: User) -> bool:
        """Return whether the person has not signed in for 90 days."""
        return is_dormant(user)
