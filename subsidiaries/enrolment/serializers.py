"""What the API says of enrolments, and what it takes to make and use one."""

import base64
import binascii
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import OpenApiExample, extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from holding.models import Seat
from iam.access.rights import REASON_LENGTH
from subsidiaries.enrolment.models import Enrolment
from subsidiaries.enrolment.services import DEFAULT_MINUTES, MOST_MINUTES
from subsidiaries.enrolment.snippets import snippets

SHOWN = {
    "id": 4,
    "unit": "pricing",
    "seat": "op-0042",
    "state": "live",
    "agent": "org.claytom.pricing.operator.op-0042-g2",
    "actor": "eva",
    "reason": "pilot of the new pricing model",
    "created_at": "2026-11-22T16:40:12Z",
    "expires_at": "2026-11-22T16:55:12Z",
    "used_at": "2026-11-22T16:41:03Z",
    "credential_until": "2026-11-23T16:41:03Z",
    "seen_at": "2026-11-22T17:02:44Z",
    "epoch": 88213,
    "name": "pricing-pilot",
    "version": "1",
    "language": "node",
    "ended_at": None,
}


@extend_schema_serializer(examples=[OpenApiExample("A live agent", value=SHOWN, response_only=True)])
class EnrolmentSerializer(serializers.ModelSerializer[Enrolment]):
    """A seat that was offered to an agent of somebody's own."""

    unit = serializers.CharField(source="unit.slug", help_text="Slug of the unit.")
    seat = serializers.CharField(source="seat.code", help_text="Code of the seat.")
    state = serializers.SerializerMethodField(
        help_text="`offered`, `expired`, `waiting` (exchanged, not heard of), `live`, `silent`, `ended`."
    )
    agent = serializers.CharField(
        source="agent.subject", allow_null=True, default=None, help_text="Subject of the agent; null before."
    )

    class Meta:
        model = Enrolment
        fields = tuple(SHOWN)
        read_only_fields = fields

    @extend_schema_field(serializers.ChoiceField(choices=Enrolment.State.choices))
    def get_state(self, enrolment: Enrolment) -> str:
        """Return the state as of now."""
        return enrolment.state_at(timezone.now()).value


class EnrolSerializer(serializers.Serializer[Seat]):
    """A seat to be offered."""

    unit = serializers.CharField(max_length=24, help_text="Slug of the unit.")
    seat = serializers.CharField(max_length=30, help_text="Code of the seat, like op-0042.")
    reason = serializers.CharField(max_length=REASON_LENGTH, help_text="Why; for the ledger.")
    minutes = serializers.IntegerField(
        min_value=1, max_value=MOST_MINUTES, default=DEFAULT_MINUTES, help_text="How long the token counts."
    )

    def wanted(self) -> dict[str, Any]:
        """Return what to enrol. Raises ValidationError for a seat that does not exist or is not in view."""
        data = dict(self.validated_data)
        unit, code = data.pop("unit"), data.pop("seat")
        seat = Seat.objects.select_related("unit").filter(unit__slug=unit, code=code).first()
        if seat is None:
            raise serializers.ValidationError(
                {"seat": [_("There is no seat “%(code)s” in “%(unit)s”.") % {"code": code, "unit": unit}]}
            )
        return {**data, "seat": seat}


class SnippetSerializer(serializers.Serializer[Any]):
    """Lines to paste."""

    language = serializers.CharField()
    title = serializers.CharField()
    text = serializers.CharField()


class OfferedSerializer(EnrolmentSerializer):
    """An enrolment with its token, which is told this once."""

    token = serializers.SerializerMethodField(help_text="One-time token; it is stored nowhere.")
    snippets = serializers.SerializerMethodField(help_text="Lines to paste, in several languages.")

    class Meta(EnrolmentSerializer.Meta):
        fields = (*EnrolmentSerializer.Meta.fields, "token", "snippets")
        read_only_fields = fields

    def get_token(self, enrolment: Enrolment) -> str:
        """Return the token."""
        token: str = self.context["token"]
        return token

    @extend_schema_field(SnippetSerializer(many=True))
    def get_snippets(self, enrolment: Enrolment) -> Any:
        """Return the snippets, with the token in them."""
        return SnippetSerializer(snippets(self.context["token"]), many=True).data


