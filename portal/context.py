"""What every page shows of the holding, and where its live stream is."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest

from holding import clock
from holding.models import Holding

THEME_COOKIE = "theme"
THEMES = ("system", "light", "dark")


def holding(request: HttpRequest) -> dict[str, Any]:
    """Return the holding, the theme, whether the clock is accelerated, and where the live stream is."""
    if request.path.startswith("/admin/"):
        return {}
    theme = request.COOKIES.get(THEME_COOKIE, "")
    return {
        "holding": Holding.objects.defer("source").first(),
        "clock_accelerated": clock.is_accelerated(),
        "clock_speed": settings.CLOCK_SPEED,
        "live_url": live_address(request),
        "theme": theme if theme in THEMES else "system",
        "languages": settings.LANGUAGES,
    }


def live_address(request: HttpRequest) -> str:
    """Return the address of the live stream for this page.

    `LIVE_URL` is an origin, or `:port` for the page's own host under another port (so that the session
    cookie, which belongs to the host and not to the port, reaches it), or empty behind one proxy.
    """
    origin = settings.LIVE_URL
    if origin.startswith(":"):
        host = request.get_host()
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        origin = f"{request.scheme}://{name}{origin}"
    return f"{origin}/live/"
