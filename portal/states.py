"""The states of agents in words, and how urgent each is."""

from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from holding.lifecycle import Stage
from subsidiaries.replacement.models import SeatState
from subsidiaries.replacement.shown import REPLACED

State = SeatState.State
GLYPHS = {"ok": "●", "warn": "▲", "crit": "■", "info": "◆", "idle": "○"}


@dataclass(frozen=True, slots=True)
class Look:
    """A status: its kind (ok, warn, crit, info, idle) gives glyph and colour; the word says it."""

    kind: str
    word: str | Promise


STATES: dict[str, Look] = {
    State.IDLE: Look("ok", _("idle")),
    State.BUSY: Look("ok", _("busy")),
    State.PAUSED: Look("info", _("paused")),
    State.STARTING: Look("info", _("starting")),
    State.RESTARTING: Look("warn", _("restarting")),
    State.STUCK: Look("warn", _("stuck")),
    State.FAILED: Look("crit", _("failed")),
    State.UNKNOWN: Look("idle", _("unknown")),
    State.RETIRED: Look("idle", _("retired")),
    REPLACED: Look("idle", _("replaced")),
}

_STAGE_KINDS = {
    "idle": (Stage.REQUESTED, Stage.RETIRED, Stage.REPLACED),
    "info": (Stage.PROVISIONING, Stage.PROBATION),
    "ok": (Stage.ACTIVE,),
    "warn": (Stage.SUSPENDED, Stage.DRAINING),
    "crit": (Stage.QUARANTINED, Stage.LOST),
}
STAGES: dict[str, Look] = {
    stage: Look(kind, stage.label) for stage in Stage for kind, of in _STAGE_KINDS.items() if stage in of
}

# The classes of the agent field, in the order of its byte codes (static/field.js draws them).
FIELD: dict[str, tuple[str, ...]] = {
    "active": (State.IDLE, State.BUSY),
    "starting": (State.STARTING,),
    "degraded": (State.STUCK, State.RESTARTING),
    "paused": (State.PAUSED,),
    "offline": (State.FAILED, State.UNKNOWN, State.RETIRED),
}
