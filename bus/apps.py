"""Django application `bus`."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class BusConfig(AppConfig):
    """Messages between the portal and the agents."""

    name = "bus"
    verbose_name = _("Message bus")
