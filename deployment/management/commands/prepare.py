"""`manage.py prepare`: bring database, streams, holding, authority, administrator and static files to this version.

Idempotent, and quick when there is nothing to do, because each start runs it.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser
from django.db import connections
from django.db.migrations.executor import MigrationExecutor

from deployment.embedded.up import STEP
from holding.models import Unit
from subsidiaries.replacement.services import ensure_states

HOLDING = Path("holding/data/holding.yaml")


class Command(BaseCommand):
    """Everything that must be done once before the processes of a version start."""

    help = "Migrate, create streams, load holding and authority, ensure the administrator, collect static files."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--without-static", action="store_true", help="an image carries its static files")
        parser.add_argument("--holding", type=Path, default=settings.BASE_DIR / HOLDING, metavar="FILE")

    def handle(self, *args: Any, **options: Any) -> None:
        self._do("Database", self._migrate)
        self._do("Streams", lambda: self._call("ensure_streams"))
        self._do("Holding", lambda: self._call("load_holding", options["holding"], yes=True))
        self._do("Credentials", lambda: self._call("ensure_credentials", *_subsidiaries()))
        self._do("Authority", lambda: self._call("load_authority"))
        self._do("Seats", self._ensure_states)
        self._do("Administrator", self._ensure_administrator)
        if not options["without_static"]:
            self._do("Static files", self._collect_static)

    def _do(self, title: str, step: Callable[[], str]) -> None:
        self.stdout.write(f"{STEP}{title}: {step()}")
        self.stdout.flush()

    def _call(self, command: str, *args: Any, **options: Any) -> str:
        call_command(command, *args, stdout=self.stdout, stderr=self.stderr, **options)
        return "ready"

    def _migrate(self) -> str:
        """Migrate as the owner of the tables; the command itself costs half a second with nothing to do."""
        executor = MigrationExecutor(connections["owner"])
        pending = executor.migration_plan(executor.loader.graph.leaf_nodes())
        if not pending:
            return "up to date"
        self._call("migrate", database="owner", interactive=False, verbosity=0)
        return f"{len(pending)} migrations applied"

    def _ensure_states(self) -> str:
        """Create the states of new seats; a table that just grew from nothing has no statistics to plan by."""
        created = ensure_states()
        if created:
            with connections["owner"].cursor() as cursor:
                cursor.execute("analyze")
        return f"{created} new"

    def _ensure_administrator(self) -> str:
        """Without a password of the environment there is nobody to make: people come from elsewhere."""
        if not os.environ.get("ADMIN_PASSWORD"):
            return "not asked for (ADMIN_PASSWORD is not set)"
        username = os.environ.get("ADMIN_USERNAME", "admin")
        with Path(os.devnull).open("w") as nowhere:  # it prints the password, which belongs into no log
            call_command("ensure_administrator", username=username, stdout=nowhere)
        return username

    def _collect_static(self) -> str:
        """Collect when a source file changed since the last time."""
        stamp = Path(settings.STATIC_ROOT) / ".sources"
        digest = sources_digest()
        if stamp.exists() and stamp.read_text() == digest:
            return "up to date"
        self._call("collectstatic", interactive=False, verbosity=0, clear=True)
        stamp.write_text(digest)
        return "collected"


def _subsidiaries() -> list[str]:
    """The units of the holding whose hosts speak for them, beside the parent company."""
    return list(Unit.objects.subsidiaries().values_list("slug", flat=True))


def sources_digest() -> str:
    """SHA-256 over name, size and time of every static source file, and the storage that renders them."""
    digest = hashlib.sha256(repr(settings.STORAGES["staticfiles"]).encode())
    for finder in get_finders():
        for name, storage in finder.list([]):
            stat = Path(storage.path(name)).stat()
            digest.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
