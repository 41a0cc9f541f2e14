"""`manage.py rotate_credentials`: replace logins and keys while everything runs, or refuse single users."""

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from audit import services as audit
from bus.credentials import CredentialsError, KeyStore, Logins, push, rotation
from bus.credentials.rotation import Report

KINDS = ("logins", "signing", "account", "operator")
RESTART_S = 30.0


class Command(BaseCommand):
    """Exit status 0 when the new is good and the old is refused."""

    help = "Replace NATS logins and keys under load, or revoke single users. Each act is entered in the ledger."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--kind",
            action="append",
            choices=[*KINDS, "all"],
            help="logins: the credential files here; signing: the scoped keys, and with them every login that they "
            "signed; account: the key that signs accounts; operator: the operator (both restart NATS)",
        )
        parser.add_argument(
            "--scope", action="append", default=[], help="only this scope or kind (unit.pricing, bus)"
        )
        parser.add_argument("--grace", type=float, default=0.0, help="seconds in which old signing keys stay good")
        parser.add_argument("--revoke", action="append", default=[], metavar="PUBLIC_KEY", help="refuse this user")
        parser.add_argument("--actor", default="operator", help="who does this, for the ledger")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["kind"] and not options["revoke"]:
            raise CommandError("Say what: --kind logins|signing|account|operator|all, or --revoke PUBLIC_KEY.")
        try:
            self._work(options)
        except (CredentialsError, ValueError) as error:
            raise CommandError(str(error)) from error

    def _work(self, options: dict[str, Any]) -> None:
        if not settings.NATS_KEYS:
            raise CredentialsError("NATS_KEYS is not set: the keys of this NATS are somebody else's")
        store = KeyStore.load(settings.NATS_KEYS)
        logins, url = Logins(store), settings.NATS_URL
        if options["revoke"]:
            self._do(options, "revoke", partial(rotation.revoke, store, url, options["revoke"]))
        kinds = KINDS if "all" in (options["kind"] or ()) else options["kind"] or ()
        scopes = rotation.choose(store, options["scope"])
        pause = partial(time.sleep, options["grace"])
        restart = partial(_restart_server, store, url)
        acts: dict[str, Callable[[], Report]] = {
            "logins": partial(rotation.rotate_logins, store, logins, url, scopes),
            "signing": partial(rotation.rotate_signing_keys, store, logins, url, scopes, meanwhile=pause),
            "account": partial(rotation.rotate_operator, store, restart, whole=False),
            "operator": partial(rotation.rotate_operator, store, restart, whole=True),
        }
        for kind in KINDS:
            if kind in kinds:
                self._do(options, kind, acts[kind])
        if "signing" in kinds and rotation.handed_out(scopes):
            self.stdout.write("Agents outside must enrol again: their logins were signed by a key that is refused.")

    def _do(self, options: dict[str, Any], kind: str, act: Callable[[], Report]) -> None:
        """Enter the intention, do it, enter the result: an act that began is in the ledger even if it failed."""
        enter = partial(_enter, actor=options["actor"], kind=kind)
        enter(phase="begin", details={"scopes": sorted(options["scope"])})
        began = time.monotonic()
        try:
            report = act()
        except (CredentialsError, OSError, ValueError) as error:
            enter(phase="failed", details={"reason": str(error)[:500]})
            raise
        enter(phase="done", details={"scopes": report.scopes, "refused": report.refused})
        self.stdout.write(
            self.style.SUCCESS(
                f"{kind}: {len(report.refused)} refused, {len(report.written)} files written, "
                f"{time.monotonic() - began:.1f} s"
            )
        )


def _enter(*, actor: str, kind: str, phase: str, details: dict[str, Any]) -> None:
    action = "credentials.revoke" if kind == "revoke" else "credentials.rotate"
    with transaction.atomic():
        audit.record(actor=actor, action=action, object=f"nats/{kind}", details={"phase": phase, **details})


def _restart_server(store: KeyStore, url: str) -> None:
    """End the embedded server, which its supervisor starts again with a new configuration, and wait for it.

    Raises `CredentialsError` when there is none here: then whoever runs the server must restart it.
    """
    file = Path(settings.NATS_KEYS).parent / "nats" / "nats.pid"
    try:
        pid = int(file.read_text())
        os.kill(pid, signal.SIGTERM)
    except (OSError, ValueError) as error:
        raise CredentialsError(
            f"the keys are replaced, but no NATS of ours runs ({file}): start yours again with the operator's JWT "
            f"{store.path / 'accounts' / 'operator.jwt'} and the accounts' beside it"
        ) from error
    deadline = time.monotonic() + RESTART_S
    while not file.exists() or file.read_text().strip() in ("", str(pid)):
        if time.monotonic() > deadline:
            raise CredentialsError(f"NATS did not come back within {RESTART_S:.0f} s: see logs/nats.log")
        time.sleep(0.05)
    while True:
        try:
            return push(store, url)
        except CredentialsError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
