"""What the API says of invitations, and what it takes to invite."""

from django.conf import settings
from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

from iam.access.models import Invitation
from iam.access.serializer_fields import PlaceField, RoleField, UnitField


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "An invitation",
            value={
                "id": 5,
                "email": "eva@example.org",
                "first_name": "Eva",
                "last_name": "Ruiz",
                "role": "viewer",
                "unit": "pricing",
                "language": "es",
                "invited_by": "root",
                "created_at": "2026-11-22T16:40:12Z",
                "expires_at": "2026-11-29T16:40:12Z",
            },
            response_only=True,
        )
    ]
)
class InvitationSerializer(serializers.ModelSerializer[Invitation]):
    """An invitation that can be accepted, without what opens it."""

    role = serializers.CharField(
        source="role.slug", allow_null=True, default=None, help_text="Slug of the role; null for none."
    )
    unit = PlaceField()
    invited_by = serializers.CharField(source="invited_by.username", help_text="Username of who invited.")

    class Meta:
        model = Invitation
        fields = (
            "id", "email", "first_name", "last_name", "role", "unit", "language", "invited_by", "created_at",
            "expires_at",
        )  # fmt: skip
        read_only_fields = fields


class InviteSerializer(serializers.Serializer[Invitation]):
    """Whom to invite, and to which role."""

    email = serializers.EmailField(max_length=254, help_text="Where the link is sent.")
    first_name = serializers.CharField(
        required=False, allow_blank=True, default="", max_length=150, help_text="First name."
    )
    last_name = serializers.CharField(
        required=False, allow_blank=True, default="", max_length=150, help_text="Last name."
    )
    role = RoleField(help_text="Slug of the role.")
    unit = UnitField()
    language = serializers.ChoiceField(
        choices=["es", "en"], default=settings.LANGUAGE_CODE, help_text="Language of the mail."
    )
