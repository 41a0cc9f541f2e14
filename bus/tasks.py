"""Periodic upkeep of the bus."""

from datetime import timedelta

from celery import shared_task
from django.db import transaction
from django.utils import timezone

from bus import leases, receipts, services

LEASES_KEPT = timedelta(days=30)


@shared_task
def retain() -> None:
    """Forget messages sent over a day ago and ids handled over four days ago (CT_EVENTS keeps three);
    watermarks and leases of former epochs after 25 hours and 30 days."""
    services.retain(sent_for=timedelta(days=1), handled_for=timedelta(days=4))
    with transaction.atomic():
        receipts.forget()
        leases.forget(before=timezone.now() - LEASES_KEPT)
