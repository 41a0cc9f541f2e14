"""What the API says of KPIs."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

Row = dict[str, Any]


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "A minute of the operators of a unit",
            value={
                "minute": "2026-11-22T16:40:00Z",
                "unit": "pricing",
                "role": "operator",
                "samples": 1470,
                "throughput_per_day": 48.2,
                "quality_score": 93.1,
                "sla_met_pct": 98.4,
                "innovation_landings_mo": 0.4,
                "training_hours_w": 3.5,
            },
        )
    ]
)
class KpiMinuteSerializer(serializers.Serializer[Row]):
    """What the agents of a unit and role claimed in one minute: means over their samples."""

    minute = serializers.DateTimeField(help_text="Start of the minute.")
    unit = serializers.CharField(help_text="Slug of the unit.")
    role = serializers.CharField(help_text="Role, or the body of the parent company.")
    samples = serializers.IntegerField(help_text="How many samples the means are of.")
    throughput_per_day = serializers.FloatField(help_text="Accepted results in 24 hours.")
    quality_score = serializers.FloatField(help_text="0 to 100.")
    sla_met_pct = serializers.FloatField(help_text="Results before their deadline, 0 to 100.")
    innovation_landings_mo = serializers.FloatField(help_text="Innovations adopted in 30 days.")
    training_hours_w = serializers.FloatField(help_text="Hours of passed modules in 7 days.")

    columns = (
        "minute", "unit__slug", "role", "n", "sum_throughput_per_day", "sum_quality_score", "sum_sla_met_pct",
        "sum_innovation_landings_mo", "sum_training_hours_w",
    )  # fmt: skip

    def to_representation(self, row: Row) -> Row:
        """Return the minute of a row of `columns`."""
        samples = row["n"]
        return {
            "minute": row["minute"],
            "unit": row["unit__slug"],
            "role": row["role"],
            "samples": samples,
            "throughput_per_day": row["sum_throughput_per_day"] / samples,
            "quality_score": row["sum_quality_score"] / samples,
            "sla_met_pct": row["sum_sla_met_pct"] / samples,
            "innovation_landings_mo": row["sum_innovation_landings_mo"] / samples,
            "training_hours_w": row["sum_training_hours_w"] / samples,
        }
