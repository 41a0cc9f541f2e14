"""Periodic upkeep of access."""

from celery import shared_task

from iam.access import emergencies


@shared_task
def settle_emergencies() -> None:
    """Note emergency access that time has refused or ended."""
    emergencies.settle_emergencies()
