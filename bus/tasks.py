"""Periodic upkeep of the bus."""

from datetime import timedelta

from celery import shared_task
from django.utils import timezone

from bus import mailbox, quarantine, services, suspects


@shared_task
def retain() -> None:
    """Forget messages sent over a day ago and ids handled over four days ago (CT_EVENTS keeps three).

    Directed messages stay for 30 days after they were settled.
    """
    mailbox.retain(settled_for=timedelta(days=30))
    services.retain(sent_for=timedelta(days=1), handled_for=timedelta(days=4))
    quarantine.expire(now=timezone.now())


@shared_task
def settle_suspects() -> None:
    """End the marks of sources of which nothing was refused for ten minutes."""
    suspects.close_calm(now=timezone.now())
