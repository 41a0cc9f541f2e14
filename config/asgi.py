"""ASGI entry point of the process `live` (server-sent events): `/live/` and `/healthz`, nothing else."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
os.environ["SCOPE"] = "nothing"  # whoever asks is let in by the gate, request by request
django.setup()

from portal.live import LiveApplication  # noqa: E402 - after Django knows its settings

application = LiveApplication()
