"""What the API says of versions of the matrix, and what it takes to draft and adopt them."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from iam.authority import services
from iam.authority.models import MatrixVersion, Rule


class RuleSerializer(serializers.ModelSerializer[Rule]):
    """Up to which value an office decides a matter."""

    matter = serializers.SlugRelatedField("slug", read_only=True)  # type: ignore[var-annotated]
    measure = serializers.CharField(source="matter.measure")
    office = serializers.SlugRelatedField("slug", read_only=True)  # type: ignore[var-annotated]
    rank = serializers.IntegerField(source="office.rank")

    class Meta:
        model = Rule
        fields = ["matter", "measure", "office", "rank", "limit", "required"]


class VersionSerializer(serializers.ModelSerializer[MatrixVersion]):
    """A version of the matrix."""

    class Meta:
        model = MatrixVersion
        fields = [
            "number", "status", "valid_from", "valid_to", "author", "approver", "reason", "digest", "created_at",
        ]  # fmt: skip
        read_only_fields = fields


class MatrixSerializer(serializers.ModelSerializer[MatrixVersion]):
    """A version of the delegation of authority matrix with its rules."""

    rules = RuleSerializer(many=True)

    class Meta:
        model = MatrixVersion
        fields = ["number", "status", "valid_from", "valid_to", "author", "approver", "reason", "digest", "rules"]


class TermsSerializer(serializers.Serializer[services.RuleText]):
    """A limit in the matter's measure (null: without), and how many holders decide (null: the body's majority)."""

    limit = serializers.DecimalField(20, 4, allow_null=True)
    required = serializers.IntegerField(allow_null=True)  # type: ignore[assignment]  # a field, not the option


class ChangeSerializer(serializers.Serializer[services.Change]):
    """What becomes of a rule: `before` is null for a new one, `after` for one that is removed."""

    matter = serializers.CharField(source="matter.slug")
    office = serializers.CharField(source="office.slug")
    before = TermsSerializer(allow_null=True)
    after = TermsSerializer(allow_null=True)


class VersionDetailSerializer(MatrixSerializer):
    """A version of the matrix with its rules, and what it changes of the version before it."""

    changes = serializers.SerializerMethodField()

    class Meta(MatrixSerializer.Meta):
        fields = [*VersionSerializer.Meta.fields, "rules", "changes"]

    @extend_schema_field(ChangeSerializer(many=True))
    def get_changes(self, version: MatrixVersion) -> Any:
        """Return what the version changes, or would change."""
        changes: Any = services.changes_of(version)
        return ChangeSerializer(changes, many=True).data


class RuleTextSerializer(serializers.Serializer[Any]):
    """A rule of a draft."""

    matter = serializers.CharField(max_length=24, help_text="Slug of a matter.")
    office = serializers.CharField(max_length=24, help_text="Slug of an office.")
    limit = serializers.DecimalField(
        20, 4, allow_null=True, help_text="In the matter's measure; null: without limit."
    )
    required = serializers.IntegerField(  # type: ignore[assignment]  # a field, not the option
        default=1, allow_null=True, help_text="Holders who decide; null, for a body: its majority."
    )


class DraftSerializer(serializers.Serializer[Any]):
    """All rules of the next version of the matrix."""

    rules = serializers.ListField(child=RuleTextSerializer(), max_length=2000)
    reason = serializers.CharField(max_length=200)


class AdoptSerializer(serializers.Serializer[Any]):
    """From when on a version is in force."""

    valid_from = serializers.DateTimeField(default=None, allow_null=True, help_text="Null: now.")
