"""Django application `enrolment`."""

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _


class EnrolmentConfig(AppConfig):
    """Agents that people bring."""

    name = "subsidiaries.enrolment"
    label = "enrolment"
    verbose_name = _("Enrolment")

    def ready(self) -> None:
        """Tell ARP who answers for single agents, in every process: the worker asks too (module `door`)."""
        autodiscover_modules("door")
