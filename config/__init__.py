"""Composition root: settings, URLs, the one API router, Celery, WSGI and ASGI. Imported by no other package."""

from config import checks
from config.celery import app as celery_app

__all__ = ["celery_app"]

checks.register()
