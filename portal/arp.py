"""ARP as people see it: its service levels, what it does not mend alone, who waits, and one case in its time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import QuerySet
from django.http import Http404
from django.utils.translation import gettext as _

from audit.models import LedgerEntry
from holding import scope
from subsidiaries.replacement import levels
from subsidiaries.replacement.brakes import LEVELS
from subsidiaries.replacement.models import Incident, IncidentStep, Replacement, SeatBackoff, ServiceLevel
from subsidiaries.replacement.responses import RELEASE, RESPOND

SHOWN = 20
OPEN, OVER, ALL = "open", "over", "all"
Span = ServiceLevel.Span


@dataclass(frozen=True, slots=True)
class Summary:
    """The head of the ARP page."""

    level: ServiceLevel | None
    """Of the unit chosen, or of the holding; None if nothing was computed, or the holding is not in view whole."""
    units: list[ServiceLevel]
    """Of the units in view in which something happened."""
    incidents: list[Incident]
    backoffs: list[SeatBackoff]

    @property
    def brakes(self) -> list[Incident]:
        """The incidents that hold replacement back now."""
        return [incident for incident in self.incidents if incident.brakes]


def summary(*, unit: str, span: ServiceLevel.Span, now: datetime) -> Summary:
    """Read the head of the page, of one unit (its slug) or of all in view (three queries)."""
    whole, rows = levels.read(span)
    if unit:
        rows = [row for row in rows if row.unit and row.unit.slug == unit]
        whole = rows[0] if rows else None
    incidents = Incident.objects.filter(closed_at=None).select_related("unit").order_by("-pk")
    backoffs = SeatBackoff.objects.filter(not_before__gt=now).select_related("unit", "seat__unit", "seat__body")
    if unit:
        incidents, backoffs = incidents.filter(unit__slug=unit), backoffs.filter(unit__slug=unit)
    return Summary(
        level=whole,
        units=[] if unit else [row for row in rows if row.replaced or row.brakes or row.seconds_below],
        incidents=list(incidents[:SHOWN]),
        backoffs=list(backoffs.order_by("-not_before", "seat_id")[:SHOWN]),
    )


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a case's timeline. `at` is None for what has not happened."""

    kind: str
    text: str
    at: datetime | None
    who: str = ""
    after: datetime | None = None
    """The point before, from which the time is counted."""


@dataclass(frozen=True, slots=True)
class CaseFile:
    """A replacement with all that is known of it."""

    row: Replacement
    points: list[Point]
    before: Replacement | None
    """The replacement that had put the old agent in place."""
    after: Replacement | None
    backoff: SeatBackoff | None
    ledger: list[LedgerEntry] | None
    """What the ledger says of the decision; None to whoever may not read it."""


def case_file(pk: int) -> CaseFile:
    """Return a replacement of the units in view with its timeline. Raises Http404."""
    rows = Replacement.objects.select_related(
        "unit", "seat__unit", "seat__body", "seat__division", "old_agent", "new_agent__blueprint__blueprint"
    )
    row = rows.filter(pk=pk).first()
    if row is None:
        raise Http404(_("There is no replacement %(id)s.") % {"id": pk})
    beside = Replacement.objects.filter(seat=row.seat_id)
    return CaseFile(
        row=row,
        points=_points(row),
        before=beside.filter(generation__lt=row.generation).order_by("-generation").first(),
        after=beside.filter(generation__gt=row.generation).order_by("generation").first(),
        backoff=SeatBackoff.objects.filter(pk=row.seat_id).first(),
        ledger=_ledger_of(row),
    )


def _points(row: Replacement) -> list[Point]:
    points = [
        Point("warn", _("Detected: %(reason)s") % {"reason": row.get_reason_display()}, row.detected_at,
              _told_by(row.host, row.epoch)),
        Point("info", _("Decided, recorded and sent to the hosts"), row.decided_at, row.decider, row.detected_at),
        Point("info", _("Taken up by the host: the new agent is being started"), row.told_at, row.live_host,
              row.decided_at),
        Point("ok", _("Live: its host reports it"), row.live_at, _told_by(row.live_host, row.live_epoch),
              row.decided_at),
    ]  # fmt: skip
    if row.told_at is None and row.live_at is not None:
        del points[2]  # the host had told of the agent before it said which manifest it has
    if row.failed_at is not None:
        points.append(Point("crit", _("Did not last: replaced again"), row.failed_at, "", row.live_at))
    return points


def _told_by(host: str, epoch: int | None) -> str:
    return _("host %(host)s, epoch %(epoch)s") % {"host": host, "epoch": epoch} if host else ""


def _ledger_of(row: Replacement) -> list[LedgerEntry] | None:
    if not scope.current().has("ledger.view"):
        return None
    entries = LedgerEntry.objects.filter(object=f"seat/{row.seat}", action="seat.appoint", at__gte=row.detected_at)
    return list(entries.order_by("id").defer("body")[:1])


# --- incidents ---------------------------------------------------------------------------------------------


def incidents(*, unit: str, kind: str, state: str) -> QuerySet[Incident]:
    """Return the incidents of the units in view that are wanted; empty words mean all."""
    found = Incident.objects.select_related("unit")
    if unit:
        found = found.filter(unit__slug=unit)
    if kind:
        found = found.filter(kind=kind)
    return found if state == ALL else found.filter(closed_at__isnull=state == OPEN)


@dataclass(frozen=True, slots=True)
class Dossier:
    """All that the page of an incident shows."""

    row: Incident
    steps: Sequence[IncidentStep]
    is_brake: bool
    may_respond: bool
    may_release: bool


def dossier(pk: int) -> Dossier:
    """Return an incident of the units in view with what happened to it. Raises Http404."""
    row = Incident.objects.select_related("unit").filter(pk=pk).first()
    if row is None:
        raise Http404(_("There is no incident %(id)s.") % {"id": pk})
    seen = scope.current()
    return Dossier(
        row=row,
        steps=list(row.steps.select_related("incident")),
        is_brake=row.kind in LEVELS,
        may_respond=seen.allows(RESPOND, row.unit_id),
        may_release=row.brakes and seen.allows(RELEASE, row.unit_id),
    )
