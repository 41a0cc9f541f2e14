"""Factories of a holding at work, as the pages show it."""

import random
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from audit.services import seal
from holding.models import Role, Seat, Unit
from holding.services import appoint
from holding.tests.factories import SMALL, make_holding
from subsidiaries.performance.models import KPIS, KpiLatest, KpiMinute
from subsidiaries.replacement.models import Census, DivisionState, Incident, Replacement, SeatState
from subsidiaries.replacement.observing import ensure_states

LEVELS = (42.0, 88.0, 96.0, 1.4, 6.0)  # of the five KPIs


def make_live_holding(*, agents: int = SMALL) -> datetime:
    """Load the holding with every agent idle and heard of now; return now."""
    make_holding(agents=agents)
    ensure_states()
    seal(limit=1_000_000)
    now = timezone.now()
    SeatState.objects.update(state="idle", since=now, done=7)
    Census.objects.update(live=F("seats"))
    hear(now)
    return now


def hear(now: datetime | None = None) -> None:
    """Let every division be heard of now."""
    now = now or timezone.now()
    DivisionState.objects.update(host="host-1", epoch=4711, seen_at=now, full_at=now, reported_at=now)


def make_kpis(*, minutes: int = 60, seed: int = 7) -> None:
    """Write minute sums of every unit and role up to now, each unit with a level of its own."""
    source = random.Random(seed)
    now = timezone.now().replace(second=0, microsecond=0)
    roles = list(Role.objects.values_list("slug", "count"))
    rows = []
    for unit in Unit.objects.subsidiaries():
        bias = [source.gauss(1, 0.05) for _ in KPIS]
        for minute in range(minutes):
            for role, count in roles:
                wave = [level * part * source.uniform(0.98, 1.02) for level, part in zip(LEVELS, bias, strict=True)]
                sums = {f"sum_{kpi}": value * count for kpi, value in zip(KPIS, wave, strict=True)}
                rows.append(
                    KpiMinute(minute=now - timedelta(minutes=minute), unit=unit, role=role, n=count, **sums)
                )
    KpiMinute.objects.bulk_create(rows, batch_size=5000)


def make_claim(seat: Seat) -> KpiLatest:
    """Write the last claim of a seat."""
    return KpiLatest.objects.create(
        id=KpiLatest.key(seat.unit_id, seat.ordinal),
        unit_id=seat.unit_id,
        ordinal=seat.ordinal,
        role=seat.role.slug if seat.role else "",
        generation=seat.generation,
        ts=timezone.now(),
        **dict(zip(KPIS, LEVELS, strict=True)),
    )


@transaction.atomic
def make_replacements(
    unit: str = "pricing", *, count: int = 1, live: bool = True, at: datetime | None = None
) -> list[Replacement]:
    """Replace the first operators of a unit, as ARP does."""
    decided = at or timezone.now()
    seats = Seat.objects.filter(unit__slug=unit, role__slug="operator").order_by("ordinal")[:count]
    done = appoint(seats=[(seat.pk, seat.generation) for seat in seats], actor="arp", reason="arp: failed")
    return [
        Replacement.objects.create(
            unit_id=item.seat.unit_id,
            seat=item.seat,
            generation=item.new.generation,
            old_agent=item.replaced,
            new_agent=item.new,
            reason=Replacement.Reason.FAILED,
            detected_at=decided - timedelta(seconds=2),
            decided_at=decided,
            live_at=decided + timedelta(seconds=3) if live else None,
        )
        for item in done
    ]


def make_shortage(unit: str = "pricing", *, missing: int = 3) -> Incident:
    """Take live operators from a unit, and open the incident that tells of it."""
    cell = Census.objects.filter(unit__slug=unit, role="operator").order_by("division").first()
    assert cell is not None
    states = SeatState.objects.filter(division_id=cell.division_id, seat__role__slug="operator")
    ids = list(states.order_by("seat__ordinal").values_list("pk", flat=True)[:missing])
    SeatState.objects.filter(pk__in=ids).update(state="failed")
    Census.objects.filter(pk=cell.pk).update(live=cell.live - min(missing, cell.live))
    return Incident.objects.create(
        unit_id=cell.unit_id, kind=Incident.Kind.BELOW_FLOOR, opened_at=timezone.now(), deficit=missing
    )
