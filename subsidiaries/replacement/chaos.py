"""Faults on purpose, for demonstrations and drills: agents that crash, divisions that fall silent, a bad version.

Only where `CHAOS_ENABLED` says so, and only hosts started with `--chaos` obey. Each run is in the ledger, with its
seed: the same seed on the same holding hits the same agents.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from random import Random
from typing import Any, Final
from uuid import uuid4

from django.conf import settings
from django.db import transaction

from audit import services as audit
from bus import services as bus
from holding.models import Agent, BlueprintVersion, Division, Unit

ACTOR: Final = "operator/chaos"
ORDER_SIZE: Final = 500
"""Agents in one order to the hosts: far below what a message may carry."""


class ChaosError(ValueError):
    """A fault that is not injected; the text says why."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Whom a fault is about: of a unit, of a role or of all; a count, or a share (0 to 1], drawn by the seed."""

    unit: str
    role: str = ""
    count: int | None = None
    share: float | None = None
    seed: int = 0


def require_enabled() -> None:
    """Raise ChaosError unless faults may be injected here."""
    if not settings.CHAOS_ENABLED:
        raise ChaosError(
            "Chaos is off here. Faults are injected only where CHAOS_ENABLED=1 (`manage.py up --chaos`), "
            "and only hosts started with --chaos obey."
        )


@transaction.atomic
def kill_agents(*, selection: Selection, actor: str = ACTOR) -> list[str]:
    """Make agents crash at every run until they are replaced; return their subjects.

    Raises ChaosError when chaos is off, or nobody matches. Agents with a connection of their own are left out: no
    host could obey.
    """
    require_enabled()
    unit = _unit(selection.unit)
    agents = Agent.objects.in_office().filter(unit=unit, seat__external=False)
    if selection.role:
        agents = agents.filter(subject__startswith=f"org.claytom.{unit.slug}.{selection.role}.")
    chosen = _draw(list(agents.order_by("id").values_list("subject", flat=True)), selection)
    for first in range(0, len(chosen), ORDER_SIZE):
        _order(unit, {"fail": chosen[first : first + ORDER_SIZE]})
    _record(unit, "chaos.kill-agents", selection, actor, {"agents": len(chosen), "first": chosen[0]})
    return chosen


@transaction.atomic
def silence(*, selection: Selection, seconds: float, actor: str = ACTOR) -> list[str]:
    """Keep the presence of a unit's divisions back for so many seconds; return their keys.

    Their agents go on working under their leases. Raises ChaosError when chaos is off, no division matches, or
    the time is not between 1 and 3,600 s.
    """
    require_enabled()
    if not 1 <= seconds <= 3600:
        raise ChaosError("A silence lasts from 1 to 3600 seconds.")
    unit = _unit(selection.unit)
    keys = list(Division.objects.filter(unit=unit).order_by("id").values_list("key", flat=True))
    chosen = _draw(keys, selection)
    _order(unit, {"silence_s": seconds, "silence": chosen})
    _record(unit, "chaos.silence", selection, actor, {"divisions": chosen, "seconds": str(seconds)})
    return chosen


@transaction.atomic
def corrupt(*, unit: str, versions: Sequence[str], actor: str = ACTOR) -> list[str]:
    """Make agents of these blueprint versions (`operator/3`) crash whenever they start in a unit; return them.

    Until the next call for the unit: with none, new agents are well again. Agents that run are left alone, unless
    their division moves to another host, which starts them. A host that has none of them now does not know of it.
    Raises ChaosError when chaos is off, or there is no such version.
    """
    require_enabled()
    row = _unit(unit)
    for label in versions:
        slug, _, number = label.partition("/")
        known = BlueprintVersion.objects.filter(blueprint__slug=slug)
        if not number.isdecimal() or not known.filter(version=int(number)).exists():
            there = ", ".join(
                f"{slug}/{one}" for one in known.order_by("version").values_list("version", flat=True)
            )
            raise ChaosError(f"There is no blueprint version '{label}'. Versions: {there or 'as in operator/1'}.")
    _order(row, {"corrupt": list(versions)})
    audit.record(
        actor=actor,
        action="chaos.corrupt",
        object=f"unit/{row.slug}",
        details={"versions": list(versions)},
    )
    return list(versions)


@transaction.atomic
def note_host_killed(*, host: str, pid: int, seed: int, actor: str = ACTOR) -> None:
    """Write into the ledger that a host process is about to be killed. Raises ChaosError when chaos is off."""
    require_enabled()
    audit.record(
        actor=actor,
        action="chaos.kill-host",
        object=f"host/{host}",
        details={"host": host, "pid": pid, "seed": seed},
    )


def _unit(slug: str) -> Unit:
    unit = Unit.objects.filter(slug=slug).first()
    if unit is None:
        raise ChaosError(
            f"There is no unit '{slug}'. Units: {', '.join(Unit.objects.values_list('slug', flat=True))}."
        )
    return unit


def _draw(found: Sequence[str], selection: Selection) -> list[str]:
    """Return which of them the selection means, in their order."""
    if not found:
        raise ChaosError(f"Nothing in {selection.unit} matches.")
    if selection.count is not None and selection.count < 1:
        raise ChaosError("--count is a whole number above 0.")
    if selection.share is not None and not 0 < selection.share <= 1:
        raise ChaosError("--share is above 0 and at most 1.")
    wanted = len(found)
    if selection.share is not None:
        wanted = ceil(selection.share * len(found))
    if selection.count is not None:
        wanted = min(wanted, selection.count)
    picked = set(Random(selection.seed).sample(range(len(found)), wanted))  # noqa: S311 - a drill, no secret
    return [name for number, name in enumerate(found) if number in picked]


def _order(unit: Unit, body: Mapping[str, Any]) -> None:
    bus.publish(
        subject=f"org.claytom.{unit.slug}.command.config",
        type="org.claytom.host.config.v1",
        source=ACTOR,
        body=body,
        dedup=f"chaos-{uuid4()}",
    )


def _record(unit: Unit, action: str, selection: Selection, actor: str, done: Mapping[str, Any]) -> None:
    audit.record(
        actor=actor,
        action=action,
        object=f"unit/{unit.slug}",
        details={
            "role": selection.role,
            "count": selection.count,
            "share": None if selection.share is None else str(selection.share),
            "seed": selection.seed,
            **done,
        },
    )
