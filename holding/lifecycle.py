"""The stages of agents and seats, and which may follow which: one table for the services and the database.

A stage says where an agent stands, not what it does at the moment: that is its state (idle, busy, paused ...),
which presence tells. The triggers are made of this table (`guard`, in a migration); a test tries every pair at
both doors. Writes are in `holding.transitions`.
"""

from collections.abc import Mapping
from typing import Final

from django.db import models
from django.utils.translation import gettext_lazy as _


class Stage(models.TextChoices):
    """Where an agent stands."""

    REQUESTED = "requested", _("requested")
    PROVISIONING = "provisioning", _("provisioning")
    PROBATION = "probation", _("on probation")
    ACTIVE = "active", _("active")
    SUSPENDED = "suspended", _("suspended")
    DRAINING = "draining", _("draining")
    RETIRED = "retired", _("retired")
    QUARANTINED = "quarantined", _("quarantined")
    LOST = "lost", _("lost")
    REPLACED = "replaced", _("replaced")


class SeatStage(models.TextChoices):
    """Whether a seat has a holder, is to have one, or is out of use."""

    STAFFED = "staffed", _("staffed")
    VACANT = "vacant", _("vacant")
    CLOSED = "closed", _("out of use")


_S, _P = Stage, SeatStage
_ENDS: Final = frozenset({_S.REPLACED, _S.RETIRED})

FIRST: Final = frozenset({_S.REQUESTED, _S.PROVISIONING})
"""With which stage an agent may begin."""
ENDED: Final = _ENDS
"""The stages of agents that hold no seat any more; nothing follows them."""
NEXT: Final[Mapping[Stage, frozenset[Stage]]] = {
    _S.REQUESTED: frozenset({_S.PROVISIONING, _S.RETIRED}),
    _S.PROVISIONING: frozenset({_S.PROBATION, _S.ACTIVE, _S.QUARANTINED, _S.LOST}) | _ENDS,
    _S.PROBATION: frozenset({_S.ACTIVE, _S.SUSPENDED, _S.DRAINING, _S.QUARANTINED, _S.LOST}) | _ENDS,
    _S.ACTIVE: frozenset({_S.SUSPENDED, _S.DRAINING, _S.QUARANTINED, _S.LOST}) | _ENDS,
    _S.SUSPENDED: frozenset({_S.PROBATION, _S.ACTIVE, _S.DRAINING, _S.QUARANTINED, _S.LOST}) | _ENDS,
    _S.DRAINING: frozenset({_S.PROBATION, _S.ACTIVE, _S.QUARANTINED, _S.LOST}) | _ENDS,
    _S.QUARANTINED: frozenset({_S.PROVISIONING, _S.PROBATION, _S.ACTIVE}) | _ENDS,
    _S.LOST: frozenset({_S.PROBATION, _S.ACTIVE, _S.SUSPENDED, _S.DRAINING, _S.QUARANTINED}) | _ENDS,
    _S.RETIRED: frozenset(),
    _S.REPLACED: frozenset(),
}

SEAT_FIRST: Final = frozenset({_P.STAFFED, _P.VACANT})
SEAT_NEXT: Final[Mapping[SeatStage, frozenset[SeatStage]]] = {
    _P.STAFFED: frozenset({_P.VACANT}),
    _P.VACANT: frozenset({_P.STAFFED, _P.CLOSED}),
    _P.CLOSED: frozenset({_P.VACANT}),
}


class IllegalTransitionError(ValueError):
    """A stage that cannot follow the present one."""

    def __init__(self, name: str, old: str, new: str) -> None:
        super().__init__(f"{name} is {old}: it cannot become {new} from there.")
        self.name, self.old, self.new = name, old, new


def check(name: str, old: str, new: str) -> None:
    """Raise IllegalTransitionError unless an agent may go from `old` to `new`."""
    if Stage(new) not in NEXT[Stage(old)]:
        raise IllegalTransitionError(name, old, new)


def check_seat(name: str, old: str, new: str) -> None:
    """Raise IllegalTransitionError unless a seat may go from `old` to `new`."""
    if SeatStage(new) not in SEAT_NEXT[SeatStage(old)]:
        raise IllegalTransitionError(name, old, new)


REFUSE: Final = """
create function holding_refuse_stage() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        raise exception '% of % cannot begin as %.', tg_argv[0], new.id, new.stage
            using errcode = 'integrity_constraint_violation';
    end if;
    raise exception '% of % is %: it cannot become % from there.', tg_argv[0], new.id, old.stage, new.stage
        using errcode = 'integrity_constraint_violation';
end $$;
"""
REFUSE_GONE: Final = "drop function holding_refuse_stage();"


def guard(table: str, first: frozenset[str], following: Mapping[str, frozenset[str]]) -> tuple[str, str]:
    """Return the SQL of the triggers that refuse all but these stages, and the SQL that drops them; for migrations.

    Both conditions are the triggers' own: for what is allowed no function is called, so a load and a start of all
    agents do not pay for it.
    """
    begins = ", ".join(f"'{stage}'" for stage in sorted(first))
    pairs = ", ".join(sorted(f"'{old}>{new}'" for old, news in following.items() for new in news))
    on = f"""
        create trigger first_stage before insert on {table} for each row
            when (new.stage not in ({begins})) execute function holding_refuse_stage('The stage');
        create trigger next_stage before update of stage on {table} for each row
            when (old.stage <> new.stage and old.stage || '>' || new.stage <> all (array[{pairs}]))
            execute function holding_refuse_stage('The stage');
    """
    return on, f"drop trigger first_stage on {table}; drop trigger next_stage on {table};"
