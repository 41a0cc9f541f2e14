"""`manage.py verify_ledger`: recompute the ledger's Merkle log from the stored bytes."""

import json
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit import services


class Command(BaseCommand):
    """Exit status 0 when the ledger is whole, 1 with each fault in words otherwise."""

    help = "Recompute the ledger's Merkle log from the stored bytes and compare it with what was sealed."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        services.seal()
        started = time.perf_counter()
        result = services.verify()
        seconds = time.perf_counter() - started
        if options["json"]:
            self.stdout.write(
                json.dumps(
                    {
                        "ok": result.ok,
                        "entries": result.entries,
                        "size": result.size,
                        "root": result.root,
                        "unsealed": result.unsealed,
                        "faults": list(result.faults),
                        "seconds": round(seconds, 3),
                    }
                )
            )
        else:
            self.stdout.write(f"{result.size} entries sealed, {result.unsealed} waiting, root {result.root}")
        if not result.ok:
            raise CommandError("the ledger is damaged:\n  " + "\n  ".join(result.faults[:50]))
        if not options["json"]:
            self.stdout.write(self.style.SUCCESS(f"The ledger is whole ({seconds:.2f} s)."))
