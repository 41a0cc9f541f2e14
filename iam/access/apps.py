"""Django application `access`."""

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig
from django.utils.translation import gettext_lazy as _


class AccessConfig(AppConfig):
    """People and credentials."""

    name = "iam.access"
    label = "access"
    verbose_name = _("Access")


class PortalAdminConfig(AdminConfig):
    """Django's admin behind the portal's own sign-in and clearance."""

    default_site = "iam.access.site.PortalAdminSite"
