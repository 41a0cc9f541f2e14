"""Django application `holding`."""

from importlib import import_module

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class HoldingConfig(AppConfig):
    """The structure of the group."""

    name = "holding"
    verbose_name = _("Holding")

    def ready(self) -> None:
        """Tell the bus which units there are, once the models are there."""
        import_module("holding.known")
