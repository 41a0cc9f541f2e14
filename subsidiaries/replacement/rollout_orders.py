"""What people order of rollouts: starting, pausing, resuming, rolling back, aborting one; and what it would do."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Final

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import services as audit
from holding import scope
from holding.models import BlueprintVersion, Unit
from iam.access.models import User
from iam.access.rights import RefusedError, rights_of
from subsidiaries.replacement import rollouts
from subsidiaries.replacement.rollout_models import REASON_LENGTH, Rollout, RolloutUnit

MANAGE: Final = "rollouts.manage"
State = Rollout.State
# What each number may be, and what it is by default.
BOUNDS: Final[Mapping[str, tuple[int, int, int]]] = {
    "canary": (1, 100, 5),
    "observe_s": (0, 604_800, 600),
    "patience_s": (10, 3600, 60),
    "halt_above": (0, 100, 10),
    "wave": (1, 1500, 75),
    "surge": (1, 1500, 75),
}
ASKED: Final = ("version_id", "everywhere", "reason", *BOUNDS)


class RolloutKeyTakenError(RefusedError):
    """The key belongs to another rollout."""


@dataclass(frozen=True, slots=True)
class Order:
    """A rollout as it is asked for; without a unit it is about all units that have agents of the blueprint."""

    version: BlueprintVersion
    reason: str
    key: str
    unit: Unit | None = None
    canary: int = BOUNDS["canary"][2]
    observe_s: int = BOUNDS["observe_s"][2]
    patience_s: int = BOUNDS["patience_s"][2]
    halt_above: int = BOUNDS["halt_above"][2]
    wave: int = BOUNDS["wave"][2]
    surge: int = BOUNDS["surge"][2]


@dataclass(frozen=True, slots=True)
class UnitPlan:
    """What a rollout would do in a unit, as things are now."""

    unit: Unit
    agents: int
    canaries: int
    above: int
    """Agents of the role that are live above the floor and the quota."""
    surge: int
    """Temporary seats that would be opened."""
    waves: int
    """Steps, the canary's included, if every agent comes up at once; each takes an ARP cycle or more."""


def check(order: Order) -> None:
    """Raise RefusedError, with a sentence, for what is no rollout at all."""
    version = order.version
    if not version.good:
        raise RefusedError(
            _("%(version)s is not approved, or it is halted: nothing is rolled out by it.") % {"version": version}
        )
    if not order.reason.strip() or len(order.reason) > REASON_LENGTH:
        raise RefusedError(
            _("Say in 1 to %(count)d characters why: everybody concerned reads it.") % {"count": REASON_LENGTH}
        )
    for name, (least, most, _usual) in BOUNDS.items():
        if not least <= getattr(order, name) <= most:
            raise RefusedError(
                _("%(name)s: a number from %(least)d to %(most)d.")
                % {"name": label_of(name), "least": least, "most": most}
            )


def label_of(name: str) -> str:
    """Return what people call one of the numbers of `BOUNDS`, in the language of the request."""
    return str(getattr(Rollout._meta.get_field(name), "verbose_name", name))


def preview(*, order: Order, by: User) -> list[UnitPlan]:
    """Return what the rollout would do, by unit, and write nothing. Raises as `start` does."""
    check(order)
    rights_of(by).require(MANAGE, order.unit)
    with scope.opened(scope.EVERYTHING):
        _refuse_others(order)
        return _plans(order, timezone.now())


def _plans(order: Order, now: datetime) -> list[UnitPlan]:
    blueprint = order.version.blueprint
    if order.unit is not None:
        units = [order.unit]
    elif blueprint.body_id:
        units = [Unit.objects.get(kind=Unit.Kind.CORPORATE)]
    else:
        units = list(Unit.objects.subsidiaries())
    counts = {unit.pk: rollouts.remaining(order.version, unit).count() for unit in units}
    if not any(counts.values()):
        raise RefusedError(_("This is about no agent: nothing would be done."))
    canaries = _spread(order, counts)
    plans = []
    for unit in units:
        if not (agents := counts[unit.pk]):
            continue
        above = rollouts.headroom(unit, blueprint, now=now).above
        step = min(order.wave, agents)
        opened = min(order.surge, step) if above < step else 0
        size = max(min(step, above + opened), 1)
        first = canaries[unit.pk]
        waves = math.ceil(first / size) + math.ceil((agents - first) / size)
        plans.append(UnitPlan(unit, agents, first, above, opened, waves))
    return plans


def _spread(order: Order, counts: Mapping[int, int]) -> dict[int, int]:
    """Return how many canaries each unit has: by its share, the rest in an order that follows from the key."""
    total = sum(counts.values())
    wanted = math.ceil(total * order.canary / 100)
    shares = {unit: wanted * count / total for unit, count in counts.items()}
    canaries = {unit: int(share) for unit, share in shares.items()}
    rest = wanted - sum(canaries.values())
    by_rest = sorted(
        counts,
        key=lambda unit: (canaries[unit] - shares[unit], blake2b(f"{order.key}/{unit}".encode()).digest()),
    )
    for unit in by_rest[:rest]:
        canaries[unit] += 1
    return canaries


def _refuse_others(order: Order) -> None:
    """Raise RefusedError while another rollout of the blueprint is open where this one is asked for."""
    others = RolloutUnit.objects.filter(blueprint=order.version.blueprint_id, ended_at=None)
    if order.unit is not None:
        others = others.filter(unit=order.unit)
    other = others.select_related("unit").order_by("unit__position").first()
    if other is not None:
        raise RefusedError(
            _("Rollout %(number)d of this blueprint is open in “%(unit)s”: let it end, or abort it first.")
            % {"number": other.rollout_id, "unit": other.unit.name}
        )


