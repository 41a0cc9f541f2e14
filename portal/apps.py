"""Django application `portal`."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class PortalConfig(AppConfig):
    """The executive web portal."""

    name = "portal"
    verbose_name = _("Portal")
