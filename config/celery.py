"""The Celery application. Beat only emits ticks; the truth about what is due is in PostgreSQL."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
os.environ.setdefault("SCOPE", "everything")

app = Celery("claytom")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
