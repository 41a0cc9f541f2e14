"""What every page shows of the holding."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest

from holding import clock
from holding.models import Holding


def holding(request: HttpRequest) -> dict[str, Any]:
    """Return the holding, whether its clock is accelerated, and where the live stream is."""
    if request.path.startswith("/admin/"):
        return {}
    return {
        "holding": Holding.objects.defer("source").first(),
        "clock_accelerated": clock.is_accelerated(),
        "clock_speed": settings.CLOCK_SPEED,
        "live_url": settings.LIVE_URL,
    }
