"""`manage.py bus`: the process between the portal's transactions and NATS."""

import asyncio
import signal
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils.module_loading import autodiscover_modules

from bus import counters, process


class Command(BaseCommand):
    """Runs until SIGTERM or SIGINT."""

    help = "Relay the outbox, deliver events to handlers, answer requests, seal the ledger."
    requires_system_checks = ()
    requires_migrations_checks = False

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.NATS_URL:
            raise CommandError("NATS_URL is not set: the bus has no server to speak to.")
        autodiscover_modules("handlers")
        with counters.counting():
            asyncio.run(self._run())

    async def _run(self) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await process.run(nats_url=settings.NATS_URL, system_url=settings.NATS_SYS_URL, stop=stop)
