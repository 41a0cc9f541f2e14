"""`manage.py auto_replacement [--subsidiary S]`: what the ARP beat does every ten seconds, by hand."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from holding.models import Unit
from subsidiaries.replacement import services


class Command(BaseCommand):
    """Runs one ARP cycle per unit and prints what it found and did."""

    help = "Replace failed and missing agents now (one cycle per unit); the beat does the same every 10 s."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--subsidiary", metavar="S", help="only this unit (its slug)")

    def handle(self, *args: Any, **options: Any) -> None:
        units = list(Unit.objects.order_by("position").values_list("slug", flat=True))
        if wanted := options["subsidiary"]:
            if wanted not in units:
                raise CommandError(f"There is no unit '{wanted}'. Units: {', '.join(units)}.")
            units = [wanted]
        replaced = below = 0
        for slug in units:
            cycle = services.ensure(unit=slug, actor="operator/auto_replacement")
            replaced += cycle.replaced
            below += cycle.deficit > 0
            if cycle.replaced or cycle.deferred or cycle.deficit or cycle.skipped:
                self.stdout.write(
                    f"{slug}: {cycle.live} of {cycle.seats} live, {cycle.replaced} replaced, {cycle.deferred} wait"
                    + (f" ({cycle.skipped})" if cycle.skipped else "")
                )
        self.stdout.write(f"{len(units)} units: {replaced} replaced, {below} not at full strength.")
