"""Commands as people see them: what was ordered and how far it is obeyed, and what of a unit is paused, by whom."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Count, Exists, F, Func, IntegerField, Min, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce, JSONObject
from django.http import Http404
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from holding import scope
from holding.models import Division, Suspension, Unit
from subsidiaries.commands.models import Command, Target
from subsidiaries.commands.orders import PERMISSIONS

COMMAND_KINDS: Final[Mapping[str, str]] = {
    Command.State.ROLLING_OUT: "info",
    Command.State.HALTED: "crit",
    Command.State.CONFIRMED: "ok",
    Command.State.INCOMPLETE: "warn",
}
TARGET_KINDS: Final[Mapping[str, str]] = {
    Target.State.SENT: "info",
    Target.State.ACKNOWLEDGED: "ok",
    Target.State.REFUSED: "crit",
    Target.State.EXPIRED: "warn",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """The filters of the list; empty: all."""

    unit: str = ""
    verb: str = ""
    state: str = ""


def listed(wanted: Wanted) -> QuerySet[Command]:
    """Return the commands of the units in view that are wanted."""
    found = Command.objects.for_listing()
    if wanted.unit:
        found = found.filter(unit__slug=wanted.unit)
    if wanted.verb:
        found = found.filter(verb=wanted.verb)
    return found.filter(state=wanted.state) if wanted.state else found


def find(pk: int) -> Command:
    """Return a command of the units in view. Raises Http404."""
    found = Command.objects.for_listing().filter(pk=pk).first()
    if found is None:
        raise Http404(_("There is no command %(key)s.") % {"key": pk})
    return found


def targets(command: Command, *, at: datetime, state: str = "") -> QuerySet[Target]:
    """Return what became of a command by division, in the order of its steps."""
    found = Target.objects.as_of(at).filter(command=command).select_related("division__body", "unit")
    return found.filter(state_now=state) if state else found  # type: ignore[misc]  # is annotated


def may_give(verb: str, unit_id: int | None) -> bool:
    """Return whether whoever looks may give this command for a unit (None: the whole holding)."""
    return scope.current().allows(PERMISSIONS[verb], unit_id)


def may_act(command: Command) -> bool:
    """Return whether whoever looks may halt, continue, abort or lift the command."""
    return may_give(command.verb, None if command.whole else command.unit_id)


# --- what is paused ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause that stands: who ordered it, why, since when; whether of all that is shown, and how many units."""

    order: int
    actor: str
    reason: str
    since: datetime
    whole: bool
    units: int
    seen: bool
    """Whether the command itself is in view: an order about the whole holding is the parent company's."""


def with_pauses(units: QuerySet[Unit]) -> QuerySet[Unit]:
    """Annotate units with the pauses that stand in them, for `pauses_of`: no query of its own.

    An isolated agent is no pause: its order has a number below zero.
    """
    standing = Suspension.objects.filter(unit=OuterRef("pk"), desired=Suspension.Desired.PAUSED, order__gt=0)
    by_order = (
        standing.order_by("order")
        .values("order")
        .annotate(
            by=Min("actor"), why=Min("reason"), at=Min("since"),
            complete=Count("pk", filter=Q(role=None, seat=None, share=100)),
            seen=Exists(Command.objects.filter(pk=OuterRef("order"))),
        )
    )  # fmt: skip
    names = ("order", "by", "why", "at", "complete", "seen")
    divisions = Division.objects.filter(unit=OuterRef("pk")).order_by().annotate(n=Func(F("pk"), function="count"))
    return units.annotate(
        pauses=ArraySubquery(by_order.values(shown=JSONObject(**{name: F(name) for name in names}))),
        division_count=Coalesce(Subquery(divisions.values("n"), output_field=IntegerField()), 0),
    )


def pauses_of(units: Iterable[Unit]) -> list[Pause]:
    """Return the pauses that stand in units read by `with_pauses`, each once, the newest first."""
    rows: dict[int, list[Any]] = {}
    shown: dict[int, dict[str, Any]] = {}
    units = list(units)
    for unit in units:
        for found in unit.pauses:  # type: ignore[attr-defined]  # is annotated
            shown[found["order"]] = found
            complete = found["complete"] == unit.division_count  # type: ignore[attr-defined]
            rows.setdefault(found["order"], []).append(complete)
    return [
        Pause(
            order=order, actor=found["by"], reason=found["why"], since=_moment(found["at"]),
            whole=all(rows[order]) and len(rows[order]) == len(units), units=len(rows[order]), seen=found["seen"],
        )
        for order, found in sorted(shown.items(), reverse=True)
    ]  # fmt: skip


def _moment(text: str) -> datetime:
    moment = parse_datetime(text)
    if moment is None:
        raise ValueError(f"{text!r} is no time.")
    return moment
