"""Writes and lookups of exchange rates. Whoever asks for an approval names a currency, never its rate."""

import re
from datetime import date, datetime
from decimal import Decimal

from django.db import connection, transaction
from django.utils.translation import gettext as _

from audit import services as audit
from holding import clock
from iam.access.models import User
from iam.authority.models import ExchangeRate
from iam.authority.models.rates import MAX_AGE

EURO = "EUR"
CURRENCY = re.compile(r"[A-Z]{3}")
LARGEST = Decimal(10) ** 10
SMALLEST = Decimal("0.00000001")
UNUSUAL = 2  # times the rate before, up or down
SOURCE_LENGTH = 200
RATE_LOCK = 0x6672617465730000  # "frates\0\0": each rate is compared with the one before it


class RateError(ValueError):
    """A rate that cannot be recorded or does not exist; the text says why."""


class UnusualRateError(RateError):
    """A rate so far from the one before it that whoever records it must confirm it."""


@transaction.atomic
def record_rate(
    *,
    currency: str,
    rate: Decimal,
    on: date,
    source: str,
    actor: str,
    confirmed: bool = False,
    at: datetime | None = None,
) -> ExchangeRate:
    """Record how many euros one of a currency was on a day, and who says so.

    Raises RateError for a currency, a rate, a day or a source that cannot be; UnusualRateError when the rate is
    more than twice or less than half the last one and is not `confirmed`.
    """
    when, said = at or clock.now(), source.strip()
    if not CURRENCY.fullmatch(currency) or currency == EURO:
        raise RateError(_("A currency is three capital letters, and not EUR."))
    if not rate.is_finite() or not SMALLEST <= rate < LARGEST or rate != rate.quantize(SMALLEST):
        raise RateError(_("A rate is a number above 0, with eight decimals at most."))
    if on > when.date():
        raise RateError(_("The day of the rate has not come yet."))
    if not said or len(said) > SOURCE_LENGTH:
        raise RateError(_("Say in up to 200 characters where the rate comes from."))
    with connection.cursor() as cursor:
        cursor.execute("select pg_advisory_xact_lock(%s)", [RATE_LOCK])
    last = ExchangeRate.objects.filter(currency=currency).order_by("-on", "-id").first()
    if last is not None and not confirmed and not last.rate / UNUSUAL <= rate <= last.rate * UNUSUAL:
        raise UnusualRateError(
            _(
                "The last rate of %(currency)s is %(last)s (%(on)s):"
                " confirm one that differs by more than a factor of 2."
            )
            % {"currency": currency, "last": f"{last.rate.normalize():f}", "on": last.on.isoformat()}
        )
    made = ExchangeRate.objects.create(
        currency=currency, rate=rate, on=on, source=said, recorded_by=actor, recorded_at=when
    )
    details = {
        "currency": currency,
        "rate": f"{rate.normalize():f}",
        "on": on.isoformat(),
        "source": said,
        "confirmed": confirmed,
    }
    audit.record(
        actor=actor,
        action="rate.record",
        object=f"rate/{made.pk}",
        before={"rate": str(last.rate), "on": last.on.isoformat()} if last else None,
        after=details,
        details=details,
    )
    return made


def rate_for(*, currency: str, on: date, requester: User | None = None) -> ExchangeRate:
    """Return the newest rate of a currency on a day or up to ten days before it.

    Raises RateError when there is none, and when whoever asks recorded it: nobody chooses the rate they ask by.
    """
    found = ExchangeRate.objects.usable(on).filter(currency=currency).first()
    if found is None:
        raise RateError(
            _(
                "There is no rate of %(currency)s of the last %(days)s days. Whoever manages authority records one"
                " at /authority/rates/; or ask in EUR."
            )
            % {"currency": currency[:3], "days": MAX_AGE.days}
        )
    if requester is not None and found.recorded_by in _names(requester):
        raise RateError(
            _("You recorded this rate of %(currency)s. Somebody else asks by it, or records a rate.")
            % {"currency": currency}
        )
    return found


def _names(person: User) -> set[str]:
    """The names of an account and of the person who answers for it."""
    return {person.get_username(), person.owner.get_username() if person.owner else person.get_username()}
