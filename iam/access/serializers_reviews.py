"""What the API says of access reviews, and what it takes to open one and to decide in it."""

from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

from iam.access.models import AccessReview, ReviewItem
from iam.access.serializer_fields import AccountField, PlaceField, UnitField
from iam.access.serializers import BindingSerializer


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "A review",
            value={
                "id": 2,
                "namespace": "subs-pricing",
                "unit": "pricing",
                "reviewer": "head-pricing",
                "opened_by": "head-pricing",
                "opened_at": "2026-11-22T16:40:12Z",
                "due_at": "2026-11-29T00:00:00Z",
                "closed_at": None,
                "overdue": False,
                "bindings": 12,
                "undecided": 3,
                "revoked": 1,
            },
            response_only=True,
        )
    ]
)
class ReviewSerializer(serializers.ModelSerializer[AccessReview]):
    """A look at every binding of a unit and all below it, or of the whole holding."""

    namespace = serializers.CharField(help_text="`holding`, or `subs-<unit>`.")
    unit = PlaceField()
    reviewer = serializers.CharField(source="reviewer.username", help_text="Username of who decides.")
    opened_by = serializers.CharField(
        source="opened_by.username", allow_null=True, default=None, help_text="Username of who opened it."
    )
    overdue = serializers.BooleanField(help_text="Whether it should have been closed by now.")
    bindings = serializers.IntegerField(help_text="How many bindings are looked at.")
    undecided = serializers.IntegerField(help_text="Of how many nothing was said yet.")
    revoked = serializers.IntegerField(help_text="How many were revoked.")

    class Meta:
        model = AccessReview
        fields = (
            "id", "namespace", "unit", "reviewer", "opened_by", "opened_at", "due_at", "closed_at", "overdue",
            "bindings", "undecided", "revoked",
        )  # fmt: skip
        read_only_fields = fields


class ReviewOpeningSerializer(serializers.Serializer[AccessReview]):
    """Whose access is looked at, by whom, until when."""

    unit = UnitField()
    reviewer = AccountField(help_text="Username of who decides.")
    due_at = serializers.DateTimeField(help_text="Until when it is to be closed.")


class ReviewItemSerializer(serializers.ModelSerializer[ReviewItem]):
    """One binding in a review, and what the reviewer said of it."""

    binding = BindingSerializer(help_text="The binding as it is now.")
    verdict = serializers.ChoiceField(
        choices=ReviewItem.Verdict.choices, allow_blank=True, help_text="Empty while it is not decided."
    )

    class Meta:
        model = ReviewItem
        fields = ("id", "binding", "verdict", "note", "decided_at")
        read_only_fields = fields


class ReviewDecisionSerializer(serializers.Serializer[ReviewItem]):
    """Whether the binding stays, and why not."""

    verdict = serializers.ChoiceField(choices=ReviewItem.Verdict.choices, help_text="`revoke` ends it at once.")
    note = serializers.CharField(
        required=False, allow_blank=True, default="", max_length=200, help_text="Needed to revoke."
    )