class WithdrawAgentSerializer(serializers.Serializer[Enrolment]):
    """Why an enrolment ends."""

    reason = serializers.CharField(max_length=REASON_LENGTH, help_text="Why; for the ledger.")


class SignatureField(serializers.Field[bytes, str, str, Any]):
    """A signature in base64 (the alphabet of URLs or the usual one, with or without padding)."""

    default_error_messages = {"invalid": _("This is no signature of 64 bytes in base64.")}

    def to_internal_value(self, data: Any) -> bytes:
        """Return the bytes. Raises ValidationError."""
        text = str(data).strip().rstrip("=").replace("-", "+").replace("_", "/")
        try:
            signature = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except (binascii.Error, ValueError):
            self.fail("invalid")
        if len(signature) != 64:
            self.fail("invalid")
        return signature

    def to_representation(self, value: bytes) -> str:
        """Return base64."""
        return base64.b64encode(value).decode()


class LoginAskSerializer(serializers.Serializer[Any]):
    """What an agent shows for a login: the one-time token, or later the proof that it holds its key."""

    token = serializers.CharField(required=False, max_length=100, help_text="One-time token of an enrolment.")
    public_key = serializers.CharField(
        required=False,
        max_length=60,
        help_text="Public key of a NATS user (U…). With a token: the login is made for this key, and its seed "
        "stays with the agent. For a renewal: the key that the login is of.",
    )
    subject = serializers.CharField(
        required=False, max_length=120, help_text="Address that is expected; another seat's token is then refused."
    )
    at = serializers.DateTimeField(required=False, help_text="For a renewal: the time of the signature.")
    signature = extend_schema_field(serializers.CharField())(SignatureField)(
        required=False,
        help_text="For a renewal: Ed25519 over `claytom-renew <public_key> <at>` with that key, base64.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Raise ValidationError unless it is one of the two."""
        renewal = {"at", "signature"} & set(attrs)
        if ("token" in attrs) == bool(renewal):
            raise serializers.ValidationError(
                _("Send either `token`, or `public_key`, `at` and `signature` for a renewal.")
            )
        missing = {"public_key", "at", "signature"} - set(attrs) if renewal else set()
        if missing:
            raise serializers.ValidationError(
                {name: [_("A renewal needs public_key, at and signature.")] for name in sorted(missing)}
            )
        return attrs


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "A login",
            value={
                "subject": "org.claytom.pricing.operator.op-0042-g2",
                "nats_url": "nats://holding.example:4222",
                "inbox_prefix": "_INBOX_pricing_operator_op-0042-g2",
                "jwt": "eyJ0eXAiOiJKV1QiLCJhbGciOiJlZDI1NTE5LW5rZXkifQ…",
                "creds": "-----BEGIN NATS USER JWT-----\n…",
                "public_key": "UC…",
                "expires_at": "2026-11-23T16:41:03Z",
                "renew_after": "2026-11-23T04:41:03Z",
            },
            response_only=True,
        )
    ]
)
class IssuedSerializer(serializers.Serializer[dict[str, Any]]):
    """The login of an agent."""

    subject = serializers.CharField(help_text="The agent's address, which it must use from now on.")
    nats_url = serializers.CharField(help_text="Where to connect.")
    inbox_prefix = serializers.CharField(help_text="The only inboxes that the agent may read.")
    jwt = serializers.CharField(help_text="The user JWT.")
    creds = serializers.CharField(
        help_text="A credential file with JWT and seed; empty when the agent keeps the seed of its own key."
    )
    public_key = serializers.CharField(help_text="The key that the login is of.")
    expires_at = serializers.DateTimeField(help_text="Until when it counts.")
    renew_after = serializers.DateTimeField(help_text="When to ask for the next one: half of its life.")
