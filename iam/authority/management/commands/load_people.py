"""`manage.py load_people FILE` or `--demo`: people with their sign-ins, offices and roles."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from iam.authority import people, services


class Command(BaseCommand):
    """The same file twice changes nothing. Passwords are random, told this once, and stored nowhere."""

    help = "Load people, their offices and their roles from a YAML file."

    def add_arguments(self, parser: CommandParser) -> None:
        source = parser.add_mutually_exclusive_group(required=True)
        source.add_argument("file", type=Path, nargs="?")
        source.add_argument("--demo", action="store_true", help="the invented people of the demonstration")
        parser.add_argument(
            "--passwords", type=Path, help="write the passwords here (0600) instead of printing them"
        )
        parser.add_argument("--actor", default="operator", help="who loads, for the ledger")

    def handle(self, *args: Any, **options: Any) -> None:
        file = people.DEMONSTRATION if options["demo"] else options["file"]
        target: Path | None = options["passwords"]
        if target is not None and target.exists():
            raise CommandError(f"{target} exists already; passwords are written to a new file only.")
        try:
            done = services.load_people(data=people.read_people(file), actor=options["actor"])
        except OSError as error:
            raise CommandError(f"{file} cannot be read: {error}") from error
        except services.PeopleError as error:
            raise CommandError(f"{file} was not loaded:\n{error}") from error
        self.stdout.write(
            f"{len(done.passwords)} people are new,"
            f" {done.appointments} offices and {done.bindings} roles were given."
        )
        if done.passwords:
            self._tell(done.passwords, target)

    def _tell(self, passwords: Mapping[str, str], target: Path | None) -> None:
        width = max(map(len, passwords))
        table = "".join(f"{name:<{width}}  {password}\n" for name, password in passwords.items())
        if target is None:
            self.stdout.write(f"Their passwords, shown only now:\n{table}")
            return
        try:
            target.touch(mode=0o600, exist_ok=False)
            target.write_text(table, encoding="utf-8")
        except OSError as error:
            # They are in the database by now: without this, nobody could sign in.
            self.stdout.write(f"{target} cannot be written ({error}); the passwords, shown only now:\n{table}")
