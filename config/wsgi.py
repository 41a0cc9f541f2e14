"""WSGI entry point of the `web` process (pages, API, admin)."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
os.environ["SCOPE"] = "nothing"  # whoever asks is let in by the gate, request by request

application = get_wsgi_application()
