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


def open_incident(*, unit: Unit, kind: Incident.Kind, detail: str, deficit: int) -> Incident:
    """Open the unit's incident of that kind, or note a larger deficit on the one that is open."""
    incident = Incident.objects.select_for_update().filter(unit=unit, kind=kind, closed_at=None).first()
    if incident is not None:
        if deficit > incident.deficit:
            incident.deficit = deficit
            incident.save(update_fields=["deficit"])
        return incident
    incident = Incident.objects.create(
        unit=unit, kind=kind, opened_at=timezone.now(), deficit=deficit, detail=detail[:200]
    )
    audit.record(
        actor=ACTOR,
        action="incident.open",
        object=f"unit/{unit.slug}",
        after={"incident": incident.pk, "kind": kind.value, "deficit": deficit},
        details={"kind": kind.value, "deficit": deficit, "detail": detail[:200]},
    )
    escalate(unit, incident)
    return incident


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


def close_incidents(*, unit: Unit, kinds: Iterable[Incident.Kind]) -> int:
    """Close the unit's open incidents of those kinds; return how many."""
    closed = 0
    for incident in Incident.objects.select_for_update().filter(unit=unit, kind__in=list(kinds), closed_at=None):
        incident.closed_at = max(timezone.now(), incident.opened_at)  # the clock may have been set back
        incident.save(update_fields=["closed_at"])
        audit.record(
            actor=ACTOR,
            action="incident.close",
            object=f"unit/{unit.slug}",
            before={"incident": incident.pk, "kind": incident.kind},
            details={"kind": incident.kind, "deficit": incident.deficit},
        )
        if incident.kind in ESCALATED:
            bus.publish(
                subject=f"org.claytom.corporate.escalation.{unit.slug}",
                type="org.claytom.escalation.resolve.v1",
                source=ACTOR,
                body={"id": f"incident-{incident.pk}", "decision": "the incident is over", "actor": ACTOR},
                dedup=f"esc-incident-{incident.pk}-resolved",
            )
        closed += 1
    return closed


def note_external(unit: Unit, silent: int) -> None:
    """Open or close the unit's incident about silent external agents: ARP does not replace what is not its own."""
    if not silent:
        close_incidents(unit=unit, kinds=[Incident.Kind.EXTERNAL])
        return
    detail = f"{silent} external agents are silent; their owners must start them, or withdraw them"
    open_incident(unit=unit, kind=Incident.Kind.EXTERNAL, detail=detail, deficit=silent)


def note_floor(unit: Unit, live: int, now: datetime, *, settled: bool, explained: int = 0) -> None:
    """Keep the service level of the floor. A unit that was never full is being staffed, not below its floor.

    `explained` agents are missing for a reason that is being dealt with, or has an incident of its own: their
    seconds count, but no second incident is opened for them.
    """
    floor = UnitFloor.objects.select_for_update().get(unit=unit)
    if live >= unit.floor:
        if floor.below_since:
            ended = max(now, floor.below_since)
            floor.seconds_below += (ended - floor.below_since).total_seconds()
            floor.below_since = None
            FloorBreach.objects.filter(unit=unit, ended_at=None).update(ended_at=Greatest("began_at", Value(ended)))
            close_incidents(unit=unit, kinds=[Incident.Kind.BELOW_FLOOR])
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
        open_incident(
            unit=unit, kind=Incident.Kind.BELOW_FLOOR, detail=f"{deficit} agents missing", deficit=deficit
        )
