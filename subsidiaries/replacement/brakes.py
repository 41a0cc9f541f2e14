"""The brake on mass silence: when much of a unit falls silent at once, the fault may be ours and not the agents'.

Above one share of the unit missing agents are replaced slowly, above another not at all, and one incident says so.
It grows and never shrinks by itself: full speed comes back when few are silent any more, far below where the brake
was applied, or when a person releases it. What live hosts report failed is no silence, and is not held back.
"""

from typing import Final

from django.utils import timezone

from audit import services as audit
from holding.models import Unit
from subsidiaries.replacement import incidents
from subsidiaries.replacement.models import Incident, IncidentStep, StaffingRule

Kind = Incident.Kind
LEVELS: Final = {Kind.SILENCE.value: 1, Kind.MASS_SILENCE.value: 2}
RECOVERED: Final = 0.5
"""The brake is taken off at this part of the share above which it is applied: between the two it stays as it is."""
KINDS: Final = {level: Kind(kind) for kind, level in LEVELS.items()}


def engaged(unit: Unit) -> Incident | None:
    """Return the unit's open incident of a brake, released or not."""
    found = Incident.objects.select_for_update().filter(unit=unit, kind__in=list(LEVELS), closed_at=None)
    return found.order_by("-pk").first()


def brake(unit: Unit, silent: float, rule: StaffingRule, *, settled: bool) -> tuple[int, Incident | None]:
    """Apply or take off the brake; return how many silent agents may be replaced in a cycle, and its incident.

    `silent` is the share of the unit's seats that are silent. While it is not `settled` whether silence says
    anything, a brake that holds goes on holding and none is applied.
    """
    incident = engaged(unit)
    level = 2 if silent > rule.stop_above else 1 if silent > rule.slow_above else 0
    if incident is not None and settled and silent <= rule.slow_above * RECOVERED:
        incidents.close_incidents(unit=unit, kinds=[Kind(incident.kind)])
        incident = None
    elif settled and level:
        incident = _apply(unit, incident, level, silent)
    return _allowed(incident, rule), incident


def _apply(unit: Unit, incident: Incident | None, level: int, silent: float) -> Incident:
    detail, deficit = f"{silent:.0%} of the agents are silent", round(silent * unit.floor)
    if incident is None or LEVELS[incident.kind] >= level:
        kind = KINDS[level] if incident is None else Kind(incident.kind)
        return incidents.open_incident(unit=unit, kind=kind, detail=detail, deficit=deficit)
    _grow(unit, incident, KINDS[level], detail, deficit)
    return incident


def _grow(unit: Unit, incident: Incident, kind: Incident.Kind, detail: str, deficit: int) -> None:
    """Make the incident one of the next kind; a release was of the smaller one and is over."""
    before = {"kind": incident.kind, "deficit": incident.deficit}
    incident.kind, incident.detail = kind, detail
    incident.deficit = max(incident.deficit, deficit)
    incident.released_at, incident.released_by = None, ""
    incident.save(update_fields=["kind", "detail", "deficit", "released_at", "released_by"])
    IncidentStep.objects.create(
        incident=incident, kind=IncidentStep.Kind.GREW, who=incidents.ACTOR, note=detail, at=timezone.now()
    )
    audit.record(
        actor=incidents.ACTOR,
        action="incident.grow",
        object=f"unit/{unit.slug}",
        before=before,
        after={"incident": incident.pk, "kind": kind.value, "deficit": incident.deficit},
        details={"incident": incident.pk, "kind": kind.value, "detail": detail},
    )
    incidents.escalate(unit, incident)


def _allowed(incident: Incident | None, rule: StaffingRule) -> int:
    if incident is None or incident.released_at is not None:
        return rule.missing_per_cycle
    return rule.missing_per_cycle_slow if LEVELS[incident.kind] == 1 else 0
