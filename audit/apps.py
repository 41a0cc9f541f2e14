"""Django application `audit`."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

from audit import lookups


class AuditConfig(AppConfig):
    """The ledger."""

    name = "audit"
    verbose_name = _("Ledger")

    def ready(self) -> None:
        """Set up how lists become parameters, for all apps: this is the lowest."""
        lookups.register()
