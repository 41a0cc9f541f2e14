"""What the API says of refused messages and suspect sources."""

from base64 import b64encode
from typing import Any

from rest_framework import serializers

from bus.models import OutboxMessage, QuarantinedMessage, Suspect
from bus.quarantine import why_not_replayed
from portal.quarantine import as_text, split_reason


class QuarantinedSerializer(serializers.ModelSerializer[QuarantinedMessage]):
    """A refused message, without its bytes."""

    unit = serializers.SerializerMethodField(
        help_text="Slug of the subject's unit; null when there is no such unit."
    )
    reason = serializers.SerializerMethodField(help_text="Why it was refused.")
    path = serializers.SerializerMethodField(help_text="Where in the body the fault is (`$.kpis`), when known.")

    class Meta:
        model = QuarantinedMessage
        fields = (
            "id", "received_at", "state", "stage", "rule", "reason", "path", "stream", "stream_seq", "unit",
            "subject", "source", "size", "sha256", "whole", "decided_at", "decided_by", "note",
        )  # fmt: skip

    def get_unit(self, message: QuarantinedMessage) -> str | None:
        """Return the unit's slug."""
        slug: str | None = self.context["slugs"].get(message.unit_id)
        return slug

    def get_reason(self, message: QuarantinedMessage) -> str:
        """Return the reason without the path."""
        return split_reason(message.reason)[0]

    def get_path(self, message: QuarantinedMessage) -> str | None:
        """Return the path to the fault."""
        return split_reason(message.reason)[1] or None


class ReplaySerializer(serializers.ModelSerializer[OutboxMessage]):
    """How far a message is that is sent again."""

    class Meta:
        model = OutboxMessage
        fields = ("created_at", "sent_at", "attempts", "not_before", "error")


class QuarantinedDetailSerializer(QuarantinedSerializer):
    """A refused message with its headers and bytes."""

    body = serializers.SerializerMethodField(help_text="The first 32 KiB of the body, in base64.")
    text = serializers.SerializerMethodField(help_text="The same as text, when it can be read as such.")
    obstacle = serializers.SerializerMethodField(help_text="Why it cannot be sent again; null when it can.")
    replay = ReplaySerializer(allow_null=True, help_text="Once it was sent again: how far that is.")

    class Meta(QuarantinedSerializer.Meta):
        fields = (  # type: ignore[assignment]  # longer than that of the list
            *QuarantinedSerializer.Meta.fields,
            "headers",
            "body",
            "text",
            "obstacle",
            "replay",
        )

    def get_body(self, message: QuarantinedMessage) -> str:
        """Return the kept bytes."""
        return b64encode(bytes(message.body)).decode()

    def get_text(self, message: QuarantinedMessage) -> str | None:
        """Return the kept bytes as text."""
        return as_text(bytes(message.body))

    def get_obstacle(self, message: QuarantinedMessage) -> str | None:
        """Return why it cannot be sent again."""
        return why_not_replayed(message) or None


class DiscardSerializer(serializers.Serializer[dict[str, Any]]):
    """Why a message is thrown away."""

    reason = serializers.CharField(max_length=500, help_text="Kept in the ledger.")


class SuspectSerializer(serializers.ModelSerializer[Suspect]):
    """A source of which too many messages were refused."""

    class Meta:
        model = Suspect
        fields = ("id", "source", "unit", "since", "last_at", "count", "stage", "rule", "reason", "closed_at")
