"""Staffing by plan: how many seats of a role there shall be, and making it so without a dip below the floor.

Level-triggered, as ARP is: each look compares the seats that are open with the plan, opens what lacks, and closes
what is too many as far as the floor allows. A change of a plan is an approval on the matter `staffing-plan`; within
the agent's envelope of the matrix it is granted by rule and done at once. Whoever changes seats holds the unit's
lock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from django.db import transaction
from django.db.models import Count, Q, Sum
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import services as audit
from bus import mailbox
from holding import establishment, scope
from holding.establishment import Held, Place
from holding.models import Agent, Role, Seat, Unit
from iam.access.models import User
from iam.access.rights import RefusedError, rights_of
from iam.authority import services as authority
from iam.authority.models import Approval, Matter
from subsidiaries.replacement import observing, services
from subsidiaries.replacement.models import LIVE_STATES, STALE_AFTER, Census, Replacement
from subsidiaries.replacement.planning import Retirement, StaffingPlan

ACTOR: Final = services.ACTOR
MATTER: Final = "staffing-plan"
ACTION: Final = "staffing.change"
PERMISSION: Final = "approvals.request"
MOST_SEATS: Final = 150_000
REASON_LENGTH: Final = 500
LOST: Final = (Replacement.Reason.FAILED, Replacement.Reason.MISSING)


@dataclass(frozen=True, slots=True)
class Change:
    """A plan as it shall be: of which unit and role, with its numbers."""

    unit: Unit
    role: Role
    floor: int
    reserve: int
    maximum: int


@dataclass(frozen=True, slots=True)
class Closing:
    """A seat that is to be closed, the state of its agent, and whether that agent is live."""

    seat: Seat
    state: str
    live: bool
    failed_before: int


@dataclass(frozen=True, slots=True)
class Preview:
    """What a change would do now: seats opened, seats closed at once, and how many wait for the floor to allow it.

    `value` is what its approval is judged by; `office` decides it, by rule when `by_rule`.
    """

    plan: StaffingPlan
    opened: tuple[Place, ...]
    closed: tuple[Closing, ...]
    waiting: int
    value: int
    office: str
    by_rule: bool


@dataclass(frozen=True, slots=True)
class Kept:
    """What one look at a unit's plans did: seats opened and closed, by code, and how many are still too many."""

    opened: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    waiting: int = 0


# --- making it so ------------------------------------------------------------------------------------------


@transaction.atomic
def keep(*, unit: str, actor: str = ACTOR, reason: str = "staffing plan") -> Kept:
    """Open the seats that the plans of the unit with that slug ask for, and close what is too many; idempotent.

    Raises Unit.DoesNotExist for an unknown slug.
    """
    row = Unit.objects.get(slug=unit)
    if not _differ(row):
        return Kept()
    services.lock_unit(unit_id=row.pk)
    return _keep(row, actor=actor, reason=reason, correlation_id="")


def _plans(unit: Unit) -> list[StaffingPlan]:
    """Return the plans whose seats may come and go: of operators. Management is followed by succession."""
    plans = StaffingPlan.objects.filter(unit=unit, role__tier=Role.Tier.L1)
    return list(plans.select_related("role").order_by("role__position"))


def wanted(plan: StaffingPlan) -> int:
    """Return how many seats of the plan's role shall be open now: with those of planned retirements that go on."""
    going = Retirement.objects.filter(unit_id=plan.unit_id, role_id=plan.role_id, state__in=Retirement.GOING)
    surge = going.aggregate(sum=Sum("surge"))["sum"] or 0
    return min(plan.maximum, plan.establishment + surge)


def _differ(unit: Unit) -> bool:
    """Return whether the seats that are observed are not those planned: three small queries, without a lock."""
    seats = dict(Census.objects.filter(unit=unit).values_list("role").annotate(Sum("seats")).order_by())
    return any(seats.get(plan.role.slug, 0) != wanted(plan) for plan in _plans(unit))


