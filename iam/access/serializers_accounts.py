"""What the API says of accounts of services and agents and of tokens, and what it takes to make them."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

from iam.access.models import ApiToken, User
from iam.access.permissions import PERMISSIONS
from iam.access.serializer_fields import AccountField, PlaceField, UnitField

ACCOUNT_KINDS = [(kind.value, kind.label) for kind in User.Kind if kind != User.Kind.PERSON]


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "A service",
            value={
                "username": "erp",
                "kind": "service",
                "owner": "eva",
                "is_active": True,
                "cleared": True,
                "tokens": 1,
                "next_end": "2027-02-20T00:00:00Z",
                "last_used_at": "2026-11-22T16:40:12Z",
            },
            response_only=True,
        )
    ]
)
class AccountSerializer(serializers.ModelSerializer[User]):
    """The account of a service or an agent. Its roles are its bindings."""

    kind = serializers.ChoiceField(choices=ACCOUNT_KINDS, help_text="Kind of account.")
    owner = serializers.CharField(source="owner.username", help_text="Username of the person who answers for it.")
    tokens = serializers.IntegerField(source="token_count", help_text="Tokens that have not expired.")
    next_end = serializers.DateTimeField(allow_null=True, help_text="When the next of these expires.")
    last_used_at = serializers.DateTimeField(
        allow_null=True, help_text="When one of its tokens was shown last, to the minute."
    )

    class Meta:
        model = User
        fields = ("username", "kind", "owner", "is_active", "cleared", "tokens", "next_end", "last_used_at")
        read_only_fields = fields


class NewAccountSerializer(serializers.Serializer[User]):
    """A new account: its name, whether a service's or an agent's, and who answers for it."""

    username = serializers.CharField(
        max_length=150, validators=[User.username_validator], help_text="Name; letters, digits and @ . + - _."
    )
    kind = serializers.ChoiceField(choices=ACCOUNT_KINDS, default=User.Kind.SERVICE, help_text="Kind of account.")
    owner = AccountField(help_text="Username of an active person with the clearance.")
    cleared = serializers.BooleanField(default=True, help_text="Whether it has the clearance: without it, nothing.")


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "A token",
            value={
                "id": 12,
                "account": "erp",
                "name": "nightly",
                "permissions": ["units.view"],
                "unit": "pricing",
                "created_at": "2026-11-22T16:40:12Z",
                "expires_at": "2027-02-20T00:00:00Z",
                "last_used_at": None,
            },
            response_only=True,
        )
    ]
)
class TokenSerializer(serializers.ModelSerializer[ApiToken]):
    """A token, without what it is: only its digest is stored."""

    account = serializers.CharField(source="user.username", help_text="Username of the account.")
    permissions = serializers.ListField(
        child=serializers.CharField(), help_text="Codes of permissions; empty for whatever the account may."
    )
    unit = PlaceField(help_text="Slug of the unit that it opens; null for all that the account may see.")

    class Meta:
        model = ApiToken
        fields = (
            "id", "account", "name", "permissions", "unit", "created_at", "expires_at", "last_used_at",
        )  # fmt: skip
        read_only_fields = fields


class IssuedTokenSerializer(TokenSerializer):
    """A new token, with what it is: told this once."""

    token = serializers.SerializerMethodField(help_text="The token. It is told only now.")

    class Meta(TokenSerializer.Meta):
        fields = (*TokenSerializer.Meta.fields, "token")  # type: ignore[assignment]
        read_only_fields = fields  # type: ignore[assignment]

    def get_token(self, token: ApiToken) -> str:
        """Return the text that the view gives."""
        text: str = self.context["token"]
        return text


class NewTokenSerializer(serializers.Serializer[ApiToken]):
    """A new token: what for, until when, and what it opens."""

    name = serializers.CharField(max_length=100, help_text="What it is for; once for each account.")
    expires_at = serializers.DateTimeField(help_text="Its end, at most 365 days away.")
    permissions = serializers.ListField(
        child=serializers.CharField(max_length=40),
        max_length=len(PERMISSIONS),
        default=list,
        help_text="Codes of permissions; empty for whatever the account may.",
    )
    unit = UnitField(help_text="Slug of the unit that it opens; null for all that the account may see.")

    def wanted(self) -> dict[str, Any]:
        """Return what `new_token` takes."""
        return dict(self.validated_data)


class NewAccountTokenSerializer(NewTokenSerializer):
    """A new token of a service or an agent."""

    account = AccountField(
        kinds=[kind for kind, _label in ACCOUNT_KINDS], help_text="Username of the service or the agent."
    )
