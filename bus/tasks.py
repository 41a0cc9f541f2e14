"""Periodic upkeep of the bus."""

from datetime import timedelta

from celery import shared_task

from bus import mailbox, services


@shared_task
def retain() -> None:
    """Forget messages sent over a day ago and ids handled over four days ago (CT_EVENTS keeps three).

    Directed messages stay for 30 days after they were settled.
    """
    mailbox.retain(settled_for=timedelta(days=30))
    services.retain(sent_for=timedelta(days=1), handled_for=timedelta(days=4))
