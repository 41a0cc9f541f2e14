"""What the API says of commands, and what it takes to give one."""

from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiExample, extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from holding.models import Division, Role, Seat
from iam.access.serializer_fields import NameField, UnitField
from subsidiaries.commands.models import REASON_LENGTH, Command, Counts, Target
from subsidiaries.commands.orders import PATIENCE_S, SETTINGS, USUAL_PATIENCE_S


class CountsSerializer(serializers.Serializer[Counts]):
    """Divisions of a command by what became of it there. Each is sent, then acknowledged, refused or expired."""

    total = serializers.IntegerField(help_text="Divisions that the command is about.")
    waiting = serializers.IntegerField(help_text="Their step has not come.")
    sent = serializers.IntegerField(help_text="Sent to their hosts, whatever became of it.")
    open = serializers.IntegerField(help_text="The answer is awaited.")
    acknowledged = serializers.IntegerField(help_text="Presence shows that it is obeyed.")
    refused = serializers.IntegerField(help_text="The host says that it cannot.")
    expired = serializers.IntegerField(help_text="Not obeyed in time.")
    late = serializers.IntegerField(help_text="Of the refused and expired ones, obeyed since.")


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "A pause of a subsidiary",
            value={
                "id": 12,
                "verb": "pause",
                "scope": "unit",
                "unit": "pricing",
                "division": None,
                "role": None,
                "seat": None,
                "host": "",
                "settings": {},
                "reason": "prices of yesterday",
                "actor": "head-pricing",
                "agents": 1500,
                "percent": 100,
                "halt_above": 0,
                "patience_s": 30,
                "reached": 100,
                "state": "confirmed",
                "created_at": "2026-11-22T16:40:12Z",
                "changed_at": "2026-11-22T16:40:14Z",
                "lifted_by": None,
                "counts": {
                    "total": 5, "waiting": 0, "sent": 5, "open": 0, "acknowledged": 5, "refused": 0, "expired": 0,
                    "late": 0,
                },
            },
            response_only=True,
        )
    ]
)  # fmt: skip
class CommandSerializer(serializers.ModelSerializer[Command]):
    """An order, and how far it has been obeyed."""

    unit = serializers.CharField(
        source="unit.slug", help_text="Slug of the unit; `corporate` for orders about the whole holding."
    )
    division = serializers.CharField(source="division.key", allow_null=True, default=None, help_text="Its key.")
    role = serializers.CharField(source="role.slug", allow_null=True, default=None, help_text="Only this role.")
    seat = serializers.CharField(source="seat.code", allow_null=True, default=None, help_text="Only this seat.")
    counts = serializers.SerializerMethodField(help_text="What became of it, by division.")

    class Meta:
        model = Command
        fields = (
            "id", "verb", "scope", "unit", "division", "role", "seat", "host", "settings", "reason", "actor",
            "agents", "percent", "halt_above", "patience_s", "reached", "state", "created_at", "changed_at",
            "lifted_by", "counts",
        )  # fmt: skip
        read_only_fields = fields

    @extend_schema_field(CountsSerializer)
    def get_counts(self, command: Command) -> dict[str, Any]:
        """Return the counts, which the view has read for all commands at once."""
        counted: dict[int, Counts] | None = self.context.get("counts")
        if counted is None:
            counted = Target.objects.counted(timezone.now(), of=[command.pk])
        return dict(CountsSerializer(counted[command.pk]).data)


class DivisionField(NameField):
    """A division in view, by its key."""

    def find(self, name: str) -> Division | None:
        """Return the division."""
        return Division.objects.select_related("unit").filter(key=name).first()


class HolderRoleField(NameField):
    """A role of agents, by its slug."""

    def find(self, name: str) -> Role | None:
        """Return the role."""
        return Role.objects.filter(slug=name).first()


class OrderSerializer(serializers.Serializer[Command]):
    """A command as it is asked for: without unit, division, seat and host it is about the whole holding."""

    verb = serializers.ChoiceField(choices=Command.Verb.choices)
    reason = serializers.CharField(max_length=REASON_LENGTH, help_text="Why; everybody concerned reads it.")
    key = serializers.CharField(max_length=80, help_text="The same key again gives the command once.")
    unit = UnitField()
    division = DivisionField(required=False, allow_null=True, default=None, help_text="Key, such as `pricing.1`.")
    role = HolderRoleField(required=False, allow_null=True, default=None, help_text="Only agents of this role.")
    seat = serializers.CharField(
        required=False, allow_null=True, default=None, max_length=30, help_text="Code of one seat of the unit."
    )
    host = serializers.CharField(
        required=False, allow_blank=True, default="", max_length=100, help_text="What this host runs (`drain`)."
    )
    settings = serializers.DictField(
        child=serializers.FloatField(),
        required=False,
        default=dict,
        help_text="Seconds, for `config`: "
        + ", ".join(f"`{name}` {least:g} to {most:g}" for name, (least, most) in SETTINGS.items())
        + ".",
    )
    percent = serializers.IntegerField(
        min_value=1, max_value=100, default=100, help_text="Share of each step; of one division, of its agents."
    )
    halt_above = serializers.IntegerField(
        min_value=0, max_value=100, default=0, help_text="Failure rate (per cent) above which it halts."
    )
    patience_s = serializers.IntegerField(
        min_value=PATIENCE_S[0], max_value=PATIENCE_S[1], default=USUAL_PATIENCE_S,
        help_text="Seconds that hosts have to obey, for each step.",
    )  # fmt: skip
    lifts = serializers.PrimaryKeyRelatedField(
        queryset=Command.objects.all(),
        required=False,
        allow_null=True,
        default=None,
        help_text="With `resume`: lift this command alone, whatever else stands.",
    )

    def validate(self, given: dict[str, Any]) -> dict[str, Any]:
        """Find the seat of the unit. Raises ValidationError when there is none."""
        if (code := given.get("seat")) is not None:
            seats = Seat.objects.select_related("unit", "division").filter(unit=given["unit"], code=code)
            given["seat"] = seats.first()
            if given["seat"] is None:
                raise serializers.ValidationError({"seat": _("There is no “%(name)s”.") % {"name": code}})
        return given


class ReasonSerializer(serializers.Serializer[Command]):
    """Why."""

    reason = serializers.CharField(max_length=REASON_LENGTH, help_text="The ledger keeps it.")
