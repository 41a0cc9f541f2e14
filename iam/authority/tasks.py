"""Approvals by Celery beat: a tick every ten seconds. A lost or doubled tick is harmless."""

import logging

from celery import shared_task

from iam.authority import services

log = logging.getLogger(__name__)


@shared_task
def authority_tick() -> None:
    """Expire, execute, escalate and remind what is due."""
    done = services.tick()
    if done.expired or done.executed or done.escalated:
        log.info("%s expired, %s executed, %s escalated", done.expired, done.executed, done.escalated)
