"""Planned retirement: surge first, drain after.

Agents of a role are followed by their next generation, never more at once than are live beyond the floor: those of
the reserve, or of seats that are opened for it and closed again when it is over. Level-triggered, a step per ARP
cycle; a seat whose agent was replaced meanwhile has nothing left to do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db import connection, transaction
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import services as audit
from holding import scope
from holding.models import FIRST_TEMPORARY, Agent, Role, Unit
from iam.access.models import User
from iam.access.rights import RefusedError, rights_of
from subsidiaries.replacement import caps, services, staffing
from subsidiaries.replacement.cases import Case
from subsidiaries.replacement.models import LIVE_STATES, Replacement, StaffingRule
from subsidiaries.replacement.planning import Retiree, Retirement, StaffingPlan

PERMISSION: Final = "commands.issue"
REASON_LENGTH: Final = 500
MOST_NAMED: Final = 1500
State = Retirement.State


@dataclass(frozen=True, slots=True)
class Order:
    """Which agents of a role are to retire.

    The `count` oldest; or those of blueprint versions before `version` (at most `count`, 0: all); or the holders of
    the seats `named` by code. `surge` seats are opened for it beyond the establishment.
    """

    unit: Unit
    role: Role
    choice: str
    count: int = 0
    version: int = 0
    named: tuple[str, ...] = ()
    surge: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a retirement has come: agents in all, followed by the next generation, taken out and not yet live."""

    total: int
    done: int
    under_way: int

    @property
    def left(self) -> int:
        """Agents whose turn has not come."""
        return self.total - self.done - self.under_way


def meant(order: Order) -> list[Agent]:
    """Return the agents that the order is about, in the order of their turns. Raises RefusedError."""
    plan = staffing.plan_of(unit=order.unit, role=order.role)
    if plan.role.tier != Role.Tier.L1:
        raise RefusedError(
            _("Only operators have reserve seats: a vacancy in “%(role)s” is filled by succession.")
            % {"role": plan.role.name}
        )
    agents = Agent.objects.in_office().filter(
        seat__unit=order.unit,
        seat__role=order.role,
        seat__external=False,
        seat__closed_at=None,
        seat__ordinal__lt=FIRST_TEMPORARY,
    )
    agents = agents.select_related("seat", "blueprint").order_by("created_at", "seat__ordinal")
    found = _chosen(agents, order)
    if not found:
        raise RefusedError(_("This is about no agent: nothing would be done."))
    _require_room(plan, order)
    return found


def preview(*, order: Order, by: User) -> list[Agent]:
    """Return the agents that the order is about, in the order of their turns. Raises as `begin` does."""
    rights_of(by).require(PERMISSION, order.unit)
    with scope.opened(scope.EVERYTHING):
        return meant(order)


def _chosen(agents: QuerySet[Agent], order: Order) -> list[Agent]:
    match order.choice:
        case Retirement.Choice.OLDEST:
            if order.count < 1:
                raise RefusedError(_("Say how many agents are to retire."))
            return list(agents[: order.count])
        case Retirement.Choice.VERSION:
            if order.version < 2:
                raise RefusedError(_("Say before which version of the blueprint: 2 or later."))
            older = agents.filter(blueprint__version__lt=order.version)
            return list(older[: order.count] if order.count else older)
        case Retirement.Choice.NAMED:
            if not 0 < len(order.named) <= MOST_NAMED:
                raise RefusedError(_("Name 1 to %(most)d seats by their codes.") % {"most": MOST_NAMED})
            found = list(agents.filter(seat__code__in=order.named))
            if unknown := sorted(set(order.named) - {agent.seat.code for agent in found}):
                raise RefusedError(_("No agent of this role holds %(codes)s.") % {"codes": ", ".join(unknown[:10])})
            return found
    raise RefusedError(_("Agents are chosen by age, by version or by name."))


