"""``manage.py message_docs``: write docs/messages.md from the registry of message types."""

import argparse
from pathlib import Path

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from bus.contract.markdown import page


class Command(BaseCommand):
    requires_system_checks = ()
    help = "Write docs/messages.md from the registry of message types."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--check", action="store_true", help="only say whether the file is up to date")

    def handle(self, *args: object, **options: object) -> None:
        path = Path(settings.BASE_DIR) / "docs" / "messages.md"
        if not options["check"]:
            path.write_text(page(), encoding="utf-8")
            self.stdout.write(f"Wrote {path.name}.")
        elif path.read_text(encoding="utf-8") != page():
            raise CommandError("docs/messages.md is not what the registry says: run `manage.py message_docs`.")
