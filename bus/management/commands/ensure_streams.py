"""`manage.py ensure_streams`: streams and consumers as declared in `bus.streams`."""

import asyncio
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from bus.ensure import ensure_streams
from bus.units import subsidiaries
from claytom_agent.client import Bus


class Command(BaseCommand):
    """Idempotent; refuses a server that drops settings silently, and a change that would lose messages."""

    help = "Create or update the JetStream streams and consumers, and compare them with what the server returns."

    def handle(self, *args: Any, **options: Any) -> None:
        units = subsidiaries()
        try:
            done = asyncio.run(self._ensure(units))
        except (RuntimeError, OSError) as error:
            raise CommandError(str(error)) from error
        for line in done:
            self.stdout.write(line)
        self.stdout.write(self.style.SUCCESS("The streams are as declared."))
        if not units:
            self.stdout.write("No holding is loaded: there are no queues of work yet.")

    async def _ensure(self, units: Sequence[str]) -> list[str]:
        bus = await Bus.connect(settings.NATS_URL, name="portal:ensure", inbox_prefix="_INBOX_portal", timeout_s=10)
        try:
            return await ensure_streams(bus, units)
        finally:
            await bus.close()
