"""ARP by Celery beat: a tick every ten seconds. A lost or doubled tick is harmless."""

import logging

from celery import shared_task

from holding.models import Unit
from subsidiaries.replacement import services

log = logging.getLogger(__name__)


@shared_task
def arp_tick() -> None:
    """Ask for one cycle of every unit."""
    for slug in Unit.objects.order_by("position").values_list("slug", flat=True):
        arp_ensure.apply_async(args=[slug], expires=10)


@shared_task
def arp_ensure(unit: str) -> None:
    """Run one ARP cycle of a unit."""
    cycle = services.ensure(unit=unit)
    if cycle.replaced or cycle.deferred:
        log.info("%s: %s replaced, %s wait, %s live", unit, cycle.replaced, cycle.deferred, cycle.live)
