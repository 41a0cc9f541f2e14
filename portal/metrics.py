"""`/metrics`: the holding in figures for Prometheus, read from the database at each scrape."""

import re
from collections.abc import Iterator

from django.db.models import Count, Max, Sum
from django.utils import timezone
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from audit.models import UnsealedEntry
from bus.models import Counter, FailedDelivery, OutboxMessage, QuarantinedMessage, Suspect
from bus.receipts import open_gaps
from holding.models import Unit
from holding.scope import EVERYTHING, opened
from portal.figures import share, staffing
from subsidiaries.replacement.models import (
    DivisionState,
    FencedHost,
    Incident,
    Replacement,
    ServiceLevel,
    UnitFloor,
)

UNSAFE = re.compile(r"[^a-zA-Z0-9_]")
LEVELS = (
    ("detection_p95_seconds", "detect_p95", "From the first sign of a loss to the decision: 95 %."),
    ("restored_p50_seconds", "restore_p50", "From the first sign of a loss to the new agent live: the median."),
    (
        "restored_p95_seconds",
        "restore_p95",
        "From the first sign of a loss to the new agent live: 95 %.",
    ),
    ("restored_max_seconds", "restore_max", "From the first sign of a loss to the new agent live: the longest."),
    ("below_floor_seconds", "seconds_below", "Seconds below the floor within the span."),
    ("duplicates", "duplicates", "Seats with two live agents, as hosts with valid leases told; must be 0."),
    ("brakes", "brakes", "Brakes applied to replacement within the span."),
    ("short_lived", "short_lived", "Replacements whose agent did not last."),
    ("cost_eur", "cost", "Replacements times their unit cost; 0 while no unit cost is set."),
)


class HoldingCollector(Collector):
    """Reads what `/metrics` shows (a dozen queries or so, whatever the number of agents)."""

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        with opened(EVERYTHING):  # whoever scrapes is nobody, and is told of all
            yield from _staffing()
            yield from _replacements()
            yield from _levels()
            yield from _bus()

    def describe(self) -> Iterator[Metric]:
        """Yield nothing: registering must not read the database."""
        return iter(())


def render() -> bytes:
    """Return the metrics as Prometheus text. Raises DatabaseError."""
    registry = CollectorRegistry()
    registry.register(HoldingCollector())
    return generate_latest(registry)


def _gauge(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"claytom_{name}", help_text, value=value)


def _staffing() -> Iterator[Metric]:
    now = timezone.now()
    staffed = staffing(now=now)
    live = GaugeMetricFamily("claytom_agents_live", "Live agents heard of lately.", labels=["unit"])
    floors = GaugeMetricFamily("claytom_floor", "Floor of the unit.", labels=["unit"])
    short = 0
    for pk, slug, floor in Unit.objects.order_by("position").values_list("id", "slug", "floor"):
        count = staffed[pk].live
        live.add_metric([slug], count)
        floors.add_metric([slug], floor)
        short += count < floor or staffed[pk].quota_missed
    yield live
    yield floors
    seats = sum(unit.seats for unit in staffed.values())
    yield _gauge("seats", "Seats of the holding.", seats)
    yield _gauge("units_below_floor", "Units below their floor or a quota.", short)
    heard = sum(unit.heard for unit in staffed.values())
    yield _gauge("coverage_ratio", "Share of seats whose division was heard of lately.", share(heard, seats) or 0.0)
    below = CounterMetricFamily("claytom_seconds_below_floor", "Seconds below the floor.", labels=["unit"])
    for slug, seconds in UnitFloor.objects.order_by("unit__position").values_list("unit__slug", "seconds_below"):
        below.add_metric([slug], seconds)
    yield below
    last = DivisionState.objects.aggregate(last=Max("seen_at"))["last"]
    age = (now - last).total_seconds() if last else float("inf")
    yield _gauge("presence_age_seconds", "Time since any division was heard of.", age)


def _replacements() -> Iterator[Metric]:
    total = CounterMetricFamily("claytom_replacements", "Replacements decided by ARP.", labels=["reason"])
    counts = dict(Replacement.objects.order_by().values_list("reason").annotate(Count("pk")))
    for reason in Replacement.Reason.values:
        total.add_metric([reason], counts.get(reason, 0))
    yield total
    waiting = Replacement.objects.filter(live_at=None).count()
    yield _gauge("replacements_waiting", "Replacements whose agent is not live yet.", waiting)
    incidents = GaugeMetricFamily("claytom_incidents_open", "Open incidents.", labels=["kind"])
    opened = dict(Incident.objects.filter(closed_at=None).order_by().values_list("kind").annotate(Count("pk")))
    for kind in Incident.Kind.values:
        incidents.add_metric([kind], opened.get(kind, 0))
    yield incidents


def _levels() -> Iterator[Metric]:
    """The service levels, as last computed; of the holding with an empty label `unit`."""
    rows = list(ServiceLevel.objects.select_related("unit").order_by("unit__position", "span"))
    for name, column, help_text in LEVELS:
        family = GaugeMetricFamily(f"claytom_arp_{name}", help_text, labels=["unit", "span"])
        for row in rows:
            value = getattr(row, column)
            if value is not None:
                family.add_metric([row.unit.slug if row.unit else "", row.span], float(value))
        yield family
    newest = max((row.as_of for row in rows), default=None)
    age = (timezone.now() - newest).total_seconds() if newest else float("inf")
    yield _gauge("arp_levels_age_seconds", "Time since service levels were last computed.", age)


def _bus() -> Iterator[Metric]:
    gaps = [gap for received in open_gaps() for gap in received.gaps]
    yield _gauge("gaps_open", "Gaps in the numbers that senders gave their messages.", len(gaps))
    missing = sum(last - first + 1 for first, last in gaps)
    yield _gauge("gaps_missing_messages", "Messages missing in these gaps.", missing)
    yield _gauge("fenced_hosts", "Hosts that were seen acting without a lease.", FencedHost.objects.count())
    unsent = OutboxMessage.objects.filter(sent_at=None).count()
    yield _gauge("outbox_unsent", "Messages of the outbox that are not sent yet.", unsent)
    yield _gauge("ledger_unsealed", "Ledger entries not yet in the Merkle log.", UnsealedEntry.objects.count())
    held = QuarantinedMessage.objects.filter(state=QuarantinedMessage.State.HELD).count()
    yield _gauge("quarantine_held", "Refused messages that wait for somebody to decide.", held)
    yield _gauge("suspects_open", "Suspect sources.", Suspect.objects.filter(closed_at=None).count())
    given_up = FailedDelivery.objects.filter(state__in=("found", "kept")).count()
    yield _gauge("failed_deliveries_open", "Messages given up by consumers that are not dealt with yet.", given_up)
    rows = Counter.objects.order_by("name").values_list("name", "labels").annotate(total=Sum("value"))
    families: dict[str, list[tuple[dict[str, str], int]]] = {}
    for name, labels, total in rows:
        families.setdefault(name, []).append((labels, total))
    for name, samples in families.items():
        keys = sorted({key for labels, _total in samples for key in labels})
        family = CounterMetricFamily(
            f"claytom_{UNSAFE.sub('_', name)}", f"Counter {name}.", labels=[UNSAFE.sub("_", key) for key in keys]
        )
        for labels, total in samples:
            family.add_metric([str(labels.get(key, "")) for key in keys], total)
        yield family