def _keep(unit: Unit, *, actor: str, reason: str, correlation_id: str) -> Kept:
    opened: list[Held] = []
    closed: list[Held] = []
    waiting = 0
    for plan in _plans(unit):
        missing = wanted(plan) - _open(plan)
        if missing > 0:
            opened += establishment.open_seats(
                unit=unit,
                role=plan.role,
                count=missing,
                actor=actor,
                reason=reason,
                correlation_id=correlation_id,
            )
        elif missing < 0:
            closing = to_close(plan, -missing)
            waiting += -missing - len(closing)
            closed += establishment.close_seats(
                seat_ids=[one.seat.pk for one in closing],
                actor=actor,
                reason=reason,
                correlation_id=correlation_id,
            )
    if opened:
        observing.note_opened(seats={held.seat.pk: held.agent.generation for held in opened if held.agent})
    if closed:
        observing.note_closed(seat_ids=[held.seat.pk for held in closed])
        _hand_on_mail(closed)
    return Kept(tuple(held.seat.code for held in opened), tuple(held.seat.code for held in closed), waiting)


def _open(plan: StaffingPlan) -> int:
    return Seat.objects.established().filter(unit_id=plan.unit_id, role_id=plan.role_id).count()


def to_close(plan: StaffingPlan, count: int) -> list[Closing]:
    """Return the seats to close first, at most `count`: not ready or unknown, then failed before, then youngest.

    Only seats beyond the first staffing, none of an external agent; and of live agents no more than are live beyond
    the floors of role and unit.
    """
    now = timezone.now()
    lost = Count("replacements", filter=Q(replacements__reason__in=LOST))
    seats = (
        Seat.objects.established()
        .filter(
            unit_id=plan.unit_id,
            role_id=plan.role_id,
            ordinal__gt=establishment.first_staffing(),
            external=False,
        )
        .select_related("unit", "seatstate", "division__state")
        .annotate(lost=lost)
        .order_by("-ordinal")
    )
    ages = dict(Agent.objects.in_office().filter(seat__in=seats).values_list("seat_id", "created_at"))
    found = [_closing(seat, now) for seat in seats]
    found.sort(key=lambda one: _age(ages.get(one.seat.pk), now))  # a sort keeps the order of equals
    found.sort(key=lambda one: (one.live, -one.failed_before))
    spare = max(0, room(plan, now))
    idle = [one for one in found if not one.live]
    return [*idle, *[one for one in found if one.live][:spare]][:count]


def _age(created: datetime | None, now: datetime) -> float:
    return (now - created).total_seconds() if created else 0.0


def _closing(seat: Seat, now: datetime) -> Closing:
    state = getattr(seat, "seatstate", None)
    division = getattr(seat.division, "state", None)
    heard = division is not None and division.seen_at is not None and division.seen_at >= now - STALE_AFTER
    told = state.state if state is not None and heard else "unknown"
    return Closing(seat, told, told in LIVE_STATES, seat.lost)  # type: ignore[attr-defined]  # is annotated


def room(plan: StaffingPlan, now: datetime) -> int:
    """Return how many live agents of the role there are beyond the floor, of the role and of the unit."""
    unit = Unit.objects.get(pk=plan.unit_id)
    roles = Census.objects.by_role(plan.unit_id, now)
    live = sum(alive for _seats, alive in roles.values())
    return min(live - unit.floor, roles.get(plan.role.slug, (0, 0))[1] - plan.floor)


def _hand_on_mail(closed: Sequence[Held]) -> None:
    """Give the open work of agents that ended to colleagues of the same division."""
    divisions = {held.seat.division_id for held in closed}
    office = Agent.objects.in_office().filter(seat__division_id__in=divisions, seat__external=False)
    heirs: dict[tuple[int, int | None], list[str]] = {}
    for division, role, subject in office.order_by("seat__ordinal").values_list(
        "seat__division_id", "seat__role_id", "subject"
    ):
        heirs.setdefault((division, role), []).append(subject)
    successions = []
    for number, held in enumerate(closed):
        colleagues = heirs.get((held.seat.division_id, held.seat.role_id))
        if held.agent and colleagues:
            heir = colleagues[number % len(colleagues)]
            successions.append(mailbox.Succession(held.agent.subject, heir))
    mailbox.succeed(successions=successions)


