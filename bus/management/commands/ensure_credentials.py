"""`manage.py ensure_credentials`: keys and logins for every unit of the holding."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from bus import credentials
from bus.credentials import CredentialsError


class Command(BaseCommand):
    """Idempotent. Without NATS_KEYS the server is somebody else's, and so are its logins."""

    help = "Make the scoped keys that units lack, tell NATS of them, and renew the credential files that are due."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("units", nargs="*", help="slugs of units that shall have keys")

    def handle(self, *args: Any, units: list[str], **options: Any) -> None:
        if not settings.NATS_KEYS:
            self.stdout.write("NATS_KEYS is not set: no logins are minted here.")
            return
        try:
            store = credentials.KeyStore.load(settings.NATS_KEYS)
            added = store.ensure_scopes(units)
            if added:
                credentials.push(store, settings.NATS_URL)
            renewed = credentials.Logins(store).renew()
        except CredentialsError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(self.style.SUCCESS(f"{len(added)} keys added, {len(renewed)} logins renewed."))
