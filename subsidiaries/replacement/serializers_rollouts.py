"""What the API says of blueprint versions and rollouts, and what it takes to write and to start one."""

from typing import Any

from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from holding.models import Blueprint, BlueprintVersion
from iam.access.serializer_fields import NameField, UnitField
from subsidiaries.replacement.rollout_models import REASON_LENGTH, Rollout, RolloutSeat
from subsidiaries.replacement.rollout_orders import BOUNDS
from subsidiaries.replacement.versions import NOTE_LENGTH


@extend_schema_field(OpenApiTypes.STR)
class BlueprintField(NameField):
    """A blueprint by its slug."""

    def find(self, name: str) -> Blueprint | None:
        """Return the blueprint."""
        return Blueprint.objects.select_related("role", "body").filter(slug=name).first()


class BlueprintVersionSerializer(serializers.ModelSerializer[BlueprintVersion]):
    """A version of the recipe of a role's or body's agents."""

    blueprint = serializers.CharField(source="blueprint.slug", help_text="Slug of the role or body.")
    spec = serializers.JSONField(help_text="Worker and its parameters.")
    digest = serializers.CharField(help_text="SHA-256 of the specification in its canonical form (RFC 8785).")
    halted_why = serializers.CharField(help_text="Why no further agent is made by it; else empty.")

    class Meta:
        model = BlueprintVersion
        fields = (
            "id", "blueprint", "version", "state", "spec", "digest", "note", "author", "created_at", "approved_by",
            "approved_at", "ended_by", "ended_at", "ended_why", "halted_at", "halted_why",
        )  # fmt: skip
        read_only_fields = fields


class BlueprintDraftSerializer(serializers.Serializer[BlueprintVersion]):
    """A draft: the next version of a blueprint."""

    blueprint = BlueprintField(help_text="Slug of the role or body.")
    spec = serializers.JSONField(help_text='As `{"worker": {"kind": "sim", "params": {}}, "for": "operator"}`.')
    note = serializers.CharField(max_length=NOTE_LENGTH, help_text="What it is for.")


class BlueprintChangeSerializer(serializers.Serializer[BlueprintVersion]):
    """What a draft says from now on."""

    spec = serializers.JSONField(help_text="The whole specification.")
    note = serializers.CharField(max_length=NOTE_LENGTH, help_text="What it is for.")


class BlueprintSubmittedSerializer(serializers.Serializer[Any]):
    """The approval that decides about a draft."""

    approval = serializers.IntegerField(help_text="Number of the approval.")
    state = serializers.CharField(help_text="How it stands.")


class WhySerializer(serializers.Serializer[Any]):
    """Why."""

    reason = serializers.CharField(max_length=REASON_LENGTH, help_text="The ledger keeps it.")


class RolloutUnitSerializer(serializers.Serializer[Any]):
    """A rollout in one unit: how many of its agents have come how far."""

    unit = serializers.CharField(help_text="Slug of the unit.")
    agents = serializers.IntegerField(help_text="Agents to change when it began.")
    canaries = serializers.IntegerField(help_text="Of them canaries.")
    begun = serializers.IntegerField(help_text="New agent appointed, not live yet.")
    live = serializers.IntegerField(help_text="New agent live.")
    failed = serializers.IntegerField(help_text="New agent lost, or never live.")
    restored = serializers.IntegerField(help_text="Former version appointed again.")
    surge = serializers.IntegerField(help_text="Temporary seats that are open.")
    ended_at = serializers.DateTimeField(allow_null=True)


class RolloutSerializer(serializers.ModelSerializer[Rollout]):
    """A rollout: what was ordered, and how far it is by unit."""

    blueprint = serializers.CharField(source="version.blueprint.slug", help_text="Slug of the role or body.")
    version = serializers.IntegerField(source="version.version", help_text="Number of the version.")
    unit = serializers.CharField(source="unit.slug", help_text="Slug of the unit; `corporate` when everywhere.")
    units = serializers.SerializerMethodField(help_text="How far it is, by unit in view.")

    class Meta:
        model = Rollout
        fields = (
            "id", "blueprint", "version", "unit", "everywhere", "reason", "actor", "created_at", "canary",
            "observe_s", "patience_s", "halt_above", "wave", "surge", "state", "changed_at", "note", "units",
        )  # fmt: skip
        read_only_fields = fields

    @extend_schema_field(RolloutUnitSerializer(many=True))
    def get_units(self, rollout: Rollout) -> list[dict[str, Any]]:
        """Return the counts by unit, which the view has read for all rollouts at once."""
        counted: dict[int, list[Any]] = self.context["progress"]
        return [dict(RolloutUnitSerializer(one).data) for one in counted.get(rollout.pk, [])]


def _number(name: str, words: str) -> serializers.IntegerField:
    least, most, usual = BOUNDS[name]
    return serializers.IntegerField(min_value=least, max_value=most, default=usual, help_text=words)


class RolloutOrderSerializer(serializers.Serializer[Rollout]):
    """A rollout to start."""

    blueprint = BlueprintField(help_text="Slug of the role or body.")
    version = serializers.IntegerField(min_value=1, max_value=2**31 - 1, help_text="Number of an approved version.")
    unit = UnitField(help_text="Slug of the unit; null for every unit that has such agents.")
    reason = serializers.CharField(max_length=REASON_LENGTH, help_text="Everybody concerned reads it.")
    key = serializers.CharField(max_length=80, help_text="The same key again is the same rollout.")
    canary = _number("canary", "Share of the agents that are changed first, in per cent.")
    observe_s = _number("observe_s", "Seconds for which these are observed.")
    patience_s = _number("patience_s", "Seconds within which a new agent must be live.")
    halt_above = _number("halt_above", "Share of failed agents, in per cent, above which it rolls back by itself.")
    wave = _number("wave", "Agents of a unit changed at once, at most.")
    surge = _number("surge", "Temporary seats of a unit, at most.")

    def validate(self, given: dict[str, Any]) -> dict[str, Any]:
        """Find the version. Raises ValidationError when there is none."""
        number = given["version"]
        found = given["blueprint"].versions.select_related("blueprint").filter(version=number).first()
        if found is None:
            words = _("There is no version %(number)d.") % {"number": number}
            raise serializers.ValidationError({"version": words})
        return {**{key: value for key, value in given.items() if key != "blueprint"}, "version": found}


class UnitPlanSerializer(serializers.Serializer[Any]):
    """What a rollout would do in a unit, as things are now."""

    unit = serializers.CharField(source="unit.slug", help_text="Slug of the unit.")
    agents = serializers.IntegerField(help_text="Agents that would be changed.")
    canaries = serializers.IntegerField(help_text="Of them canaries.")
    above = serializers.IntegerField(help_text="Of the role, live above the floor and the quota.")
    surge = serializers.IntegerField(help_text="Temporary seats that would be opened.")
    waves = serializers.IntegerField(help_text="Steps, if every agent comes up at once.")


class RolloutSeatSerializer(serializers.ModelSerializer[RolloutSeat]):
    """A seat that a rollout has changed."""

    unit = serializers.CharField(source="unit.slug", help_text="Slug of the unit.")
    seat = serializers.CharField(source="seat.code", help_text="Code of the seat.")
    former = serializers.IntegerField(source="former.version", help_text="Number of the former version.")

    class Meta:
        model = RolloutSeat
        fields = (
            "id", "unit", "seat", "canary", "former", "generation", "state", "begun_at", "live_at", "failed_at",
            "failure",
        )  # fmt: skip
        read_only_fields = fields
