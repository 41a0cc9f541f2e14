"""What the API says of the holding as a whole."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

from holding.models import Unit

Row = dict[str, Any]


class KpisSerializer(serializers.Serializer[Row]):
    """The five KPIs, as means over the samples of the last two to three minutes."""

    throughput_per_day = serializers.FloatField(help_text="Accepted results in 24 hours.")
    quality_score = serializers.FloatField(help_text="0 to 100.")
    sla_met_pct = serializers.FloatField(help_text="Results before their deadline, 0 to 100.")
    innovation_landings_mo = serializers.FloatField(help_text="Innovations adopted in 30 days.")
    training_hours_w = serializers.FloatField(help_text="Hours of passed modules in 7 days.")


class OverviewUnitSerializer(serializers.Serializer[Row]):
    """A unit's staffing and performance."""

    slug = serializers.CharField()
    name = serializers.CharField(help_text="Name in the language of the request (`Accept-Language`).")
    kind = serializers.ChoiceField(choices=Unit.Kind.choices)
    seats = serializers.IntegerField()
    live = serializers.IntegerField(help_text="Agents known to be live; silent divisions count as none.")
    floor = serializers.IntegerField()
    below_floor = serializers.BooleanField(help_text="Fewer live agents than the floor, or than a role's quota.")
    coverage = serializers.FloatField(
        allow_null=True, help_text="Share of the seats (0 to 1) whose division reported in the last 15 seconds."
    )
    replacements_24h = serializers.IntegerField()
    kpis = KpisSerializer(allow_null=True, help_text="Null when no sample has come in.")


EXAMPLE_UNIT = {
    "slug": "pricing",
    "name": "Pricing",
    "kind": "subsidiary",
    "seats": 1500,
    "live": 1500,
    "floor": 1500,
    "below_floor": False,
    "coverage": 1.0,
    "replacements_24h": 3,
    "kpis": {
        "throughput_per_day": 48.2,
        "quality_score": 93.1,
        "sla_met_pct": 98.4,
        "innovation_landings_mo": 0.4,
        "training_hours_w": 3.5,
    },
}


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "The holding, all staffed",
            value={
                "live": 52550,
                "seats": 52550,
                "below_floor": 0,
                "coverage": 1.0,
                "as_of": "2026-11-22T16:40:12.031337Z",
                "units": [EXAMPLE_UNIT],
            },
        )
    ]
)
class OverviewSerializer(serializers.Serializer[Row]):
    """The whole holding at a glance."""

    live = serializers.IntegerField(help_text="Agents known to be live.")
    seats = serializers.IntegerField()
    below_floor = serializers.IntegerField(help_text="How many units are below their floor or a quota.")
    coverage = serializers.FloatField(
        allow_null=True, help_text="Share of the seats (0 to 1) whose division reported in the last 15 seconds."
    )
    as_of = serializers.DateTimeField(help_text="When these figures were read.")
    units = OverviewUnitSerializer(many=True)
