"""`manage.py up`: start the whole holding on this machine.

manage.py answers it before Django is set up; this command lists it in `manage.py help` and serves callers
that come through Django.
"""

import argparse
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from deployment.embedded import options as choices
from deployment.embedded.up import up


class Command(BaseCommand):
    """Starts servers and processes and supervises them until it is stopped."""

    help = "Start the whole holding on this machine: servers, portal, workers, agent hosts."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        choices.add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        sys.exit(up(choices.from_namespace(argparse.Namespace(**options))))
