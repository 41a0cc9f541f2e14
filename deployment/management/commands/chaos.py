"""`manage.py chaos kill-agents --unit pricing --count 200`: faults on purpose, for demonstrations and drills."""

import secrets
from random import Random
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from deployment.embedded import hosts
from deployment.embedded.directory import DataDirectory
from deployment.embedded.errors import EmbeddedError
from subsidiaries.replacement import chaos

VERBS = ("kill-agents", "kill-host", "silence", "corrupt")


class Command(BaseCommand):
    """Injects one fault, and says what was hit and by which seed."""

    help = (
        "Kill agents, kill a host, silence a subsidiary, or corrupt a blueprint version. Refused unless "
        "CHAOS_ENABLED; each run is audited."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("verb", choices=VERBS)
        parser.add_argument("--unit", metavar="U", default="", help="of which unit (its slug)")
        parser.add_argument("--role", metavar="R", default="", help="only agents of this role (or body)")
        parser.add_argument("--count", type=int, metavar="N", help="so many, at most")
        parser.add_argument("--share", type=float, metavar="S", help="such a share of them (0.6)")
        parser.add_argument("--seconds", type=float, default=60, help="how long a silence lasts (60)")
        parser.add_argument("--host", metavar="H", default="", help="which host to kill (else one is drawn)")
        parser.add_argument(
            "--blueprint",
            action="append",
            metavar="B",
            default=[],
            help="a version to corrupt (operator/2); none: mend all",
        )
        parser.add_argument("--seed", type=int, help="draw the same again; drawn and said when it is not given")

    def handle(self, *args: Any, **options: Any) -> None:
        seed = secrets.randbelow(2**31) if options["seed"] is None else options["seed"]
        try:
            chaos.require_enabled()
            self.stdout.write(f"{self._do(options, seed)} (seed {seed})")
        except (chaos.ChaosError, EmbeddedError) as error:
            raise CommandError(str(error)) from error

    def _do(self, options: dict[str, Any], seed: int) -> str:
        if options["verb"] == "kill-host":
            return _kill_host(options["host"], seed)
        if not options["unit"]:
            raise CommandError("Say of which --unit.")
        if options["verb"] == "corrupt":
            if options["role"] or options["count"] is not None or options["share"] is not None:
                raise CommandError("A version is corrupt for a whole unit: leave --role, --count and --share out.")
            versions = chaos.corrupt(unit=options["unit"], versions=options["blueprint"])
            whose = f"of {', '.join(versions)} crash" if versions else "are well again"
            return f"New agents of {options['unit']} {whose}"
        selection = chaos.Selection(options["unit"], options["role"], options["count"], options["share"], seed)
        if options["verb"] == "silence":
            if options["role"]:
                raise CommandError("A silence is of whole divisions: leave --role out.")
            divisions = chaos.silence(selection=selection, seconds=options["seconds"])
            return f"{', '.join(divisions)}: silent for {options['seconds']:g} s"
        agents = chaos.kill_agents(selection=selection)
        return f"{len(agents)} agents of {options['unit']} are made to fail, from {agents[0]}"


def _kill_host(name: str, seed: int) -> str:
    found = hosts.hosts(DataDirectory(settings.DATA_DIR))
    if name and name not in found:
        raise CommandError(f"No host '{name}' runs here. Hosts: {', '.join(found) or 'none'}.")
    if not found:
        raise CommandError("No host runs here.")
    name = name or Random(seed).choice(list(found))  # noqa: S311 - a drill, no secret
    chaos.note_host_killed(host=name, pid=found[name], seed=seed)
    hosts.kill(found[name])
    return f"{name} (process {found[name]}) was killed"
