"""Django application `authority`."""

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _


class AuthorityConfig(AppConfig):
    """The delegation of authority, and approvals under it."""

    name = "iam.authority"
    label = "authority"
    verbose_name = _("Authority")

    def ready(self) -> None:
        """Let every app register what approvals may do: in its module `actions`, if it has one.

        Access is told who holds an office (module `powers`), once the models are there.
        """
        autodiscover_modules("actions", "powers")
