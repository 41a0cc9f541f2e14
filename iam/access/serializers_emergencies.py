"""What the API says of emergency access, and what it takes to ask for it and to decide."""

from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from audit.models import LedgerEntry
from iam.access.emergencies import REASON_LENGTH, SHORTEST_MINUTES, done_meanwhile
from iam.access.models import EmergencyAccess
from iam.access.serializer_fields import PlaceField, RoleField, UnitField


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "Emergency access",
            value={
                "id": 4,
                "person": "head-pricing",
                "role": "administrator",
                "namespace": "subs-pricing",
                "unit": "pricing",
                "reason": "the floor is missed",
                "minutes": 30,
                "state": "active",
                "requested_at": "2026-11-22T16:40:12Z",
                "decided_by": "chief",
                "decided_at": "2026-11-22T16:42:40Z",
                "starts_at": "2026-11-22T16:42:40Z",
                "ends_at": "2026-11-22T17:12:40Z",
            },
            response_only=True,
        )
    ]
)
class EmergencySerializer(serializers.ModelSerializer[EmergencyAccess]):
    """A role asked for in an emergency, what became of it, and in which time it was in force."""

    person = serializers.CharField(source="user.username", help_text="Username of who asked.")
    role = serializers.CharField(source="role.slug", help_text="Slug of the role.")
    namespace = serializers.CharField(help_text="`holding`, or `subs-<unit>`.")
    unit = PlaceField()
    state = serializers.SerializerMethodField(help_text="The state now: time refuses and ends by itself.")
    decided_by = serializers.CharField(
        source="decided_by.username", allow_null=True, default=None, help_text="Null until then, and for time."
    )
    starts_at = serializers.DateTimeField(
        source="binding.starts_at", allow_null=True, default=None, help_text="When it came in force."
    )
    ends_at = serializers.DateTimeField(
        source="binding.ends_at", allow_null=True, default=None, help_text="When it ended, or will end."
    )

    class Meta:
        model = EmergencyAccess
        fields = (
            "id", "person", "role", "namespace", "unit", "reason", "minutes", "state", "requested_at", "decided_by",
            "decided_at", "starts_at", "ends_at",
        )  # fmt: skip
        read_only_fields = fields

    @extend_schema_field(serializers.ChoiceField(choices=EmergencyAccess.State.choices))
    def get_state(self, emergency: EmergencyAccess) -> str:
        """Return the state now."""
        return str(emergency.state_at(timezone.now()))


class ActSerializer(serializers.ModelSerializer[LedgerEntry]):
    """An entry of the ledger, in short."""

    class Meta:
        model = LedgerEntry
        fields = ("id", "at", "action", "object")
        read_only_fields = fields


class DoneSerializer(serializers.Serializer[EmergencyAccess]):
    """What its person did in that time: how many acts, and the newest two hundred."""

    count = serializers.IntegerField(help_text="Entries of the ledger by that person in that time.")
    newest = ActSerializer(
        many=True,
        allow_null=True,
        help_text="The newest first; null for whoever does not see the people of the whole holding.",
    )


class EmergencyDetailSerializer(EmergencySerializer):
    """Emergency access, with what was done in that time."""

    done = serializers.SerializerMethodField(help_text="What its person did in that time.")

    class Meta(EmergencySerializer.Meta):
        fields = (*EmergencySerializer.Meta.fields, "done")  # type: ignore[assignment]
        read_only_fields = fields  # type: ignore[assignment]

    @extend_schema_field(DoneSerializer)
    def get_done(self, emergency: EmergencyAccess) -> dict[str, object]:
        """Return the acts."""
        return dict(DoneSerializer(done_meanwhile(emergency)).data)  # type: ignore[arg-type]


class EmergencyRequestSerializer(serializers.Serializer[EmergencyAccess]):
    """Which role is needed where, for how long, and what has happened."""

    role = RoleField(help_text="Slug of the role.")
    unit = UnitField()
    minutes = serializers.IntegerField(
        min_value=SHORTEST_MINUTES, max_value=EmergencyAccess.MAX_MINUTES, help_text="Minutes, 5 to 240."
    )
    reason = serializers.CharField(max_length=REASON_LENGTH, help_text="What has happened.")


class EmergencyDecisionSerializer(serializers.Serializer[EmergencyAccess]):
    """Whether the request is approved, with a note."""

    approve = serializers.BooleanField(help_text="`true` to approve, `false` to refuse.")
    note = serializers.CharField(
        required=False, allow_blank=True, default="", max_length=200, help_text="The ledger keeps it."
    )
