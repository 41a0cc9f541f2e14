"""ASGI entry point of the process `live` (server-sent events): `/live/` and `/healthz`, nothing else."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from portal.live import LiveApplication  # noqa: E402 - after Django knows its settings

application = LiveApplication()
