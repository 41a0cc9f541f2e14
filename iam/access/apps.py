"""Django application `access`."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AccessConfig(AppConfig):
    """People and credentials."""

    name = "iam.access"
    label = "access"
    verbose_name = _("Access")
