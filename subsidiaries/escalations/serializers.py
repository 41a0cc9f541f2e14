"""What the API says of escalations, and what it takes to decide them."""

from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from iam.access.models import User
from subsidiaries.escalations.models import Escalation, Step


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "An escalation",
            value={
                "id": 12,
                "code": "failed-pricing-op-0042-g1",
                "unit": "pricing",
                "agent": "org.claytom.pricing.operator.op-0042-g1",
                "work_id": "",
                "matter": "staffing",
                "severity": "high",
                "summary": "op-0042-g1 failed: 3 crashes in 60 s; WorkerError: fault injected",
                "needs": "a new agent for the seat",
                "level": "holding",
                "state": "taken",
                "raised_at": "2026-11-22T16:40:11.804220Z",
                "due_at": "2026-11-22T17:40:12.031337Z",
                "age_s": 93,
                "overdue": False,
                "mandate": "ARP",
                "owner": "Chief operating officer",
                "office": "group-ceo",
                "taken_by": "sandra.ibanez",
                "taken_at": "2026-11-22T16:41:02.120331Z",
                "decision": "",
                "settled_by": "",
                "settled_at": None,
            },
            response_only=True,
        )
    ]
)
class EscalationSerializer(serializers.ModelSerializer[Escalation]):
    """Something that climbs until somebody takes it, and how it stands."""

    unit = serializers.CharField(source="unit.slug", help_text="Slug of the unit.")
    agent = serializers.CharField(help_text="Subject of the agent that raised it, or a part of the portal.")
    severity = serializers.SerializerMethodField(help_text="critical, high, medium or low.")
    level = serializers.ChoiceField(
        choices=Escalation.Level.choices, help_text="The highest level that was asked: a tier, or the holding."
    )
    state = serializers.ChoiceField(choices=Escalation.State.choices, help_text="How it stands.")
    age_s = serializers.SerializerMethodField(help_text="Seconds since it was raised, until it was settled.")
    overdue = serializers.SerializerMethodField(help_text="Whether it is open and past `due_at`.")
    mandate = serializers.CharField(
        source="mandate.code",
        allow_null=True,
        default=None,
        help_text="Mandate of the holding that owns the matter.",
    )
    owner = serializers.CharField(help_text="Seat of the parent company that owns it, or its body.")
    office = serializers.CharField(
        source="office.slug", allow_null=True, default=None, help_text="Office under which a person decides it."
    )
    taken_by = serializers.CharField(
        source="taker", help_text="Subject of the agent, or username of the person, who has it."
    )
    settled_by = serializers.CharField(source="settler", help_text="Username, or a part of the portal.")

    class Meta:
        model = Escalation
        fields: tuple[str, ...] = (
            "id", "code", "unit", "agent", "work_id", "matter", "severity", "summary", "needs", "level", "state",
            "raised_at", "due_at", "age_s", "overdue", "mandate", "owner", "office", "taken_by", "taken_at",
            "decision", "settled_by", "settled_at",
        )  # fmt: skip
        read_only_fields = fields

    @extend_schema_field(serializers.ChoiceField(choices=["critical", "high", "medium", "low"]))
    def get_severity(self, row: Escalation) -> str:
        """Return the word of the severity."""
        return Escalation.Severity(row.severity).name.lower()

    def get_age_s(self, row: Escalation) -> int:
        """Return its age in seconds."""
        return max(0, int(((row.settled_at or timezone.now()) - row.raised_at).total_seconds()))

    def get_overdue(self, row: Escalation) -> bool:
        """Return whether it is overdue."""
        return bool(row.overdue_by(timezone.now()))


class StepSerializer(serializers.ModelSerializer[Step]):
    """One point of an escalation's way."""

    who = serializers.CharField(source="shown", help_text="Subject of an agent, username, or a part of the portal.")

    class Meta:
        model = Step
        fields = ("kind", "level", "who", "note", "at")
        read_only_fields = fields


class EscalationDetailSerializer(EscalationSerializer):
    """An escalation with its way up and what people did."""

    steps = StepSerializer(many=True)

    class Meta(EscalationSerializer.Meta):
        fields = (*EscalationSerializer.Meta.fields, "steps")
        read_only_fields = fields


class ResolveSerializer(serializers.Serializer[dict[str, object]]):
    """A decision, and new input for the agent if it needs some."""

    decision = serializers.CharField(
        max_length=500, help_text="What is decided; the agent and the ledger are told."
    )
    input = serializers.JSONField(
        required=False, allow_null=True, default=None, help_text="New input for the agent's next run."
    )


class AssignSerializer(serializers.Serializer[dict[str, object]]):
    """Whom an escalation is handed to."""

    person = serializers.SlugRelatedField(
        slug_field="username",
        queryset=User.objects.filter(kind=User.Kind.PERSON, is_active=True),
        help_text="Username of somebody who may decide it.",
    )
