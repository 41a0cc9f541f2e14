"""What the API says of exchange rates, and what it takes."""

from typing import Any

from rest_framework import serializers

from iam.authority.models import ExchangeRate


class RateSerializer(serializers.ModelSerializer[ExchangeRate]):
    """Euros for one of a currency on a day, and who says so."""

    class Meta:
        model = ExchangeRate
        fields = ["id", "currency", "rate", "on", "source", "recorded_by", "recorded_at"]
        read_only_fields = fields


class RecordRateSerializer(serializers.Serializer[Any]):
    """A rate to record."""

    currency = serializers.RegexField(r"^[A-Z]{3}$", help_text="Any but EUR.")
    rate = serializers.DecimalField(18, 8, help_text="Euros for one of the currency.")
    on = serializers.DateField(help_text="Day of the rate; not in the future.")
    source = serializers.CharField(  # type: ignore[assignment]  # a field, not the option
        max_length=200, help_text="Where it comes from."
    )
    confirmed = serializers.BooleanField(
        default=False, help_text="Needed when it differs from the last one by more than a factor of two."
    )
