"""`manage.py ingest`: the process that takes the high-volume streams into the database."""

import asyncio
import logging
import signal
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils.module_loading import autodiscover_modules

from bus import counters, feeds, leases, pull

if sys.platform != "win32":
    import uvloop

    run_loop = uvloop.run
else:
    run_loop = asyncio.run

log = logging.getLogger("bus.ingest")


class Command(BaseCommand):
    help = "Pull the registered feeds from JetStream into the database until SIGTERM or SIGINT."
    requires_system_checks = ()
    requires_migrations_checks = False

    def handle(self, **_options: Any) -> None:
        if not settings.NATS_URL:
            raise CommandError("NATS_URL is not set: the ingest has no server to pull from.")
        autodiscover_modules("handlers")
        registered = feeds.registered()
        if not registered:
            raise CommandError("No installed application registers a feed (bus.feeds.register).")
        log.info("Pulling %s.", ", ".join(feed.consumer for feed in registered))
        pull.spare_the_collector()
        with counters.counting():
            run_loop(_run())
        log.info("Stopped.")


async def _run() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as group:
        group.create_task(leases.BOOK.serve(settings.NATS_URL, stop))
        group.create_task(_pull(stop))


async def _pull(stop: asyncio.Event) -> None:
    try:
        await pull.run(feeds.registered(), settings.NATS_URL, stop)
    finally:
        stop.set()