@transaction.atomic
def start(*, order: Order, by: User) -> Rollout:
    """Start a rollout; the same key again returns the same one. ARP's next cycles carry it out.

    Raises NotHeldError without the permission there, RolloutKeyTakenError for the key of another order,
    RefusedError with a sentence for what cannot be.
    """
    check(order)
    rights_of(by).require(MANAGE, order.unit)
    with scope.opened(scope.EVERYTHING):
        if known := Rollout.objects.filter(key=order.key).first():
            return _same(known, order)
        _refuse_others(order)
        plans, now = _plans(order, timezone.now()), timezone.now()
        rollout = Rollout.objects.create(
            blueprint=order.version.blueprint,
            version=order.version,
            unit=order.unit or Unit.objects.get(kind=Unit.Kind.CORPORATE),
            everywhere=order.unit is None,
            reason=order.reason.strip(),
            actor=by.get_username(),
            key=order.key,
            created_at=now,
            changed_at=now,
            **{name: getattr(order, name) for name in BOUNDS},
        )
        _open_parts(rollout, plans)
        audit.record(
            actor=rollout.actor,
            action="rollout.start",
            object=f"rollout/{rollout.pk}",
            after={"state": rollout.state, "version": str(order.version)},
            details={
                "version": str(order.version),
                "digest": order.version.digest,
                "unit": order.unit.slug if order.unit else "",
                "agents": sum(plan.agents for plan in plans),
                "canaries": sum(plan.canaries for plan in plans),
                "reason": rollout.reason,
                **{name: getattr(order, name) for name in BOUNDS},
            },
            correlation_id=f"rollout-{rollout.pk}",
        )
        return rollout


def _open_parts(rollout: Rollout, plans: list[UnitPlan]) -> None:
    try:
        with transaction.atomic():
            RolloutUnit.objects.bulk_create(
                RolloutUnit(
                    rollout=rollout,
                    unit=plan.unit,
                    blueprint_id=rollout.blueprint_id,
                    agents=plan.agents,
                    canaries=plan.canaries,
                )
                for plan in plans
            )
    except IntegrityError as error:  # somebody started one at the same moment
        raise RefusedError(_("Another rollout of this blueprint was started there just now.")) from error


def _same(known: Rollout, order: Order) -> Rollout:
    said = Rollout(
        version=order.version,
        everywhere=order.unit is None,
        reason=order.reason.strip(),
        **{name: getattr(order, name) for name in BOUNDS},
    )
    same_place = order.unit is None or known.unit_id == order.unit.pk
    if not same_place or any(getattr(said, name) != getattr(known, name) for name in ASKED):
        raise RolloutKeyTakenError(
            _("This key is that of rollout %(number)d, which is another one.") % {"number": known.pk}
        )
    return known


# --- acts --------------------------------------------------------------------------------------------------


def pause(*, rollout: Rollout, by: User, reason: str) -> Rollout:
    """Begin no further agent until a person resumes it. Raises NotHeldError, RefusedError."""

    def act(found: Rollout, now: datetime, why: str) -> None:
        if found.state not in (*Rollout.FORWARD, State.RETURNING):
            raise RefusedError(_("Only a rollout that is at work can be paused."))
        rollouts.enter(found, State.PAUSED, now=now, actor=by.get_username(), note=why)

    return _with(rollout, by, reason, act)


def resume(*, rollout: Rollout, by: User, reason: str) -> Rollout:
    """Let a paused rollout go on where it was; the canary is observed anew. Raises NotHeldError, RefusedError."""

    def act(found: Rollout, now: datetime, why: str) -> None:
        if found.state != State.PAUSED:
            raise RefusedError(_("Only a paused rollout can be resumed."))
        rollouts.enter(found, State(found.paused_from), now=now, actor=by.get_username(), note=why)

    return _with(rollout, by, reason, act)


def roll_back(*, rollout: Rollout, by: User, reason: str) -> Rollout:
    """Give the seats that were changed their former version again. Raises NotHeldError, RefusedError."""

    def act(found: Rollout, now: datetime, why: str) -> None:
        if found.state not in (*Rollout.FORWARD, State.PAUSED):
            raise RefusedError(_("This rollout has ended, or goes back already."))
        rollouts.enter(found, State.RETURNING, now=now, actor=by.get_username(), note=why)

    return _with(rollout, by, reason, act)


def abort(*, rollout: Rollout, by: User, reason: str) -> Rollout:
    """End a rollout as it is: what was changed stays. Raises NotHeldError, RefusedError."""

    def act(found: Rollout, now: datetime, why: str) -> None:
        if found.state not in Rollout.GOING:
            raise RefusedError(_("This rollout has ended already."))
        rollouts.enter(found, State.ABORTED, now=now, actor=by.get_username(), note=why)

    return _with(rollout, by, reason, act)


@transaction.atomic
def _with(rollout: Rollout, by: User, reason: str, act: Callable[[Rollout, datetime, str], None]) -> Rollout:
    rights_of(by).require(MANAGE, None if rollout.everywhere else rollout.unit)
    why = reason.strip()
    if not why or len(why) > REASON_LENGTH:
        raise RefusedError(_("Say why: the ledger keeps it."))
    with scope.opened(scope.EVERYTHING):
        found = Rollout.objects.select_for_update(of=("self",)).get(pk=rollout.pk)
        act(found, timezone.now(), why)
        return found
