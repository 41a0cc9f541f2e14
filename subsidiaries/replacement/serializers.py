"""What the API says of agents and their replacements."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

from holding.lifecycle import Stage
from iam.access.names import shown_who
from iam.access.rights import REASON_LENGTH
from subsidiaries.replacement.models import (
    FencedHost,
    Incident,
    IncidentStep,
    Replacement,
    SeatBackoff,
    ServiceLevel,
)
from subsidiaries.replacement.shown import SHOWN_STATES

Row = dict[str, Any]


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "An agent in office",
            value={
                "id": 52613,
                "subject": "org.claytom.pricing.operator.op-0042-g3",
                "agent": "op-0042-g3",
                "unit": "pricing",
                "role": "operator",
                "division": "pricing.1",
                "seat": "op-0042",
                "seat_id": 92,
                "generation": 3,
                "stage": "probation",
                "state": "busy",
                "since": "2026-11-22T16:40:12.031337Z",
                "done": 812,
                "created_at": "2026-11-22T16:12:44.120331Z",
                "retired_at": None,
            },
        )
    ]
)
class AgentSerializer(serializers.Serializer[Row]):
    """One occupant of a seat."""

    id = serializers.IntegerField()
    subject = serializers.CharField(help_text="Its address on the bus, and its identity.")
    agent = serializers.CharField(help_text="Last token of the subject.")
    unit = serializers.CharField(help_text="Slug of the unit.")
    role = serializers.CharField(help_text="Role, or the body of an agent of the parent company.")
    division = serializers.CharField(help_text="Key of the division.")
    seat = serializers.CharField(help_text="Code of the seat.")
    seat_id = serializers.IntegerField()
    generation = serializers.IntegerField()
    stage = serializers.ChoiceField(
        choices=Stage.choices,
        help_text=(
            "Where it stands in its life. An agent is `provisioning` until it is first seen live; later "
            "generations are then on `probation`. The last stages are `retired` and `replaced`."
        ),
    )
    state = serializers.ChoiceField(
        choices=SHOWN_STATES,
        help_text=(
            "As last reported; `unknown` when its division has been silent for 15 seconds or nothing was reported "
            "of this generation yet; `replaced` when a later generation holds the seat. "
            "`idle`, `busy` and `paused` are live."
        ),
    )
    since = serializers.DateTimeField(allow_null=True, help_text="Since when the reported state holds.")
    done = serializers.IntegerField(allow_null=True, help_text="Tasks done, as last reported.")
    created_at = serializers.DateTimeField()
    retired_at = serializers.DateTimeField(allow_null=True)

    def to_representation(self, row: Row) -> Row:
        """Return the agent of a row of `shown.COLUMNS` with its shown state."""
        _root, _domain, unit, role, _agent = row["subject"].split(".")
        told = row["told"]
        return {
            "id": row["id"],
            "subject": row["subject"],
            "agent": row["agent_id"],
            "unit": unit,
            "role": role,
            "division": row["division"],
            "seat": row["seat__code"],
            "seat_id": row["seat_id"],
            "generation": row["generation"],
            "stage": row["stage"],
            "state": row["state"],
            "since": row["seat__seatstate__since"] if told else None,
            "done": row["seat__seatstate__done"] if told else None,
            "created_at": row["created_at"],
            "retired_at": row["retired_at"],
        }


class StageChangeSerializer(serializers.Serializer[Row]):
    """An agent went on to another stage."""

    old = serializers.ChoiceField(choices=Stage.choices, help_text="The stage before.")
    new = serializers.ChoiceField(choices=Stage.choices)
    at = serializers.DateTimeField()
    actor = serializers.CharField(help_text="Who decided it; `portal/arp` for what was seen.")
    reason = serializers.CharField()
    correlation_id = serializers.CharField(
        allow_blank=True, help_text="That of the ledger entry which tells of it."
    )

    columns = ("old", "new", "at", "actor", "reason", "correlation_id")


class AgentDetailSerializer(AgentSerializer):
    """One occupant of a seat, with what became of it."""

    timeline = StageChangeSerializer(many=True, help_text="Its stages, the first one first; at most the last 100.")

    def to_representation(self, row: Row) -> Row:
        """Return the agent of a row that has its `timeline` beside."""
        timeline = StageChangeSerializer(row["timeline"], many=True).data
        return {**super().to_representation(row), "timeline": timeline}


class IsolationSerializer(serializers.Serializer[Row]):
    """Why an agent is isolated, or released."""

    reason = serializers.CharField(max_length=REASON_LENGTH, help_text="The ledger keeps it.")


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "A replacement",
            value={
                "id": 17,
                "unit": "pricing",
                "role": "operator",
                "seat": "op-0042",
                "seat_id": 92,
                "generation": 3,
                "old_agent": "org.claytom.pricing.operator.op-0042-g2",
                "new_agent": "org.claytom.pricing.operator.op-0042-g3",
                "promoted_from": None,
                "reason": "failed",
                "detail": "",
                "detected_at": "2026-11-22T16:40:11.804220Z",
                "decided_at": "2026-11-22T16:40:12.031337Z",
                "told_at": "2026-11-22T16:40:12.481102Z",
                "live_at": "2026-11-22T16:40:13.377401Z",
                "failed_at": None,
                "actor": "portal/arp",
                "host": "host-1",
                "epoch": 4711,
                "live_host": "host-1",
                "live_epoch": 4711,
            },
        )
    ]
)
class ReplacementSerializer(serializers.Serializer[Row]):
    """A seat got an agent of the next generation."""

    id = serializers.IntegerField()
    unit = serializers.CharField(help_text="Slug of the unit.")
    role = serializers.CharField(help_text="Role, or the body of a seat of the parent company.")
    seat = serializers.CharField(help_text="Code of the seat.")
    seat_id = serializers.IntegerField()
    generation = serializers.IntegerField(help_text="The new generation.")
    old_agent = serializers.CharField(help_text="Subject of the agent that was replaced.")
    new_agent = serializers.CharField(help_text="Subject of its successor.")
    promoted_from = serializers.CharField(
        allow_null=True,
        help_text="Subject of the agent that was promoted to the seat: the successor was that one until then.",
    )
    reason = serializers.ChoiceField(choices=Replacement.Reason.choices)
    detail = serializers.CharField(allow_blank=True)
    detected_at = serializers.DateTimeField(help_text="When the loss was seen.")
    decided_at = serializers.DateTimeField(help_text="When the successor was appointed.")
    told_at = serializers.DateTimeField(allow_null=True, help_text="When its host had taken up the manifest.")
    live_at = serializers.DateTimeField(allow_null=True, help_text="When the successor was first seen live.")
    failed_at = serializers.DateTimeField(
        allow_null=True, help_text="When the successor was replaced in its turn, if it did not last."
    )
    actor = serializers.CharField(help_text="Who decided: a part of the portal, or a person.")
    host = serializers.CharField(help_text="The host that told of the loss.")
    epoch = serializers.IntegerField(allow_null=True, help_text="The epoch of its lease.")
    live_host = serializers.CharField(help_text="The host that told of the successor.")
    live_epoch = serializers.IntegerField(allow_null=True, help_text="The epoch of its lease.")

    plain = (
        "detail", "detected_at", "decided_at", "told_at", "live_at", "failed_at", "host", "epoch", "live_host",
        "live_epoch",
    )  # fmt: skip
    columns = (
        "id", "unit_id", "unit__slug", "seat__role__slug", "seat__body__slug", "seat__code", "seat_id",
        "generation", "old_agent__subject", "new_agent__subject", "promoted_from__subject", "reason", "actor",
        *plain,
    )  # fmt: skip

    def to_representation(self, row: Row) -> Row:
        """Return the replacement of a row of `columns`."""
        return {
            "id": row["id"],
            "unit": row["unit__slug"],
            "role": row["seat__role__slug"] or row["seat__body__slug"],
            "seat": row["seat__code"],
            "seat_id": row["seat_id"],
            "generation": row["generation"],
            "old_agent": row["old_agent__subject"],
            "new_agent": row["new_agent__subject"],
            "promoted_from": row["promoted_from__subject"],
            "reason": row["reason"],
            "actor": shown_who(row["actor"], row["unit_id"]),
            **{name: row[name] for name in self.plain},
        }


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "A host that came back after it had lost its lease",
            value={
                "id": 3,
                "unit": "pricing",
                "division": "pricing.1",
                "host": "host-1",
                "standing": "superseded",
                "epoch": 4711,
                "current_epoch": 4808,
                "current_host": "host-2",
                "first_at": "2026-11-22T16:40:11.804220Z",
                "last_at": "2026-11-22T16:41:02.118400Z",
                "messages": 603,
                "sent": {"kpi.sample": 600, "host.presence": 3},
            },
        )
    ]
)
class FencedHostSerializer(serializers.Serializer[Row]):
    """A host that acted for a division without holding its lease; what it sent changed nothing."""

    id = serializers.IntegerField()
    unit = serializers.CharField(help_text="Slug of the unit.")
    division = serializers.CharField(help_text="Key of the division.")
    host = serializers.CharField(allow_blank=True, help_text="As its lease, or it itself, called it.")
    standing = serializers.ChoiceField(
        choices=FencedHost.Standing.choices,
        help_text="Why it does not count: it lost the lease, never had it, or uses that of another host.",
    )
    epoch = serializers.IntegerField(help_text="The epoch that it claimed.")
    current_epoch = serializers.IntegerField(help_text="The epoch in force then; 0 if there was none.")
    current_host = serializers.CharField(allow_blank=True, help_text="The host in charge then.")
    first_at = serializers.DateTimeField()
    last_at = serializers.DateTimeField()
    messages = serializers.IntegerField(help_text="How many messages it sent.")
    sent = serializers.DictField(child=serializers.IntegerField(), help_text="The same by type.")

    columns = (
        "id", "division__unit__slug", "division__key", "host", "standing", "epoch", "current_epoch", "current_host",
        "first_at", "last_at", "messages", "sent",
    )  # fmt: skip

    def to_representation(self, row: Row) -> Row:
        """Return the host of a row of `columns`."""
        shown = {name: row[name] for name in self.columns if not name.startswith("division__")}
        return {**shown, "unit": row["division__unit__slug"], "division": row["division__key"]}


class IncidentStepSerializer(serializers.ModelSerializer[IncidentStep]):
    """What happened to an incident."""

    who = serializers.CharField(source="shown", help_text="Username, or a part of the portal.")

    class Meta:
        model = IncidentStep
        fields = ("kind", "who", "note", "at")
        read_only_fields = fields


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "A brake that a person released",
            value={
                "id": 7,
                "unit": "pricing",
                "kind": "mass-silence",
                "detail": "60% of the agents are silent",
                "deficit": 900,
                "opened_at": "2026-11-22T16:40:11.804220Z",
                "closed_at": None,
                "brakes": False,
                "acknowledged_at": "2026-11-22T16:41:02.120331Z",
                "acknowledged_by": "sandra.ibanez",
                "released_at": "2026-11-22T16:44:40.003101Z",
                "released_by": "sandra.ibanez",
            },
            response_only=True,
        )
    ]
)
class IncidentSerializer(serializers.ModelSerializer[Incident]):
    """Something that ARP does not mend alone."""

    unit = serializers.CharField(source="unit.slug", help_text="Slug of the unit.")
    kind = serializers.ChoiceField(choices=Incident.Kind.choices, help_text="What is the matter.")
    brakes = serializers.BooleanField(help_text="Whether it holds replacement back now.")
    acknowledged_by = serializers.CharField(source="acknowledger", help_text="Who looks after it.")
    released_by = serializers.CharField(source="releaser", help_text="Who released the brake.")

    class Meta:
        model = Incident
        fields: tuple[str, ...] = (
            "id", "unit", "kind", "detail", "deficit", "opened_at", "closed_at", "brakes", "acknowledged_at",
            "acknowledged_by", "released_at", "released_by",
        )  # fmt: skip
        read_only_fields = fields


class IncidentDetailSerializer(IncidentSerializer):
    """An incident with what happened to it."""

    steps = IncidentStepSerializer(many=True)

    class Meta(IncidentSerializer.Meta):
        fields = (*IncidentSerializer.Meta.fields, "steps")
        read_only_fields = fields


class NoteSerializer(serializers.Serializer[dict[str, object]]):
    """What somebody writes about an incident."""

    note = serializers.CharField(max_length=500, help_text="Kept with the incident and in the ledger.")


class AcknowledgeSerializer(serializers.Serializer[dict[str, object]]):
    """That somebody looks after an incident, and what they write."""

    note = serializers.CharField(
        max_length=500, required=False, default="", allow_blank=True, help_text="Kept with the incident."
    )


class ReleaseSerializer(serializers.Serializer[dict[str, object]]):
    """Why the brake is released."""

    reason = serializers.CharField(max_length=500, help_text="Why; the ledger keeps it.")


class ServiceLevelSerializer(serializers.ModelSerializer[ServiceLevel]):
    """The service levels of a unit, or of the holding, over a span of time."""

    unit = serializers.CharField(
        source="unit.slug", allow_null=True, default=None, help_text="Slug of the unit; null: the whole holding."
    )
    span = serializers.ChoiceField(choices=ServiceLevel.Span.choices, help_text="The time up to `as_of`.")

    class Meta:
        model = ServiceLevel
        fields = (
            "id", "unit", "span", "as_of", "replaced", "waiting", "short_lived", "detect_p50", "detect_p95",
            "detect_max", "restore_p50", "restore_p95", "restore_max", "seconds_below", "duplicates", "brakes",
            "cost",
        )  # fmt: skip
        read_only_fields = fields


class SeatBackoffSerializer(serializers.ModelSerializer[SeatBackoff]):
    """A seat that waits before it is replaced again."""

    unit = serializers.CharField(source="unit.slug", help_text="Slug of the unit.")
    seat = serializers.CharField(source="seat.code", help_text="Code of the seat.")
    seat_id = serializers.IntegerField()

    class Meta:
        model = SeatBackoff
        fields = ("seat_id", "seat", "unit", "strikes", "decided_at", "not_before")
        read_only_fields = fields
