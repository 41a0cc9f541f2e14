"""What a person orders: which divisions and agents it is about, how orders overlap, what is allowed in one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from django.db.models import Count, QuerySet
from django.utils.translation import gettext as _

from holding.models import Division, Role, Seat, Suspension, Unit
from iam.access.rights import RefusedError
from subsidiaries.commands.models import REASON_LENGTH, Command
from subsidiaries.replacement.models import DivisionState

PATIENCE_S: Final = (5, 3600)
USUAL_PATIENCE_S: Final = 30
# Settings of hosts, in seconds, within which a holding still works: presence older than 15 s counts as silence.
SETTINGS: Final[Mapping[str, tuple[float, float]]] = {
    "kpi_interval_s": (10, 3600),
    "presence_interval_s": (1, 5),
    "presence_full_s": (10, 600),
}
PAUSE: Final = "commands.pause"
ISSUE: Final = "commands.issue"
# By which permission a command is given; a pause is what a supervisor must be able to do at once.
PERMISSIONS: Final[Mapping[str, str]] = {
    Command.Verb.PAUSE: PAUSE,
    Command.Verb.RESUME: PAUSE,
    Command.Verb.REPORT: PAUSE,
    Command.Verb.DRAIN: ISSUE,
    Command.Verb.RETIRE: ISSUE,
    Command.Verb.CONFIG: ISSUE,
}
# About what each command may be. Agents of a host move with their division; a role has no settings of its own.
SCOPES: Final[Mapping[str, Sequence[str]]] = {
    Command.Verb.PAUSE: ("all", "unit", "division", "agent"),
    Command.Verb.RESUME: ("all", "unit", "division", "agent"),
    Command.Verb.RETIRE: ("unit", "division", "agent"),
    Command.Verb.DRAIN: ("all", "unit", "division", "host"),
    Command.Verb.CONFIG: ("all", "unit", "division"),
    Command.Verb.REPORT: ("all", "unit", "division"),
}
WITH_ROLE: Final = (Command.Verb.PAUSE, Command.Verb.RESUME, Command.Verb.RETIRE)


@dataclass(frozen=True, slots=True)
class Order:
    """A command as it is asked for. Without division, seat or host it is about the unit; without that about all."""

    verb: str
    reason: str
    key: str
    unit: Unit | None = None
    division: Division | None = None
    role: Role | None = None
    seat: Seat | None = None
    host: str = ""
    settings: Mapping[str, float] = field(default_factory=dict)
    percent: int = 100
    halt_above: int = 0
    patience_s: int = USUAL_PATIENCE_S
    lifts: Command | None = None

    @property
    def scope(self) -> str:
        """What kind of scope it has."""
        if self.host:
            return Command.Scope.HOST
        if self.seat is not None:
            return Command.Scope.AGENT
        if self.division is not None:
            return Command.Scope.DIVISION
        return Command.Scope.UNIT if self.unit is not None else Command.Scope.ALL

    @property
    def place(self) -> Unit | None:
        """The unit for which one must hold the permission; None: the whole holding."""
        if self.seat is not None:
            return self.seat.unit
        return self.division.unit if self.division is not None else self.unit


def lifting(command: Command, *, reason: str, key: str, patience_s: int = USUAL_PATIENCE_S) -> Order:
    """Return the order that lifts a pause, or staffs again what was retired."""
    whole = command.whole
    return Order(
        verb=Command.Verb.RESUME,
        reason=reason,
        key=key,
        unit=None if whole else command.unit,
        division=command.division,
        role=command.role,
        seat=command.seat,
        patience_s=patience_s,
        lifts=command,
    )


def check(order: Order) -> None:
    """Raise RefusedError, with a sentence, for what is no order at all."""
    if order.verb not in SCOPES:
        raise RefusedError(_("There is no command “%(verb)s”.") % {"verb": order.verb})
    if not order.reason.strip() or len(order.reason) > REASON_LENGTH:
        raise RefusedError(
            _("Say in 1 to %(count)d characters why: everybody concerned reads it.") % {"count": REASON_LENGTH}
        )
    if order.scope not in SCOPES[order.verb] and order.lifts is None:
        scope = Command.Scope(order.scope).label
        verb = Command.Verb(order.verb).label
        raise RefusedError(_("“%(verb)s” is not given for %(scope)s.") % {"verb": verb, "scope": scope})
    if order.host and (order.unit or order.division or order.seat):
        raise RefusedError(_("A host is named alone: the command is about all that it runs."))
    if order.role is not None and (order.verb not in WITH_ROLE or order.seat is not None):
        raise RefusedError(
            _("A role is named only to pause, resume or retire its agents, and not beside one agent.")
        )
    _check_numbers(order)
    _check_settings(order)


def _check_numbers(order: Order) -> None:
    if not 1 <= order.percent <= 100 or not 0 <= order.halt_above <= 100:
        raise RefusedError(_("The share of a step is 1 to 100 per cent, the failure rate 0 to 100."))
    least, most = PATIENCE_S
    if not least <= order.patience_s <= most:
        raise RefusedError(_("Hosts get %(least)d to %(most)d seconds to obey.") % {"least": least, "most": most})


def _check_settings(order: Order) -> None:
    if order.verb != Command.Verb.CONFIG:
        if order.settings:
            raise RefusedError(_("Only the command for settings of hosts takes settings."))
        return
    if not order.settings:
        raise RefusedError(_("Name at least one setting: %(names)s.") % {"names": ", ".join(SETTINGS)})
    for name, value in order.settings.items():
        if name not in SETTINGS:
            raise RefusedError(_("There is no setting “%(name)s”.") % {"name": name[:40]})
        least, most = SETTINGS[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise RefusedError(
                _("%(name)s is %(least)g to %(most)g seconds.") % {"name": name, "least": least, "most": most}
            )


# --- what it is about --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reach:
    """A division that an order is about, and how many of its agents."""

    division: Division
    agents: int


def reach(order: Order) -> list[Reach]:
    """Return the divisions that the order is about, with their agents, in the order in which steps take them.

    That is the same for the same key: a repeated request and a test of it go the same way. Raises RefusedError
    when it is about nobody.
    """
    counts = dict(_seats(order).values_list("division_id").annotate(Count("pk")))
    divisions = Division.objects.filter(pk__in=counts).select_related("unit")
    found = [Reach(division, counts[division.pk]) for division in divisions]
    if not found:
        raise RefusedError(_("This is about no agent: nothing would be done."))
    return sorted(found, key=lambda one: blake2b(f"{order.key}/{one.division.key}".encode()).digest())


def _seats(order: Order) -> QuerySet[Seat]:
    seats = Seat.objects.open().order_by()
    if order.seat is not None:
        return seats.filter(pk=order.seat.pk)
    if order.host:
        hosted = DivisionState.objects.filter(host=order.host).values("division_id")
        return seats.filter(division_id__in=hosted)
    if order.division is not None:
        seats = seats.filter(division=order.division)
    elif order.unit is not None:
        seats = seats.filter(unit=order.unit)
    return seats.filter(role=order.role) if order.role is not None else seats


def touches(suspension: Suspension, order: Order) -> bool:
    """Return whether an order that stands in a division is about any of the agents that the new one is about."""
    seat = order.seat
    if seat is not None:
        return suspension.covers(role_id=seat.role_id, seat_id=seat.pk, ordinal=seat.ordinal)
    if order.role is None:
        return True
    if suspension.seat is not None:
        return suspension.seat.role_id == order.role.pk
    return suspension.role_id in (None, order.role.pk)


def contains(order: Order, command: Command) -> bool:
    """Return whether all that the command is about is within the order."""
    if order.seat is not None:
        return command.seat_id == order.seat.pk
    if order.role is not None and order.role.pk not in (command.role_id, command.seat and command.seat.role_id):
        return False
    if order.division is not None:
        return command.division_id == order.division.pk
    return order.unit is None or (not command.whole and command.unit_id == order.unit.pk)
