"""Django application `enrolment`."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class EnrolmentConfig(AppConfig):
    """Agents that people bring."""

    name = "subsidiaries.enrolment"
    label = "enrolment"
    verbose_name = _("Enrolment")
