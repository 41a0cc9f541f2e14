"""Writes of commands: giving one, and going on with it. What is ordered is allowed for its scope, or refused."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import services as audit
from holding import scope
from holding.models import Suspension, Unit
from iam.access.models import User
from iam.access.rights import RefusedError, rights_of
from subsidiaries.commands import hearing, orders, rolling
from subsidiaries.commands.models import REASON_LENGTH, Command, Target
from subsidiaries.commands.orders import PERMISSIONS, Order

State = Command.State
lifting = orders.lifting
ASKED = (
    "verb", "scope", "unit_id", "division_id", "role_id", "seat_id", "host", "settings", "reason", "percent",
    "halt_above", "patience_s",
)  # fmt: skip


class KeyTakenError(RefusedError):
    """The key belongs to another order."""


def require(*, by: User, verb: str, place: Unit | None) -> None:
    """Raise NotHeldError unless the person may give this command for the unit (None: the whole holding)."""
    rights_of(by).require(PERMISSIONS[verb], place)


def needs_confirmation(order: Order) -> bool:
    """Return whether whoever orders it at a browser must have shown lately who they are.

    What reaches beyond one unit does, and what ends agents. A pause of the own unit must not wait for a password.
    """
    return order.place is None or order.verb == Command.Verb.RETIRE


@transaction.atomic
def issue(*, order: Order, by: User | None = None, actor: str = "") -> Command:
    """Give a command and begin its first step; the same key again returns the same command.

    `by` is the person; a process that nobody signs in to names itself as `actor`. Raises NotHeldError without the
    permission there, KeyTakenError for the key of another order, RefusedError with a sentence for what cannot be.
    """
    orders.check(order)
    order = replace(order, reason=order.reason.strip())
    if by is not None:
        require(by=by, verb=order.verb, place=order.place)
        actor = by.get_username()
    with scope.opened(scope.EVERYTHING):  # all that it is about, whatever is in view of who orders it
        rolling.lock()
        known = Command.objects.filter(key=order.key).first()
        if known is not None:
            return _same(known, order)
        lifted, found = _meant(order)
        now = timezone.now()
        command = _record(order, found, actor=actor, now=now)
        for one in lifted:
            one.lifted_by = command
            rolling.enter(one, State.LIFTED, now=now, actor=actor, note=f"command {command.pk}")
        _supersede(command, found, now=now, actor=actor)
        rolling.begin_step(command, now=now)
        return command


@transaction.atomic
def preview(*, order: Order, by: User) -> list[orders.Reach]:
    """Return the divisions, with their agents, that the order would be about now; raises as `issue` does."""
    orders.check(order)
    require(by=by, verb=order.verb, place=order.place)
    with scope.opened(scope.EVERYTHING):
        return _meant(order)[1]


def _meant(order: Order) -> tuple[list[Command], list[orders.Reach]]:
    """Return the commands that the order lifts, and the divisions that it is about."""
    lifted = _lifted(order) if order.verb == Command.Verb.RESUME else []
    found = orders.reach(order)
    if lifted:
        touched = set(_standing(lifted).values_list("division_id", flat=True))
        found = [one for one in found if one.division.pk in touched]
    return lifted, found


def _same(known: Command, order: Order) -> Command:
    """Return the command that the same order has made. Raises KeyTakenError when it was another order."""
    seat, place = order.seat, order.place
    said = Command(
        verb=order.verb,
        scope=order.scope,
        unit_id=place.pk if place is not None else known.unit_id,
        division=seat.division if seat is not None else order.division,
        role=order.role,
        seat=seat,
        host=order.host,
        settings=dict(order.settings),
        reason=order.reason,
        percent=order.percent,
        halt_above=order.halt_above,
        patience_s=order.patience_s,
    )
    if any(getattr(said, name) != getattr(known, name) for name in ASKED):
        number = known.pk
        raise KeyTakenError(_("This key is that of command %(number)d, which is another one.") % {"number": number})
    return known


def _record(order: Order, found: list[orders.Reach], *, actor: str, now: datetime) -> Command:
    seat = order.seat
    parent = Unit.objects.get(kind=Unit.Kind.CORPORATE)
    command = Command.objects.create(
        verb=order.verb,
        scope=order.scope,
        unit=order.place or parent,
        division=seat.division if seat is not None else order.division,
        role=order.role,
        seat=seat,
        host=order.host,
        settings=dict(order.settings),
        reason=order.reason,
        actor=actor,
        key=order.key,
        agents=sum(one.agents for one in found),
        created_at=now,
        changed_at=now,
        patience_s=order.patience_s,
        percent=order.percent,
        halt_above=order.halt_above,
    )
    Target.objects.bulk_create(
        Target(command=command, unit=one.division.unit, division=one.division, place=place, agents=one.agents)
        for place, one in enumerate(found)
    )
    audit.record(
        actor=actor,
        action=f"command.{command.verb}",
        object=f"command/{command.pk}",
        after={"scope": command.scope, "unit": command.unit.slug, "agents": command.agents},
        details={
            "scope": command.scope,
            "unit": command.unit.slug,
            "division": command.division.key if command.division else "",
            "role": command.role.slug if command.role else "",
            "seat": str(seat) if seat is not None else "",
            "host": command.host,
            "settings": command.settings,
            "divisions": len(found),
            "agents": command.agents,
            "percent": command.percent,
            "reason": command.reason,
        },
        correlation_id=f"command-{command.pk}",
    )
    return command


def _standing(commands: list[Command]) -> QuerySet[Suspension]:
    return Suspension.objects.filter(order__in=[one.pk for one in commands])


def _lifted(order: Order) -> list[Command]:
    """Return the commands that the order lifts. Raises RefusedError when agents of it would stay as they are."""
    if order.lifts is not None:
        found = Command.objects.select_for_update(of=("self",)).filter(pk=order.lifts.pk)
        if not _standing(list(found)).exists():
            raise RefusedError(_("Command %(number)d stands no more.") % {"number": order.lifts.pk})
        return list(found)
    divisions = [one.division.pk for one in orders.reach(order)]
    paused = Suspension.objects.filter(division_id__in=divisions, desired=Suspension.Desired.PAUSED)
    numbers = {one.order for one in paused.select_related("seat") if orders.touches(one, order)}
    found = Command.objects.select_for_update(of=("self",)).filter(pk__in=numbers).order_by("pk")
    commands = list(found.select_related("unit", "seat"))
    if not commands:
        raise RefusedError(_("Nothing of this is paused."))
    for command in commands:
        if not orders.contains(order, command):
            raise RefusedError(
                _(
                    "Agents of this stay paused by command %(number)d of %(actor)s (%(reason)s), which is about "
                    "more. Lift that command, or resume all that it is about."
                )
                % {"number": command.pk, "actor": command.actor, "reason": command.reason}
            )
    return commands


def _supersede(command: Command, found: list[orders.Reach], *, now: datetime, actor: str) -> None:
    """New settings end what still rolls out other ones there."""
    if command.verb != Command.Verb.CONFIG:
        return
    divisions = [one.division.pk for one in found]
    older = Command.objects.going().filter(verb=command.verb, targets__division_id__in=divisions)
    for one in older.exclude(pk=command.pk).distinct():
        rolling.enter(one, State.SUPERSEDED, now=now, actor=actor, note=f"command {command.pk}")


# --- going on ----------------------------------------------------------------------------------------------


def halt(*, command: Command, by: User, reason: str) -> Command:
    """Begin no further step until a person lets it go on. Raises NotHeldError, RefusedError."""

    def act(found: Command, now: datetime) -> None:
        if found.state != State.ROLLING_OUT:
            raise RefusedError(_("Only a command that is rolling out can be halted."))
        rolling.enter(found, State.HALTED, now=now, actor=by.get_username(), note=_given(reason))

    return _with(command, by, act)


def proceed(*, command: Command, by: User, reason: str) -> Command:
    """Let a halted command go on; the failures so far are accepted. Raises NotHeldError, RefusedError."""

    def act(found: Command, now: datetime) -> None:
        if found.state != State.HALTED:
            raise RefusedError(_("Only a halted command can go on."))
        found.accepted = Target.objects.counted(now, of=[found.pk])[found.pk].failed
        rolling.enter(found, State.ROLLING_OUT, now=now, actor=by.get_username(), note=_given(reason))
        rolling.settle(found, now=now)

    return _with(command, by, act)


def abort(*, command: Command, by: User, reason: str) -> Command:
    """End a command before its last step; what was done stays until it is lifted. Raises as `halt` does."""

    def act(found: Command, now: datetime) -> None:
        if found.state not in Command.GOING:
            raise RefusedError(_("This command has ended already."))
        rolling.enter(found, State.ABORTED, now=now, actor=by.get_username(), note=_given(reason))

    return _with(command, by, act)


@transaction.atomic
def _with(command: Command, by: User, act: Callable[[Command, datetime], None]) -> Command:
    require(by=by, verb=command.verb, place=None if command.whole else command.unit)
    with scope.opened(scope.EVERYTHING):
        rolling.lock()
        found = Command.objects.select_for_update(of=("self",)).select_related("unit", "role").get(pk=command.pk)
        act(found, timezone.now())
        return found


def _given(reason: str) -> str:
    reason = reason.strip()
    if not reason or len(reason) > REASON_LENGTH:
        raise RefusedError(_("Say why: the ledger keeps it."))
    return reason


@transaction.atomic
def tick() -> int:
    """Note what was sent, obeyed and not obeyed in time, and let commands go on; return how many did.

    Idempotent: a lost or doubled tick is harmless, and so is one beside another.
    """
    if not rolling.try_lock():
        return 0
    now = timezone.now()
    hearing.note_sent()
    hearing.note_obedience(now)
    hearing.note_expired(now)
    going = Command.objects.going().select_for_update(of=("self",)).select_related("unit", "role")
    return sum(rolling.settle(command, now=now) for command in going.order_by("pk"))
