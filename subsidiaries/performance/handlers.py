"""KPI samples from JetStream."""

from collections.abc import Sequence

from bus.feeds import Feed, Raw, register
from subsidiaries.performance import services

rhythm = services.Rhythm()


def record(raws: Sequence[Raw]) -> None:
    """Store a batch of samples."""
    services.record_samples(raws=raws)


def start() -> None:
    """Make partitions before the first sample, and last values whole after a kill."""
    services.maintain_partitions()
    services.rebuild_latest()


FEED = Feed(stream="CT_KPI", consumer="portal-kpi", handle=record, batch=10_000, start=start, tick=rhythm.tick)
register(FEED)
