"""The brake on mass silence: when much of a unit falls silent at once, the fault may be ours and not the agents'.

Above one share of the unit missing agents are replaced slowly, above another not at all, and one incident says so.
It grows and never shrinks by itself: full speed comes back when few are silent any more, far below where the brake
was applied, or when a person releases it. What live hosts report failed is no silence, and is not held back.
"""

from typing import Final

from django.utils import timezone

from audit import services as audit
from subsidiaries.replacement import incidents
from subsidiaries.replacement.incidents import OpenIncidents
from subsidiaries.replacement.models import Incident, IncidentStep, StaffingRule

Kind = Incident.Kind
LEVELS: Final = {Kind.SILENCE.value: 1, Kind.MASS_SILENCE.value: 2}
RECOVERED: Final = 0.5
"""The brake is taken off at this part of the share above which it is applied: between the two it stays as it is."""
KINDS: Final = {level: Kind(kind) for kind, level in LEVELS.items()}


def brake(known: OpenIncidents, silent: float, rule: StaffingRule, *, settled: bool) -> tuple[int, Incident | None]:
    """Apply or take off the brake; return how many silent agents may be replaced in a cycle, and its incident.

    `silent` is the share of the unit's seats that are silent. While it is not `settled` whether silence says
    anything, a brake that holds goes on holding and none is applied.
    """
    incident = known.any_of(LEVELS)
    level = 2 if silent > rule.stop_above else 1 if silent > rule.slow_above else 0
    if incident is not None and settled and silent <= rule.slow_above * RECOVERED:
        known.close(incident.kind)
        incident = None
    elif settled and level:
        incident = _apply(known, incident, level, silent)
    return _allowed(incident, rule), incident


def _apply(known: OpenIncidents, incident: Incident | None, level: int, silent: float) -> Incident:
    detail, deficit = f"{silent:.0%} of the agents are silent", round(silent * known.unit.floor)
    if incident is None or LEVELS[incident.kind] >= level:
        kind = KINDS[level] if incident is None else Kind(incident.kind)
        return known.open(kind, detail=detail, deficit=deficit)
    _grow(known, incident, KINDS[level], detail, deficit)
    return incident


def _grow(known: OpenIncidents, incident: Incident, kind: Incident.Kind, detail: str, deficit: int) -> None:
    """Make the incident one of the next kind; a release was of the smaller one and is over."""
    before = {"kind": incident.kind, "deficit": incident.deficit}
    known.rename(incident, kind)
    incident.detail = detail
    incident.deficit = max(incident.deficit, deficit)
    incident.released_at, incident.released_by = None, ""
    incident.save(update_fields=["kind", "detail", "deficit", "released_at", "released_by"])
    IncidentStep.objects.create(
        incident=incident, kind=IncidentStep.Kind.GREW, who=incidents.ACTOR, note=detail, at=timezone.now()
    )
    audit.record(
        actor=incidents.ACTOR,
        action="incident.grow",
        object=f"unit/{known.unit.slug}",
        before=before,
        after={"incident": incident.pk, "kind": kind.value, "deficit": incident.deficit},
        details={"incident": incident.pk, "kind": kind.value, "detail": detail},
    )
    incidents.escalate(known.unit, incident)


def _allowed(incident: Incident | None, rule: StaffingRule) -> int:
    if incident is None or incident.released_at is not None:
        return rule.missing_per_cycle
    return rule.missing_per_cycle_slow if LEVELS[incident.kind] == 1 else 0
