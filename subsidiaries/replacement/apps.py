"""Django application `replacement`."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ReplacementConfig(AppConfig):
    """ARP: every lost agent is replaced."""

    name = "subsidiaries.replacement"
    label = "replacement"
    verbose_name = _("Replacement")
