"""`manage.py export_credentials DIR`: the logins of an agent host on another machine."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from audit import services as audit
from bus.credentials import CredentialsError, KeyStore, Logins
from claytom_agent.subjects import check_host_id

DAY_S = 86_400


class Command(BaseCommand):
    """The directory holds no key, so it cannot be renewed there: export it again before it runs out."""

    help = "Write the credential files of a host on another machine into a directory, to be copied there."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("directory", type=Path)
        parser.add_argument("--name", required=True, help="of the machine")
        parser.add_argument("--unit", action="append", default=[], help="only this unit (default: all)")
        parser.add_argument("--days", type=float, default=30.0, help="they live (default 30, at most 90)")
        parser.add_argument("--actor", default="operator", help="who does this, for the ledger")

    def handle(self, *args: Any, directory: Path, **options: Any) -> None:
        if not settings.NATS_KEYS:
            raise CommandError("NATS_KEYS is not set: the keys of this NATS are somebody else's.")
        try:
            logins = Logins(KeyStore.load(settings.NATS_KEYS), name=check_host_id(options["name"]))
            files = list(logins.host_files(directory, options["unit"]))
            unknown = set(options["unit"]) - {file.unit for file in files}
            if unknown:
                raise CommandError(f"There is no unit {', '.join(sorted(unknown))}.")
            keys = {file.path.stem: logins.write(file, options["days"] * DAY_S) for file in files}
            with transaction.atomic():
                audit.record(
                    actor=options["actor"],
                    action="credentials.export",
                    object=f"nats/host/{options['name']}",
                    details={"days": str(options["days"]), "users": keys},
                )
        except (CredentialsError, ValueError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(self.style.SUCCESS(f"{len(files)} files, good for {options['days']:g} days."))
