"""The register of exchange rates: how many euros one of a currency is, by which foreign amounts are judged."""

from datetime import date, timedelta
from typing import Self

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

MAX_AGE = timedelta(days=10)  # a rate older than this is stale: nothing is asked for by it


class ExchangeRateQuerySet(models.QuerySet["ExchangeRate"]):
    """Reads of rates."""

    def usable(self, on: date) -> Self:
        """Return the rates of that day and the ten before it, of each currency the newest first."""
        return self.filter(on__lte=on, on__gte=on - MAX_AGE).order_by("currency", "-on", "-id")

    def newest_of_each(self, on: date) -> Self:
        """Return of each currency the rate that counts on that day, if it is not stale."""
        return self.usable(on).distinct("currency")


class ExchangeRate(models.Model):
    """Euros for one of a currency on a day. Append-only (migration 0005): a later row of the day corrects one."""

    currency = models.CharField(_("currency"), max_length=3)
    rate = models.DecimalField(_("EUR for one of the currency"), max_digits=18, decimal_places=8)
    on = models.DateField(_("day"))
    source = models.CharField(_("source"), max_length=200)
    recorded_by = models.CharField(_("recorded by"), max_length=200)
    recorded_at = models.DateTimeField(_("recorded at"))

    objects = ExchangeRateQuerySet.as_manager()

    class Meta:
        verbose_name = _("exchange rate")
        verbose_name_plural = _("exchange rates")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=Q(rate__gt=0), name="exchange_rate_positive"),
            models.CheckConstraint(
                condition=Q(currency__regex=r"^[A-Z]{3}$") & ~Q(currency="EUR"), name="exchange_rate_currency"
            ),
            models.CheckConstraint(condition=~Q(source="") & ~Q(recorded_by=""), name="exchange_rate_source"),
        ]
        indexes = [models.Index(fields=["currency", "-on", "-id"], name="exchange_rate_newest")]

    def __str__(self) -> str:
        return f"{self.currency} {self.rate} ({self.on})"
