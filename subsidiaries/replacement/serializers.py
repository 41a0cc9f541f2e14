"""What the API says of agents and their replacements."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

from holding.lifecycle import Stage
from iam.access.rights import REASON_LENGTH
from subsidiaries.replacement.models import FencedHost, Replacement
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
                "live_at": "2026-11-22T16:40:13.377401Z",
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
    live_at = serializers.DateTimeField(allow_null=True, help_text="When the successor was first seen live.")

    columns = (
        "id", "unit__slug", "seat__role__slug", "seat__body__slug", "seat__code", "seat_id", "generation",
        "old_agent__subject", "new_agent__subject", "promoted_from__subject", "reason", "detail", "detected_at",
        "decided_at", "live_at",
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
            "detail": row["detail"],
            "detected_at": row["detected_at"],
            "decided_at": row["decided_at"],
            "live_at": row["live_at"],
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
