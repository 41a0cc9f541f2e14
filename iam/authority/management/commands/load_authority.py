"""`manage.py load_authority [FILE]`: bring offices, matters and rules to what a matrix file says."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import IntegrityError

from iam.authority import matrix, services


class Command(BaseCommand):
    """The same file twice changes nothing; other rules than before become a draft that somebody must adopt."""

    help = "Load the delegation of authority matrix from a YAML file."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, nargs="?", default=matrix.FILE, help="default: the portal's own")
        parser.add_argument("--actor", default="operator", help="who loads, for the ledger")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            done = services.install_matrix(data=matrix.read_matrix(options["file"]), actor=options["actor"])
        except OSError as error:
            raise CommandError(f"{options['file']} cannot be read: {error}") from error
        except (services.MatrixError, IntegrityError) as error:
            raise CommandError(f"{options['file']} was not loaded: {error}") from error
        if done.version is not None:
            self.stdout.write(f"Version {done.version.number} of the matrix: {done.version.get_status_display()}.")
        elif done.changed:
            self.stdout.write("Offices or matters were brought up to date.")
        else:
            self.stdout.write("The matrix is already as this file says.")
