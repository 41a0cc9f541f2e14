"""What the API says of who holds authority, and what it takes to give and lend it."""

from typing import Any

from django.utils.translation import gettext as _
from rest_framework import serializers

from holding.models import Unit
from iam.access.models import User
from iam.authority.models import Appointment, Delegation, Interest, Matter, Office, Substitution


class OfficeSerializer(serializers.ModelSerializer[Office]):
    """An office. Who holds one of a higher rank decides too what the lower one may."""

    name = serializers.CharField(help_text="Name in the language of the request (`Accept-Language`).")

    class Meta:
        model = Office
        fields = ["slug", "name", "scope", "rank"]
        read_only_fields = fields


class AppointmentSerializer(serializers.ModelSerializer[Appointment]):
    """A person holds an office: of a unit, of the group, or a seat in a body."""

    office = serializers.CharField(source="office.slug")
    person = serializers.CharField(source="person.username")
    unit = serializers.CharField(source="unit.slug", allow_null=True, default=None, help_text="Null: of the group.")

    class Meta:
        model = Appointment
        fields = ["id", "office", "person", "unit", "valid_from", "valid_to", "recorded_by"]
        read_only_fields = fields


class DelegationSerializer(serializers.ModelSerializer[Delegation]):
    """The loan of an office by its holder."""

    office = serializers.CharField(source="appointment.office.slug")
    unit = serializers.CharField(source="appointment.unit.slug", allow_null=True, default=None)
    delegator = serializers.CharField(source="delegator.username")
    person = serializers.CharField(source="person.username", help_text="Who may decide with it.")

    class Meta:
        model = Delegation
        fields = [
            "id", "appointment", "office", "unit", "delegator", "person", "matters", "limit", "reason",
            "valid_from", "valid_to", "recorded_by",
        ]  # fmt: skip
        read_only_fields = fields


class SubstitutionSerializer(serializers.ModelSerializer[Substitution]):
    """Somebody stands in for an absent person."""

    person = serializers.CharField(source="person.username", help_text="Who is absent.")
    substitute = serializers.CharField(source="substitute.username")

    class Meta:
        model = Substitution
        fields = ["id", "person", "substitute", "reason", "valid_from", "valid_to", "recorded_by"]
        read_only_fields = fields


class InterestSerializer(serializers.ModelSerializer[Interest]):
    """A person's interest in a unit or a counterparty, which recuses them."""

    person = serializers.CharField(source="person.username")
    unit = serializers.CharField(source="unit.slug", allow_null=True, default=None)

    class Meta:
        model = Interest
        fields = ["id", "person", "kind", "unit", "counterparty", "valid_from", "valid_to", "recorded_by"]
        read_only_fields = fields


# --- what is sent ------------------------------------------------------------------------------------------


def _person(name: str) -> User:
    """Return a person, by username. Raises ValidationError."""
    found = User.objects.filter(username=name, kind=User.Kind.PERSON, is_active=True, cleared=True).first()
    if found is None:
        raise serializers.ValidationError(_("There is no active person of this name with the clearance."))
    return found


class SpanSerializer(serializers.Serializer[Any]):
    """Something that holds from now on."""

    valid_to = serializers.DateTimeField(default=None, allow_null=True, help_text="Null: until it is ended.")


class OfUnitSerializer(SpanSerializer):
    """Something that may be of a unit: of those in view when it is sent."""

    unit = serializers.SlugRelatedField("slug", queryset=Unit.objects.none(), default=None, allow_null=True)

    def get_fields(self) -> dict[str, Any]:
        """Return the fields; units are those in view when the request comes."""
        fields: dict[str, Any] = super().get_fields()
        fields["unit"].queryset = Unit.objects.all()
        return fields


class AppointSerializer(OfUnitSerializer):
    """An office for somebody."""

    office = serializers.SlugRelatedField("slug", queryset=Office.objects.exclude(rank=0))
    person = serializers.CharField(max_length=150, help_text="Username.")

    def validate_person(self, name: str) -> User:
        """Return the person. Raises ValidationError."""
        return _person(name)


class DelegateSerializer(SpanSerializer):
    """The loan of an office."""

    appointment = serializers.PrimaryKeyRelatedField(
        queryset=Appointment.objects.all(), help_text="Number of an appointment of the caller."
    )
    person = serializers.CharField(max_length=150, help_text="Username of who may decide with it.")
    matters = serializers.SlugRelatedField(
        "slug", queryset=Matter.objects.all(), many=True, required=False, help_text="Only these; none: all."
    )
    limit = serializers.DecimalField(
        20,
        4,
        min_value=0,
        default=None,
        allow_null=True,
        help_text="In the matters' measure; null: the office's own.",
    )
    reason = serializers.CharField(max_length=200)

    def validate_person(self, name: str) -> User:
        """Return the person. Raises ValidationError."""
        return _person(name)


class SubstituteSerializer(SpanSerializer):
    """Who stands in for the caller."""

    substitute = serializers.CharField(max_length=150, help_text="Username.")
    reason = serializers.CharField(max_length=200)

    def validate_substitute(self, name: str) -> User:
        """Return the person. Raises ValidationError."""
        return _person(name)


class DeclareSerializer(OfUnitSerializer):
    """An interest of the caller, in a unit or else in a counterparty."""

    kind = serializers.ChoiceField(choices=Interest.Kind.choices)
    counterparty = serializers.CharField(max_length=200, default="", allow_blank=True)
