"""The holding's one clock.

Every rule about days, weeks, terms and cycles reads `now()`. It is the real time by default. With
`CLOCK_SPEED` other than 1 it runs that many times faster (or slower) from the moment the holding was
loaded, for demonstrations; pages then say so. Messages, leases and the ledger always use real time.
"""

from datetime import datetime, timedelta
from functools import cache

from django.conf import settings
from django.utils import timezone

from holding.models import Holding


def now() -> datetime:
    """Return the business time, with time zone."""
    real = timezone.now()
    if settings.CLOCK_SPEED == 1:
        return real
    start = _started_at()
    return start + (real - start) * settings.CLOCK_SPEED


def today() -> datetime:
    """Return the first instant of the business day (UTC)."""
    return now().replace(hour=0, minute=0, second=0, microsecond=0)


def week_start() -> datetime:
    """Return the first instant of the business week: Monday, UTC (ISO 8601)."""
    day = today()
    return day - timedelta(days=day.weekday())


def speed() -> float:
    """Return how many business seconds pass in a real second."""
    return float(settings.CLOCK_SPEED)


def is_accelerated() -> bool:
    """Return whether business time differs from real time, so that pages must say so."""
    return bool(settings.CLOCK_SPEED != 1)


@cache
def _started_at() -> datetime:
    return Holding.objects.values_list("loaded_at", flat=True).first() or timezone.now()
