"""Presence reports and staffed holdings for tests."""

from datetime import UTC, datetime, timedelta

from django.utils import timezone

from bus import leases
from claytom_agent.messages import Presence, State
from holding import services as holding
from holding.models import Seat, Suspension, Unit
from holding.tests.factories import make_holding
from subsidiaries.replacement import observing
from subsidiaries.replacement.models import DivisionState, Monitor

HOST = "host-a"


def make_staffed_holding() -> None:
    """Load the small holding with its state rows, watched for long enough to tell silence."""
    make_holding()
    observing.ensure_states()
    now = timezone.now()
    Monitor.objects.create(since=now - timedelta(minutes=10), last_at=now)


def leave_vacant(*codes: str, unit: str = "pricing") -> None:
    """Let seats stay without a holder, as an order does."""
    retired = Suspension.Desired.RETIRED
    for order, seat in enumerate(Seat.objects.filter(unit__slug=unit, code__in=codes), 1):
        where = [seat.division_id]
        holding.suspend(
            division_ids=where, seat_id=seat.pk, desired=retired, order=order, actor="test", reason="no work"
        )
        gone = holding.vacate(division_ids=where, actor="test", reason="no work", at=timezone.now())
        observing.note_vacated(seat_ids=gone)


def make_report(
    division: str,
    *,
    epoch: int = 5,
    full: bool = True,
    states: dict[str, State] | None = None,
    without: tuple[str, ...] = (),
    only: tuple[str, ...] | None = None,
    host: str = HOST,
    ts: datetime | None = None,
    observed_generation: int = 1,
) -> Presence:
    """Return a presence report of a division: every agent idle, but for `states`; `without` are left out."""
    states = states or {}
    open_ones = Seat.objects.open().filter(division__key=division)
    seats = open_ones.values_list("code", "generation").order_by("ordinal")
    agents = [
        (f"{code}-g{generation}", states.get(code, "idle"), 0, 10)
        for code, generation in seats
        if code not in without and (only is None or code in only)
    ]
    return Presence(
        ts=ts or datetime.now(UTC),
        subsidiary=division.split(".", maxsplit=1)[0],
        host=host,
        division=division,
        epoch=epoch,
        observed_generation=observed_generation,
        total=len(seats),
        counts={},
        full=full,
        agents=agents,
    )


def give_lease(division: str, epoch: int, host: str = HOST, *, ago: timedelta = timedelta(seconds=1)) -> None:
    """Let a host have been given the lease of a division, so long ago."""
    leases.note(leases=[leases.Lease(division, epoch, host, timezone.now() - ago)])


def bring_to_life(*units: str, epoch: int = 5) -> None:
    """Let a full report of every division of the units (all without any) arrive."""
    divisions = DivisionState.objects.values_list("division__key", flat=True)
    if units:
        divisions = divisions.filter(division__unit__slug__in=units)
    for key in divisions:
        give_lease(key, epoch)
    observing.observe(reports=[make_report(key, epoch=epoch) for key in divisions], roster=observing.Roster())


def report(division: str, **changes: object) -> observing.Observed:
    """Let one report of a division arrive, of a host that was given the lease of that epoch."""
    made = make_report(division, **changes)  # type: ignore[arg-type]  # passed on as given
    give_lease(division, made.epoch, made.host)
    return observing.observe(reports=[made], roster=observing.Roster())


def silence(*divisions: str, seconds: int = 120) -> None:
    """Let divisions have been silent for so long."""
    DivisionState.objects.filter(division__key__in=divisions).update(
        seen_at=timezone.now() - timedelta(seconds=seconds)
    )


def unit_id(slug: str) -> int:
    """Return a unit's id."""
    return Unit.objects.values_list("id", flat=True).get(slug=slug)
