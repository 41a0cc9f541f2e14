"""`manage.py auto_replacement [--subsidiary S] [--json]`: what the ARP beat does every ten seconds, by hand."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from holding.models import Unit
from subsidiaries.replacement import cycle
from subsidiaries.replacement.cycle import Turn


class Command(BaseCommand):
    """Runs one ARP cycle per unit and prints what it found and did; fails when a unit is below its floor then."""

    help = (
        "Replace failed and missing agents, and bring seats to their plans, now (one cycle per unit; the beat does "
        "the same every 10 s). The exit code is 1 when a unit is below its floor after that."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--subsidiary", metavar="S", help="only this unit (its slug)")
        parser.add_argument("--json", action="store_true", help="one JSON document instead of lines")

    def handle(self, *args: Any, **options: Any) -> None:
        units = list(Unit.objects.order_by("position").values_list("slug", flat=True))
        if wanted := options["subsidiary"]:
            if wanted not in units:
                raise CommandError(f"There is no unit '{wanted}'. Units: {', '.join(units)}.")
            units = [wanted]
        turns = [cycle.run(unit=slug, actor="operator/auto_replacement") for slug in units]
        below = [turn.cycle.unit for turn in turns if turn.cycle.below]
        if options["json"]:
            self.stdout.write(json.dumps({"units": [_told(turn) for turn in turns], "below_floor": below}))
        else:
            for turn in turns:
                if line := _line(turn):
                    self.stdout.write(line)
            replaced = sum(turn.cycle.replaced for turn in turns)
            short = sum(turn.cycle.deficit > 0 for turn in turns)
            self.stdout.write(
                f"{len(units)} units: {replaced} replaced, {short} not at full strength, {len(below)} below floor."
            )
        if below:
            raise CommandError(f"Below the floor: {', '.join(below)}.")


def _told(turn: Turn) -> dict[str, Any]:
    found = turn.cycle
    return {
        "unit": found.unit,
        "live": found.live,
        "floor": found.floor,
        "establishment": found.seats,
        "vacant": found.vacant,
        "below": found.below,
        "replaced": found.replaced,
        "deferred": found.deferred,
        "retired": turn.retired,
        "opened": list(turn.kept.opened),
        "closed": list(turn.kept.closed),
        "skipped": found.skipped,
    }


def _line(turn: Turn) -> str:
    """Return the line of a unit: of every one of which there is something to say."""
    found, kept = turn.cycle, turn.kept
    acts = [
        f"{count} {word}"
        for count, word in (
            (found.replaced, "replaced"),
            (found.deferred, "wait"),
            (turn.retired, "retired by plan"),
            (len(kept.opened), "seats opened"),
            (len(kept.closed), "seats closed"),
            (kept.waiting, "seats too many"),
            (found.below, "below the floor"),
        )
        if count
    ]
    if not acts and not found.deficit and not found.skipped:
        return ""
    line = f"{found.unit}: {found.live} of {found.seats} live (floor {found.floor})"
    return line + "".join(f", {act}" for act in acts) + (f" ({found.skipped})" if found.skipped else "")
