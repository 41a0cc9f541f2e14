"""What time does to escalations; a lost or doubled tick is harmless."""

import logging

from celery import shared_task

from subsidiaries.escalations import services

log = logging.getLogger(__name__)


@shared_task
def escalations_tick() -> None:
    """Resolve what has mended, raise what is overdue, let expire what nobody took up."""
    done = services.tick()
    if any((done.mended, done.raised, done.expired)):
        log.info("escalations: %s mended, %s raised, %s expired", done.mended, done.raised, done.expired)