# --- changing a plan ---------------------------------------------------------------------------------------


def plan_of(*, unit: Unit, role: Role) -> StaffingPlan:
    """Return the plan of a role. Raises RefusedError where there is none: the parent company has no plans."""
    found = StaffingPlan.objects.select_related("unit", "role").filter(unit=unit, role=role).first()
    if found is None:
        raise RefusedError(_("“%(unit)s” has no staffing plan for “%(role)s”.") % _named(unit, role))
    return found


def preview(*, change: Change, by: User) -> Preview:
    """Return what the change would do now, and who would decide it. Raises as `ask` does; writes nothing."""
    rights_of(by).require(PERMISSION, change.unit)
    with scope.opened(scope.EVERYTHING):
        plan = _checked(change)
        opened, closed, waiting = _consequences(change, plan)
        value = _value(change, plan)
        request = _request(change, plan, by=by, reason="-", key="preview")
        try:
            decides = authority.preview(request=request)
        except (authority.NoAuthorityError, Matter.DoesNotExist) as error:
            raise RefusedError(_nobody(error)) from error
    return Preview(plan, opened, closed, waiting, value, decides.office.name, decides.by_rule)


def ask(*, change: Change, by: User, reason: str, key: str) -> Approval:
    """Ask for the change; within the delegated limit it is done at once. The same key again is the same request.

    Raises NotHeldError without the permission for the unit, RefusedError with a sentence for what cannot be.
    """
    rights_of(by).require(PERMISSION, change.unit)
    reason = reason.strip()
    if not reason or len(reason) > REASON_LENGTH:
        raise RefusedError(_("Say why: the ledger keeps it."))
    with scope.opened(scope.EVERYTHING):
        if known := Approval.objects.filter(key=key).first():
            return known
        plan = _checked(change)
        try:
            return authority.request_approval(request=_request(change, plan, by=by, reason=reason, key=key))
        except (authority.NoAuthorityError, Matter.DoesNotExist) as error:
            raise RefusedError(_nobody(error)) from error
        except ValueError as error:
            raise RefusedError(str(error)) from error


def _nobody(error: Exception) -> str:
    if isinstance(error, Matter.DoesNotExist):
        return _("The authority matrix does not know staffing plans yet: load it with `manage.py load_authority`.")
    return str(error)


def _request(change: Change, plan: StaffingPlan, *, by: User, reason: str, key: str) -> authority.Request:
    return authority.Request(
        matter=MATTER,
        unit=change.unit,
        value=Decimal(_value(change, plan)),
        title=_("Staffing plan of %(role)s in %(unit)s") % _named(change.unit, change.role),
        reason=reason,
        key=key,
        requester=by,
        action=ACTION,
        parameters={
            "unit": change.unit.slug,
            "role": change.role.slug,
            "reason": reason,
            "plan": {"floor": change.floor, "reserve": change.reserve, "maximum": change.maximum},
            "was": _numbers(plan),
        },
    )


def _named(unit: Unit, role: Role) -> dict[str, str]:
    return {"unit": unit.name, "role": role.name}


def _numbers(plan: StaffingPlan) -> dict[str, int]:
    return {"floor": plan.floor, "reserve": plan.reserve, "maximum": plan.maximum}


def _value(change: Change, plan: StaffingPlan) -> int:
    """By how many seats the plan changes, in what changes most: what the approval is judged by."""
    seats = change.floor + change.reserve - plan.establishment
    return max(abs(seats), change.floor - plan.floor, change.maximum - plan.maximum, 0)