def _require_room(plan: StaffingPlan, order: Order) -> None:
    """Raise RefusedError unless somebody can be live beyond the floor while an agent is followed by the next."""
    if order.surge < 0 or plan.establishment + order.surge > plan.maximum:
        raise RefusedError(
            _("The establishment of %(seats)d and %(surge)d seats more are above the maximum of %(most)d.")
            % {"seats": plan.establishment, "surge": order.surge, "most": plan.maximum}
        )
    if plan.reserve + order.surge < 1:
        raise RefusedError(_("Without a reserve, seats must be opened for it: at least one."))


@transaction.atomic
def begin(*, order: Order, by: User, reason: str, key: str) -> Retirement:
    """Order a planned retirement; the same key again is the same one.

    Raises NotHeldError without the permission for the unit, RefusedError with a sentence for what cannot be.
    """
    rights_of(by).require(PERMISSION, order.unit)
    reason = _given(reason)
    with scope.opened(scope.EVERYTHING):
        services.lock_unit(unit_id=order.unit.pk)
        if known := Retirement.objects.filter(key=key).first():
            return known
        agents = meant(order)
        going = Retirement.objects.filter(unit=order.unit, role=order.role, state__in=Retirement.GOING).first()
        if going is not None:
            raise RefusedError(
                _("Planned retirement %(number)d of this role is under way: let it end, or abort it.")
                % {"number": going.pk}
            )
        now = timezone.now()
        made = Retirement.objects.create(
            unit=order.unit,
            role=order.role,
            choice=order.choice,
            detail=_detail(order),
            surge=order.surge,
            reason=reason,
            actor=by.get_username(),
            key=key,
            created_at=now,
            changed_at=now,
        )
        Retiree.objects.bulk_create(
            Retiree(retirement=made, seat=agent.seat, generation=agent.generation, place=place)
            for place, agent in enumerate(agents)
        )
        _record(made, "begin", actor=by.get_username(), reason=reason, agents=len(agents))
    return made


def _detail(order: Order) -> str:
    match order.choice:
        case Retirement.Choice.OLDEST:
            return str(order.count)
        case Retirement.Choice.VERSION:
            return f"< v{order.version}"
    return ", ".join(order.named)[:200]


def pause(*, retirement: Retirement, by: User, reason: str) -> Retirement:
    """Take out no further agent until it is resumed. Raises NotHeldError, RefusedError."""
    return _move(retirement, by, reason, (State.RUNNING,), State.PAUSED)


def resume(*, retirement: Retirement, by: User, reason: str) -> Retirement:
    """Let a paused retirement go on. Raises NotHeldError, RefusedError."""
    return _move(retirement, by, reason, (State.PAUSED,), State.RUNNING)


def abort(*, retirement: Retirement, by: User, reason: str) -> Retirement:
    """End a retirement; whoever was followed stays so, and seats opened for it close. Raises as `pause` does."""
    return _move(retirement, by, reason, Retirement.GOING, State.ABORTED)


@transaction.atomic
def _move(
    retirement: Retirement, by: User, reason: str, allowed: Sequence[Retirement.State], to: Retirement.State
) -> Retirement:
    rights_of(by).require(PERMISSION, retirement.unit)
    reason = _given(reason)
    with scope.opened(scope.EVERYTHING):
        services.lock_unit(unit_id=retirement.unit_id)
        found = _locked().get(pk=retirement.pk)
        if found.state not in allowed:
            raise RefusedError(
                _("This planned retirement is “%(state)s” already.") % {"state": found.get_state_display()}
            )
        _enter(found, to, actor=by.get_username(), reason=reason)
    return found


def _locked() -> QuerySet[Retirement]:
    return Retirement.objects.select_for_update(of=("self",)).select_related("unit", "role")


def _given(reason: str) -> str:
    reason = reason.strip()
    if not reason or len(reason) > REASON_LENGTH:
        raise RefusedError(_("Say why: the ledger keeps it."))
    return reason


def _enter(retirement: Retirement, state: Retirement.State, *, actor: str, reason: str) -> None:
    retirement.state, retirement.words, retirement.changed_at = state, "", timezone.now()
    retirement.save(update_fields=["state", "words", "changed_at"])
    _record(retirement, state.value, actor=actor, reason=reason, agents=progress(retirement)[retirement.pk].done)


