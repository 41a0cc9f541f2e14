"""What the API says of approvals, and what it takes."""

from typing import Any

from rest_framework import serializers

from holding.models import Unit
from iam.authority.models import Approval, Decision, Hat, Level, Matter


class LevelSerializer(serializers.ModelSerializer[Level]):
    """An office that may decide."""

    office = serializers.SlugRelatedField("slug", read_only=True)  # type: ignore[var-annotated]

    class Meta:
        model = Level
        fields = ["office", "required", "majority", "cause", "since"]


class DecisionSerializer(serializers.ModelSerializer[Decision]):
    """What one person decided."""

    person = serializers.SlugRelatedField("username", read_only=True)  # type: ignore[var-annotated]
    acting_for = serializers.SlugRelatedField("username", read_only=True)  # type: ignore[var-annotated]
    office = serializers.SlugRelatedField("slug", read_only=True)  # type: ignore[var-annotated]

    class Meta:
        model = Decision
        fields = ["person", "acting_for", "office", "verdict", "note", "at"]


class ApprovalSerializer(serializers.ModelSerializer[Approval]):
    """A request, who may decide it, and what was decided."""

    matter = serializers.SlugRelatedField("slug", read_only=True)  # type: ignore[var-annotated]
    unit = serializers.SlugRelatedField("slug", read_only=True)  # type: ignore[var-annotated]
    matrix = serializers.IntegerField(source="version.number", help_text="Number of the matrix it is judged by.")
    requester = serializers.CharField(source="actor", help_text="A username, or the part of the portal that asked.")
    levels = LevelSerializer(many=True)
    decisions = DecisionSerializer(many=True)

    class Meta:
        model = Approval
        fields = [
            "id", "key", "matter", "unit", "value", "currency", "fx_rate", "fx_on", "judged", "counterparty",
            "title", "reason", "requester", "action", "parameters", "digest", "matrix", "by_rule", "state",
            "requested_at", "due_at", "expires_at", "settled_at", "executed_at", "failure", "levels", "decisions",
        ]  # fmt: skip
        read_only_fields = fields


class AskSerializer(serializers.Serializer[Any]):
    """A request. The same key again returns the first request."""

    key = serializers.RegexField(r"^[A-Za-z0-9._:/-]{8,100}$", help_text="Idempotency key of your own.")
    matter = serializers.SlugRelatedField("slug", queryset=Matter.objects.all())
    unit = serializers.SlugRelatedField("slug", queryset=Unit.objects.none())
    value = serializers.DecimalField(20, 4, min_value=0, help_text="In the matter's measure.")
    currency = serializers.RegexField(
        r"^[A-Z]{3}$", default="EUR", help_text="Of an amount; it is judged by the register's newest rate."
    )
    counterparty = serializers.CharField(max_length=200, default="", allow_blank=True)
    title = serializers.CharField(max_length=200)
    reason = serializers.CharField(max_length=2000, default="", allow_blank=True)

    def get_fields(self) -> dict[str, Any]:
        """Return the fields; units are those in view when the request comes."""
        fields: dict[str, Any] = super().get_fields()
        fields["unit"].queryset = Unit.objects.all()
        return fields


class DecideSerializer(serializers.Serializer[Any]):
    """A decision."""

    verdict = serializers.ChoiceField(choices=Decision.Verdict.choices)
    note = serializers.CharField(max_length=2000, default="", allow_blank=True, help_text="A rejection needs one.")
    acting_as = serializers.CharField(
        max_length=60,
        default="",
        allow_blank=True,
        help_text="Key of one of the caller's titles; empty: the first of them.",
    )


class TitleSerializer(serializers.Serializer[Hat]):
    """A title under which the caller may decide an approval."""

    key = serializers.CharField(help_text="What `acting_as` takes.")
    office = serializers.CharField(source="appointment.office.slug")
    unit = serializers.CharField(source="appointment.unit.slug", allow_null=True, default=None)
    acting_for = serializers.CharField(
        source="acting_for.username", allow_null=True, default=None, help_text="Whose office it is, if another's."
    )
    delegation = serializers.IntegerField(source="delegation.pk", allow_null=True, default=None)
    substitution = serializers.IntegerField(source="substitution.pk", allow_null=True, default=None)


class WithdrawSerializer(serializers.Serializer[Any]):
    """Why a request is taken back."""

    reason = serializers.CharField(max_length=2000, default="", allow_blank=True)
