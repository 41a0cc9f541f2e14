"""What the API says of units and seats.

The fields are the contract (OpenAPI); `to_representation` builds the answer straight from a row of
`values()`, which is what keeps a list of a hundred cheap. A test compares the two.
"""

from typing import Any

from django.utils.translation import get_language
from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

from holding import generator
from holding.lifecycle import SeatStage
from holding.models import Seat, Unit

Row = dict[str, Any]


def localized(row: Row, prefix: str = "") -> str:
    """Return the name of a row in the language of the request."""
    language = "en" if (get_language() or "").startswith("en") else "es"
    return str(row[f"{prefix}name_{language}"])


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "A subsidiary",
            value={
                "slug": "pricing",
                "name": "Pricing",
                "kind": "subsidiary",
                "sector": "commercial",
                "work": "price",
                "floor": 1500,
                "position": 1,
            },
        )
    ]
)
class UnitSerializer(serializers.Serializer[Row]):
    """The parent company (`corporate`) or one of its subsidiaries."""

    slug = serializers.CharField(help_text="Identity of the unit, also its token in subjects. Never changes.")
    name = serializers.CharField(help_text="Name in the language of the request (`Accept-Language`).")
    kind = serializers.ChoiceField(choices=Unit.Kind.choices)
    sector = serializers.CharField(allow_null=True, help_text="Slug of the sector; null for the parent company.")
    work = serializers.CharField(allow_blank=True, help_text="Kind of work that its agents do.")
    floor = serializers.IntegerField(help_text="Live agents that the unit must never fall below.")
    position = serializers.IntegerField(help_text="Place in the holding's order.")

    columns = ("slug", "name_es", "name_en", "kind", "sector__slug", "work", "floor", "position")

    def to_representation(self, row: Row) -> Row:
        """Return the unit of a row of `columns`."""
        return {
            "slug": row["slug"],
            "name": localized(row),
            "kind": row["kind"],
            "sector": row["sector__slug"],
            "work": row["work"],
            "floor": row["floor"],
            "position": row["position"],
        }


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "A seat",
            value={
                "id": 92,
                "unit": "pricing",
                "role": "operator",
                "division": "pricing.1",
                "ordinal": 42,
                "code": "op-0042",
                "name": "op-0042",
                "duty": "",
                "reports_to": 56,
                "generation": 3,
                "desired": "run",
                "stage": "staffed",
                "agent": "org.claytom.pricing.operator.op-0042-g3",
                "closed_at": None,
            },
        )
    ]
)
class SeatSerializer(serializers.Serializer[Row]):
    """A permanent position; its agents come and go under ever higher generations."""

    id = serializers.IntegerField()
    unit = serializers.CharField(help_text="Slug of the unit.")
    role = serializers.CharField(help_text="Role, or the body of a seat of the parent company.")
    division = serializers.CharField(help_text="Key of the division.")
    ordinal = serializers.IntegerField(help_text="Number of the seat in its unit.")
    code = serializers.CharField(help_text="Code of the seat, unique in its division.")
    name = serializers.CharField(help_text="Name in the language of the request, or the code.")
    duty = serializers.CharField(allow_blank=True, help_text="What the seat is there for (parent company).")
    reports_to = serializers.IntegerField(allow_null=True, help_text="Id of the superior seat.")
    generation = serializers.IntegerField(help_text="How many agents have held the seat, this one included.")
    desired = serializers.ChoiceField(choices=Seat.Desired.choices)
    stage = serializers.ChoiceField(choices=SeatStage.choices, help_text="Whether the seat has a holder.")
    agent = serializers.CharField(help_text="Subject of the agent in office; of a closed seat, of its last one.")
    closed_at = serializers.DateTimeField(
        allow_null=True, help_text="Since when a reserve seat is closed; it may be opened again."
    )

    columns = (
        "id", "unit__slug", "role__slug", "body__slug", "division__key", "ordinal", "code", "name_es", "name_en",
        "duty", "reports_to_id", "generation", "desired", "stage", "closed_at",
    )  # fmt: skip

    def to_representation(self, row: Row) -> Row:
        """Return the seat of a row of `columns`."""
        role, body, code, generation = row["role__slug"], row["body__slug"], row["code"], row["generation"]
        agent = generator.agent_id(code, generation=generation, corporate=body is not None)
        return {
            "id": row["id"],
            "unit": row["unit__slug"],
            "role": role or body,
            "division": row["division__key"],
            "ordinal": row["ordinal"],
            "code": code,
            "name": localized(row) or code,
            "duty": row["duty"],
            "reports_to": row["reports_to_id"],
            "generation": generation,
            "desired": row["desired"],
            "stage": row["stage"],
            "agent": generator.agent_subject(unit=row["unit__slug"], group=role or body, agent=agent),
            "closed_at": row["closed_at"],
        }