def _record(retirement: Retirement, act: str, *, actor: str, reason: str, agents: int) -> None:
    audit.record(
        actor=actor,
        action=f"retirement.{act}",
        object=f"unit/{retirement.unit.slug}",
        after={"retirement": retirement.pk, "state": retirement.state},
        details={
            "retirement": retirement.pk,
            "role": retirement.role.slug,
            "which": f"{retirement.choice} {retirement.detail}".strip(),
            "surge": retirement.surge,
            "agents": agents,
            "reason": reason,
        },
        correlation_id=f"retirement-{retirement.pk}",
    )


def progress(*retirements: Retirement) -> dict[int, Progress]:
    """Return how far each has come, by its id."""
    rows = (
        Retiree.objects.filter(retirement__in=retirements)
        .values_list("retirement_id")
        .annotate(
            total=Count("pk"),
            done=Count("pk", filter=Q(done_at__isnull=False)),
            under_way=Count("pk", filter=Q(done_at=None, begun_at__isnull=False)),
        )
        .order_by()
    )
    return {pk: Progress(total, done, under_way) for pk, total, done, under_way in rows}


# --- going on ----------------------------------------------------------------------------------------------


@transaction.atomic
def step(*, unit: str, actor: str = services.ACTOR) -> int:
    """Go on with the planned retirements of the unit with that slug; return how many agents were taken out."""
    going = Retirement.objects.filter(unit__slug=unit, state=State.RUNNING)
    if not going.exists():
        return 0
    row = Unit.objects.get(slug=unit)
    services.lock_unit(unit_id=row.pk)
    now = timezone.now()
    return sum(_go_on(one, row, actor, now) for one in _locked().filter(pk__in=going).order_by("pk"))


def _go_on(retirement: Retirement, unit: Unit, actor: str, now: datetime) -> int:
    _note_done(retirement, now)
    open_ones = list(retirement.retirees.filter(done_at=None, begun_at=None).order_by("place"))
    if not open_ones:
        if not retirement.retirees.filter(done_at=None).exists():
            _enter(retirement, State.DONE, actor=actor, reason=retirement.reason)
        return 0
    plan = staffing.plan_of(unit=unit, role=retirement.role)
    spare = staffing.room(plan, now)
    left = caps.left_today(unit, StaffingRule.objects.get())
    words = ""
    if spare < 1:
        words = "agents beyond the floor"
    elif left < 1:
        words = "the cap of the day"
    if words != retirement.words:
        retirement.words = words
        retirement.save(update_fields=["words"])
    if words:
        return 0
    batch = open_ones[: min(spare, left)]
    cases = [Case(one.seat_id, one.generation, Replacement.Reason.PLANNED, now) for one in batch]
    done = services.replace(unit=unit, cases=cases, actor=actor)
    Retiree.objects.filter(pk__in=[one.pk for one in batch]).update(begun_at=now)
    return done


def _note_done(retirement: Retirement, now: datetime) -> None:
    """Note whose next generation is live; and who left otherwise: replaced, retired by an order, seat closed."""
    left = retirement.retirees.filter(done_at=None)
    with connection.cursor() as cursor:
        cursor.execute(NOTE_DONE, {"retirement": retirement.pk, "now": now, "live": list(LIVE_STATES)})
    office = Agent.objects.in_office().filter(seat=OuterRef("seat"))
    gone = ~Exists(office) | Q(begun_at=None, seat__generation__gt=F("generation"))
    ids = list(left.filter(gone).values_list("pk", flat=True))
    Retiree.objects.filter(pk__in=ids).update(done_at=now, moved_on=True)


NOTE_DONE: Final = """
    update replacement_retiree r set done_at = %(now)s
      from replacement_seatstate s
     where r.retirement_id = %(retirement)s and r.done_at is null and r.begun_at is not null
       and s.seat_id = r.seat_id and s.generation > r.generation and s.state = any(%(live)s)
"""
