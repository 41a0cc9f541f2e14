"""Django application `performance`."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class PerformanceConfig(AppConfig):
    """PMON: what agents claim, minute by minute."""

    name = "subsidiaries.performance"
    label = "performance"
    verbose_name = _("Performance")
