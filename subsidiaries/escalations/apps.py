"""Django application `escalations`."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class EscalationsConfig(AppConfig):
    """What agents could not settle among themselves."""

    name = "subsidiaries.escalations"
    label = "escalations"
    verbose_name = _("Escalations")
