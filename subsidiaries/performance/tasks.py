"""Periodic upkeep of PMON."""

from celery import shared_task

from subsidiaries.performance import services


@shared_task
def maintain_partitions() -> None:
    """Make partitions ahead and drop expired ones."""
    services.maintain_partitions()
