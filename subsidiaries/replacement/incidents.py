"""Incidents: what ARP does not mend alone, and the floor as a service level.

Everything here runs in the caller's transaction, within a cycle of the unit.
"""

from collections.abc import Iterable
from datetime import datetime

from django.db.models import Value
from django.db.models.functions import Greatest
from django.utils import timezone

from audit import services as audit
from bus import services as bus
from holding.models import Unit
from subsidiaries.replacement.models import FloorBreach, Incident, UnitFloor

ACTOR = "portal/arp"
ESCALATED = {
    Incident.Kind.MASS_SILENCE,
    Incident.Kind.CAPACITY,
    Incident.Kind.CAP,
    Incident.Kind.CRASH_LOOP,
    Incident.Kind.DUPLICATE,
}


class OpenIncidents:
    """The open incidents of a unit: read once, under the unit's lock, and kept in step with what is written.

    A cycle asks for most kinds and nearly always finds none.
    """

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        rows = Incident.objects.select_for_update().filter(unit=unit, closed_at=None)
        self._by_kind = {row.kind: row for row in rows.order_by("pk")}

    def any_of(self, kinds: Iterable[str]) -> Incident | None:
        """Return the latest open one of those kinds."""
        found = [row for kind in kinds if (row := self._by_kind.get(kind)) is not None]
        return max(found, key=lambda row: row.pk, default=None)

    def open(self, kind: Incident.Kind, *, detail: str, deficit: int) -> Incident:
        """Open the incident of that kind, or note a larger deficit on the one that is open."""
        incident = self._by_kind.get(kind)
        if incident is None:
            return self._begin(kind, detail[:200], deficit)
        if deficit > incident.deficit:
            incident.deficit = deficit
            incident.save(update_fields=["deficit"])
        return incident

    def _begin(self, kind: Incident.Kind, detail: str, deficit: int) -> Incident:
        incident = Incident.objects.create(
            unit=self.unit, kind=kind, opened_at=timezone.now(), deficit=deficit, detail=detail
        )
        self._by_kind[kind] = incident
        audit.record(
            actor=ACTOR,
            action="incident.open",
            object=f"unit/{self.unit.slug}",
            after={"incident": incident.pk, "kind": kind.value, "deficit": deficit},
            details={"kind": kind.value, "deficit": deficit, "detail": detail},
        )
        escalate(self.unit, incident)
        return incident

    def rename(self, incident: Incident, kind: Incident.Kind) -> None:
        """Know the incident under another kind from now on; the caller writes it."""
        del self._by_kind[incident.kind]
        incident.kind = kind
        self._by_kind[kind] = incident

    def close(self, *kinds: str) -> int:
        """Close the open ones of those kinds; return how many."""
        over = [row for kind in kinds if (row := self._by_kind.pop(kind, None)) is not None]
        for incident in over:
            self._end(incident)
        return len(over)

    def _end(self, incident: Incident) -> None:
        incident.closed_at = max(timezone.now(), incident.opened_at)  # the clock may have been set back
        incident.save(update_fields=["closed_at"])
        audit.record(
            actor=ACTOR,
            action="incident.close",
            object=f"unit/{self.unit.slug}",
            before={"incident": incident.pk, "kind": incident.kind},
            details={"kind": incident.kind, "deficit": incident.deficit},
        )
        if incident.kind in ESCALATED:
            bus.publish(
                subject=f"org.claytom.corporate.escalation.{self.unit.slug}",
                type="org.claytom.escalation.resolve.v1",
                source=ACTOR,
                body={"id": f"incident-{incident.pk}", "decision": "the incident is over", "actor": ACTOR},
                dedup=f"esc-incident-{incident.pk}-resolved",
            )


def escalate(unit: Unit, incident: Incident) -> None:
    """Tell the holding of an incident of a kind that needs somebody."""
    if incident.kind not in ESCALATED:
        return
    bus.publish(
        subject=f"org.claytom.corporate.escalation.{unit.slug}",
        type="org.claytom.escalation.raise.v1",
        source=ACTOR,
        body={
            "ts": incident.opened_at.isoformat(timespec="milliseconds"),
            "id": f"incident-{incident.pk}",
            "level": "L4",
            "severity": "critical",
            "summary": f"{incident.kind}: {incident.detail}"[:500],
            "needs": "a person, or agents that are heard of again",
            "matter": "staffing",
        },
        dedup=f"esc-incident-{incident.pk}",
    )


def note_external(known: OpenIncidents, silent: int) -> None:
    """Open or close the unit's incident about silent external agents: ARP does not replace what is not its own."""
    if not silent:
        known.close(Incident.Kind.EXTERNAL)
        return
    detail = f"{silent} external agents are silent; their owners must start them, or withdraw them"
    known.open(Incident.Kind.EXTERNAL, detail=detail, deficit=silent)


def note_floor(known: OpenIncidents, live: int, now: datetime, *, settled: bool, explained: int = 0) -> None:
    """Keep the service level of the floor. A unit that was never full is being staffed, not below its floor.

    `explained` agents are missing for a reason that is being dealt with, or has an incident of its own: their
    seconds count, but no second incident is opened for them.
    """
    unit = known.unit
    floor = UnitFloor.objects.select_for_update().get(unit=unit)
    if live >= unit.floor:
        if floor.below_since:
            ended = max(now, floor.below_since)
            floor.seconds_below += (ended - floor.below_since).total_seconds()
            floor.below_since = None
            FloorBreach.objects.filter(unit=unit, ended_at=None).update(ended_at=Greatest("began_at", Value(ended)))
            known.close(Incident.Kind.BELOW_FLOOR)
            floor.save()
        if floor.reached_at is None:
            floor.reached_at = now
            floor.save()
        return
    if floor.reached_at is None or not settled:
        return
    if floor.below_since is None:
        floor.below_since = now
        floor.save()
    FloorBreach.objects.get_or_create(unit=unit, ended_at=None, defaults={"began_at": floor.below_since})
    deficit = unit.floor - live
    if deficit > explained:
        known.open(Incident.Kind.BELOW_FLOOR, detail=f"{deficit} agents missing", deficit=deficit)
