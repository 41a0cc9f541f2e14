"""Django application `commands`."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class CommandsConfig(AppConfig):
    """What people order agents and hosts to do."""

    name = "subsidiaries.commands"
    label = "commands"
    verbose_name = _("Commands")
