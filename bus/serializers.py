"""What the API says of directed messages."""

from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

from bus.mailbox import type_name
from bus.models import DirectedMessage


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "An answered message",
            value={
                "id": 31,
                "key": "er-failed-pricing-op-0042-g1",
                "agent": "org.claytom.pricing.operator.op-0042-g1",
                "type": "escalation.resolve",
                "source": "portal/escalations",
                "created_at": "2026-11-22T16:40:12.031337Z",
                "not_before": "2026-11-22T16:40:12.031337Z",
                "deadline": "2026-11-22T17:40:12.031337Z",
                "attempts": 1,
                "error": "",
                "state": "accepted",
                "code": "noted",
                "reason": "",
                "settled_at": "2026-11-22T16:40:12.312200Z",
            },
        )
    ]
)
class DirectedMessageSerializer(serializers.ModelSerializer[DirectedMessage]):
    """A message to one agent, and what became of it. Its body is the agent's."""

    agent = serializers.CharField(source="address", help_text="Subject of the agent.")
    type = serializers.SerializerMethodField(help_text="Name of the message in the protocol.")
    state = serializers.ChoiceField(
        choices=DirectedMessage.State.choices,
        help_text="`open` until the agent has answered, its deadline is over, or it was taken back.",
    )
    error = serializers.CharField(help_text="Why the last attempt brought no answer; `absent`: nobody was there.")

    class Meta:
        model = DirectedMessage
        fields = (
            "id", "key", "agent", "type", "source", "created_at", "not_before", "deadline", "attempts", "error",
            "state", "code", "reason", "settled_at",
        )  # fmt: skip
        read_only_fields = fields

    def get_type(self, message: DirectedMessage) -> str:
        """Return the name of the message's type."""
        return type_name(message.type)
