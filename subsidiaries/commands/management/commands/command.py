"""`manage.py command pause --subsidiary pricing --reason ...`: give a command from the machine itself."""

import time
from typing import Any
from uuid import uuid4

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from holding.models import Division, Role, Seat, Unit
from iam.access.rights import RefusedError
from subsidiaries.commands import services
from subsidiaries.commands.models import Command as Given
from subsidiaries.commands.models import Counts, Target
from subsidiaries.commands.orders import SETTINGS, USUAL_PATIENCE_S, Order

ACTOR = "operator/command"
LOOK_S = 0.5


class Command(BaseCommand):
    """Gives one command, and says what became of it."""

    help = (
        "Pause, resume, drain, retire, configure or ask for reports: agents of a unit, a division, a role, or all."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("verb", choices=Given.Verb.values)
        parser.add_argument("--reason", required=True, help="why; everybody concerned reads it")
        parser.add_argument("--all", action="store_true", help="the whole holding, or a role everywhere")
        parser.add_argument("--subsidiary", metavar="S", default="", help="a unit, by its slug")
        parser.add_argument("--division", metavar="D", default="", help="a division, by its key: pricing.1")
        parser.add_argument("--role", metavar="R", default="", help="only agents of this role: operator")
        parser.add_argument("--seat", metavar="C", default="", help="one seat of the subsidiary: op-0042")
        parser.add_argument("--host", metavar="H", default="", help="what this host runs (drain)")
        parser.add_argument("--lift", metavar="N", type=int, help="lift command N (resume), whatever else stands")
        parser.add_argument("--set", metavar="NAME=SECONDS", action="append", default=[], help="a setting (config)")
        parser.add_argument("--percent", type=int, default=100, help="share of each step of a roll-out")
        parser.add_argument(
            "--halt-above", type=int, default=0, metavar="PERCENT", help="failure rate that halts it"
        )
        parser.add_argument("--patience", type=int, default=USUAL_PATIENCE_S, metavar="SECONDS", help="to obey")
        parser.add_argument("--key", default="", help="the same key again gives the command once")
        parser.add_argument("--no-wait", action="store_true", help="do not wait until its first step is over")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            given = services.issue(order=_order(options), actor=ACTOR)
        except RefusedError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"command {given.pk}: {given.verb}, {given.agents} agents")
        if options["no_wait"]:
            return
        counts = _wait(given)
        self.stdout.write(
            f"{counts.acknowledged} of {counts.total} divisions obeyed, {counts.refused} refused, "
            f"{counts.expired} did not in time, {counts.waiting} wait for a later step"
        )
        if counts.failed:
            raise CommandError(f"Command {given.pk} was not obeyed everywhere: see /commands/{given.pk}/.")


def _wait(given: Given) -> Counts:
    deadline = time.monotonic() + given.patience_s + Target.GRACE.total_seconds()
    while True:
        services.tick()
        counts = Target.objects.counted(timezone.now(), of=[given.pk])[given.pk]
        if not counts.open or time.monotonic() > deadline:
            return counts
        time.sleep(LOOK_S)


def _order(options: dict[str, Any]) -> Order:
    unit = _find(Unit, "subsidiary", options["subsidiary"], slug=options["subsidiary"])
    lifts = _find(Given, "command", options["lift"], pk=options["lift"])
    key = options["key"] or str(uuid4())
    if lifts is not None:
        if options["verb"] != Given.Verb.RESUME:
            raise CommandError("--lift goes with resume.")
        return services.lifting(lifts, reason=options["reason"], key=key, patience_s=options["patience"])
    if options["seat"] and unit is None:
        raise CommandError("Name the seat's --subsidiary.")
    seat = _find(Seat, "seat", options["seat"], unit=unit, code=options["seat"])
    division = _find(Division, "division", options["division"], key=options["division"])
    if not (options["all"] or options["host"] or unit or division):
        raise CommandError("Say about whom: --all, --subsidiary, --division or --host.")
    return Order(
        verb=options["verb"], reason=options["reason"], key=key, unit=unit, division=division, seat=seat,
        role=_find(Role, "role", options["role"], slug=options["role"]), host=options["host"],
        settings=dict(_setting(text) for text in options["set"]), percent=options["percent"],
        halt_above=options["halt_above"], patience_s=options["patience"],
    )  # fmt: skip


def _find(model: Any, word: str, name: object, **by: Any) -> Any:
    if not name:
        return None
    found = model.objects.filter(**by).first()
    if found is None:
        raise CommandError(f"There is no {word} '{name}'.")
    return found


def _setting(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError as error:
        raise CommandError(f"Write a setting as NAME=SECONDS; names: {', '.join(SETTINGS)}.") from error
