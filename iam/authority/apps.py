"""Django application `authority`."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AuthorityConfig(AppConfig):
    """The delegation of authority, and approvals under it."""

    name = "iam.authority"
    label = "authority"
    verbose_name = _("Authority")
