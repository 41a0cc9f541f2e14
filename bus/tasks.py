"""Periodic upkeep of the bus."""

from datetime import timedelta

from celery import shared_task
from django.db import transaction
from django.utils import timezone

from bus import leases, mailbox, quarantine, receipts, services, suspects

LEASES_KEPT = timedelta(days=30)


@shared_task
def retain() -> None:
    """Forget messages sent over a day ago and ids handled over four days ago (CT_EVENTS keeps three).

    Directed messages stay for 30 days after they were settled, leases of former epochs as long, their watermarks
    for 25 hours, refused messages for 90 days.
    """
    mailbox.retain(settled_for=timedelta(days=30))
    services.retain(sent_for=timedelta(days=1), handled_for=timedelta(days=4))
    quarantine.expire(now=timezone.now())
    with transaction.atomic():
        receipts.forget()
        leases.forget(before=timezone.now() - LEASES_KEPT)


@shared_task
def settle_suspects() -> None:
    """End the marks of sources of which nothing was refused for ten minutes."""
    suspects.close_calm(now=timezone.now())
