"""What people do about incidents: acknowledge, note, release the brake. Each with its ledger entry."""

from typing import Final

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import services as audit
from iam.access.models import User
from iam.access.rights import RefusedError, rights_of
from subsidiaries.replacement.brakes import LEVELS
from subsidiaries.replacement.models import Incident, IncidentStep

RESPOND: Final = "escalations.decide"
RELEASE: Final = "commands.issue"
"""Whoever may retire agents and hand divisions over may also have them replaced at full speed."""
LONGEST_NOTE: Final = 500

Kind = IncidentStep.Kind
ACTIONS: Final = {
    Kind.ACKNOWLEDGED: "incident.acknowledge",
    Kind.NOTE: "incident.note",
    Kind.RELEASED: "incident.release",
}


@transaction.atomic
def acknowledge(*, incident: Incident, by: User, note: str = "") -> Incident:
    """Note that somebody looks after it; once. Raises RefusedError."""
    row = _open(incident, by, RESPOND)
    if row.acknowledged_at is not None:
        raise RefusedError(_("It has been acknowledged already."))
    row.acknowledged_at, row.acknowledged_by = timezone.now(), by.username
    row.save(update_fields=["acknowledged_at", "acknowledged_by"])
    _step(row, Kind.ACKNOWLEDGED, by, note)
    return row


@transaction.atomic
def annotate(*, incident: Incident, by: User, note: str) -> Incident:
    """Add a note, also to one that is over. Raises RefusedError for an empty one."""
    row = _locked(incident, by, RESPOND)
    if not note.strip():
        raise RefusedError(_("Write what is to be noted."))
    _step(row, Kind.NOTE, by, note)
    return row


@transaction.atomic
def release(*, incident: Incident, by: User, reason: str) -> Incident:
    """Let missing agents be replaced at full speed in spite of the silence, until it grows.

    Raises RefusedError without a reason, for an incident that brakes nothing, and for one that was released.
    """
    row = _open(incident, by, RELEASE)
    if row.kind not in LEVELS:
        raise RefusedError(_("This incident brakes nothing."))
    if row.released_at is not None:
        raise RefusedError(_("The brake has been released already."))
    if not reason.strip():
        raise RefusedError(_("Give the reason: everybody concerned reads it."))
    row.released_at, row.released_by = timezone.now(), by.username
    row.save(update_fields=["released_at", "released_by"])
    _step(row, Kind.RELEASED, by, reason)
    return row


def _locked(incident: Incident, by: User, code: str) -> Incident:
    row = Incident.objects.select_for_update(of=("self",)).select_related("unit").get(pk=incident.pk)
    rights_of(by).require(code, row.unit)
    return row


def _open(incident: Incident, by: User, code: str) -> Incident:
    row = _locked(incident, by, code)
    if row.closed_at is not None:
        raise RefusedError(_("The incident is over."))
    return row


def _step(row: Incident, kind: IncidentStep.Kind, by: User, note: str) -> None:
    text = note.strip().replace("\0", "\ufffd")
    if len(text) > LONGEST_NOTE:
        raise RefusedError(_("Write at most %(count)s characters.") % {"count": LONGEST_NOTE})
    IncidentStep.objects.create(incident=row, kind=kind, who=by.username, note=text, at=timezone.now())
    audit.record(
        actor=by.username,
        action=ACTIONS[kind],
        object=f"unit/{row.unit.slug}",
        after={"incident": row.pk, "kind": row.kind},
        details={"incident": row.pk, "kind": row.kind, "note": text, "unit_id": row.unit_id},
    )
