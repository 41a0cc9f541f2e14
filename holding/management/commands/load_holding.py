"""`manage.py load_holding FILE`: bring the database to what a holding file says."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from holding import files, services


class Command(BaseCommand):
    """Shows the difference before a changed file is applied; the same file twice changes nothing."""

    help = "Load the holding from a YAML file (format: holding/data/holding.schema.json)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="for example holding/data/holding.yaml")
        parser.add_argument("--yes", action="store_true", help="apply a changed file without asking")
        parser.add_argument("--dry-run", action="store_true", help="only show the difference")
        parser.add_argument(
            "--agents-per-subsidiary",
            type=int,
            default=settings.AGENTS_PER_SUBSIDIARY,
            metavar="N",
            help="scale the quotas down to N agents per subsidiary, for small machines",
        )
        parser.add_argument("--actor", default="operator", help="who loads, for the ledger")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            data = files.read(options["file"])
            wanted = options["agents_per_subsidiary"]
            scaled = bool(wanted) and wanted != data["staffing"]["floor"]
            if scaled:
                data = files.scale(data, wanted)
            changes = services.plan_load(data=data)
            for line in changes:
                self.stdout.write(f"  {line}")
            if options["dry_run"]:
                self.stdout.write(f"{len(changes)} differences; nothing was changed.")
                return
            if changes and not options["yes"] and not self._confirmed(len(changes)):
                raise CommandError("Nothing was changed: run again with --yes to apply these differences.")
            result = services.load_holding(data=data, actor=options["actor"], scaled=scaled)
        except files.HoldingFileError as error:
            raise CommandError(
                f"{options['file']} was not loaded; mend these and load it again:\n  " + "\n  ".join(error.mistakes)
            ) from error
        except ValueError as error:
            raise CommandError(str(error)) from error
        if result.first or result.changes:
            self.stdout.write(self.style.SUCCESS(f"Loaded: {result.seats} seats created."))
        else:
            self.stdout.write("The holding is already as this file says.")

    def _confirmed(self, changes: int) -> bool:
        try:
            return input(f"Apply these {changes} differences? [y/N] ").strip().lower() in {"y", "yes"}
        except EOFError:  # nobody to ask
            return False
