"""Periodic upkeep of the bus."""

from datetime import timedelta

from celery import shared_task

from bus import services


@shared_task
def retain() -> None:
    """Forget messages sent over a day ago and ids handled over four days ago (CT_EVENTS keeps three)."""
    services.retain(sent_for=timedelta(days=1), handled_for=timedelta(days=4))
