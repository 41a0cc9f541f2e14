"""Django application `holding`."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class HoldingConfig(AppConfig):
    """The structure of the group."""

    name = "holding"
    verbose_name = _("Holding")