def _checked(change: Change) -> StaffingPlan:
    """Return the plan that the change is about. Raises RefusedError for what no plan may say."""
    plan = plan_of(unit=change.unit, role=change.role)
    if plan.role.tier != Role.Tier.L1:
        raise RefusedError(
            _("Only operators have reserve seats: a vacancy in “%(role)s” is filled by succession.")
            % {"role": plan.role.name}
        )
    if change.floor < plan.role.count:
        raise RefusedError(
            _("The floor of a subsidiary is never below the holding's: %(count)d for “%(role)s”.")
            % {"count": plan.role.count, "role": plan.role.name}
        )
    if change.reserve < 0 or change.floor + change.reserve > change.maximum:
        raise RefusedError(
            _("Floor and reserve are %(sum)d seats, more than the maximum of %(most)d.")
            % {"sum": change.floor + change.reserve, "most": change.maximum}
        )
    if change.maximum > MOST_SEATS:
        raise RefusedError(_("A role has at most %(most)d seats in a subsidiary.") % {"most": MOST_SEATS})
    if _numbers(plan) == {"floor": change.floor, "reserve": change.reserve, "maximum": change.maximum}:
        raise RefusedError(_("The plan says that already."))
    return plan


def _consequences(change: Change, plan: StaffingPlan) -> tuple[tuple[Place, ...], tuple[Closing, ...], int]:
    planned = StaffingPlan(
        unit=plan.unit, role=plan.role, floor=change.floor, reserve=change.reserve, maximum=change.maximum
    )
    missing = wanted(planned) - _open(plan)
    if missing >= 0:
        return tuple(establishment.places(unit=plan.unit, role=plan.role, count=missing)), (), 0
    closed = to_close(planned, -missing)
    return (), tuple(closed), -missing - len(closed)


# --- the action --------------------------------------------------------------------------------------------


def verify(parameters: Mapping[str, Any]) -> None:
    """Raise ValueError unless the plan is still the one that was seen, and the change one that may be."""
    change = _change(parameters)
    plan = _checked(change)
    if _numbers(plan) != parameters.get("was"):
        raise ValueError(_("The plan was changed since this was asked for: look at it again."))


def _change(parameters: Mapping[str, Any]) -> Change:
    unit = Unit.objects.filter(slug=parameters.get("unit")).first()
    role = Role.objects.filter(slug=parameters.get("role")).first()
    numbers = parameters.get("plan")
    if unit is None or role is None:
        raise ValueError(_("There is no such unit or role."))
    if not isinstance(numbers, dict) or set(numbers) != {"floor", "reserve", "maximum"}:
        raise ValueError(_("A plan has a floor, a reserve and a maximum."))
    if any(isinstance(one, bool) or not isinstance(one, int) for one in numbers.values()):
        raise ValueError(_("The numbers of a plan are whole numbers."))
    return Change(unit, role, **numbers)


def run(approval: Approval) -> None:
    """Change the plan, and the seats as far as the floor allows it now; the cycles do the rest."""
    change = _change(approval.parameters)
    services.lock_unit(unit_id=change.unit.pk)
    plan = StaffingPlan.objects.select_for_update(of=("self",)).get(unit=change.unit, role=change.role)
    before = _numbers(plan)
    reason = str(approval.parameters.get("reason", ""))[:REASON_LENGTH]
    plan.floor, plan.reserve, plan.maximum = change.floor, change.reserve, change.maximum
    plan.changed_at, plan.changed_by, plan.reason = timezone.now(), approval.actor, reason
    plan.save()
    if plan.floor != before["floor"]:
        floors = StaffingPlan.objects.filter(unit=change.unit).aggregate(sum=Sum("floor"))["sum"]
        establishment.set_floor(unit=change.unit, floor=floors)
    correlation = f"approval-{approval.pk}"
    kept = _keep(change.unit, actor=approval.actor, reason=reason, correlation_id=correlation)
    audit.record(
        actor=approval.actor,
        action="staffing.change",
        object=f"unit/{change.unit.slug}",
        before={"role": change.role.slug, **before},
        after={"role": change.role.slug, **_numbers(plan)},
        details={"approval": approval.pk, "reason": reason, **asdict(kept)},
        correlation_id=correlation,
    )


def confirm(approval: Approval) -> bool:
    """Return whether the plan says what was approved."""
    change = _change(approval.parameters)
    return _numbers(plan_of(unit=change.unit, role=change.role)) == dict(approval.parameters["plan"])
