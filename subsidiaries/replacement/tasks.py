"""ARP by Celery beat: a tick every ten seconds. A lost or doubled tick is harmless."""

import logging

from celery import shared_task

from holding.models import Unit
from subsidiaries.replacement import cycle, levels

log = logging.getLogger(__name__)
BEAT_S = 10
NEXT_BATCH_S = 2


@shared_task
def arp_tick() -> None:
    """Ask for one cycle of every unit."""
    for slug in Unit.objects.order_by("position").values_list("slug", flat=True):
        arp_ensure.apply_async(args=[slug], expires=BEAT_S)


@shared_task
def arp_ensure(unit: str) -> None:
    """Run one ARP cycle of a unit."""
    turn = cycle.run(unit=unit)
    found, kept = turn.cycle, turn.kept
    if found.replaced and found.slow:  # the batch has made room for a larger one as soon as it is live
        arp_ensure.apply_async(args=[unit], countdown=NEXT_BATCH_S, expires=BEAT_S)
    if found.replaced or found.deferred:
        log.info("%s: %s replaced, %s wait, %s live", unit, found.replaced, found.deferred, found.live)
    if kept.opened or kept.closed or turn.retired:
        log.info("%s: %s opened, %s closed, %s retired", unit, len(kept.opened), len(kept.closed), turn.retired)


@shared_task
def levels_tick() -> None:
    """Compute the service levels that have become too old."""
    levels.refresh()
