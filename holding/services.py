"""Writes of the group's structure: loading it, staffing its seats, telling the hosts."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import connection, transaction
from django.db.models import F, Value
from django.db.models.functions import Greatest
from django.utils import timezone

from audit import services as audit
from holding import files, loading, manifests, standing
from holding.files import Data
from holding.models import Agent, BlueprintVersion, Body, Holding, Incumbency, Role, Seat, Unit

LOAD_LOCK = 0x6C6F6164  # "load": one load at a time
SETTINGS = manifests.SETTINGS
publish_manifests = manifests.publish_manifests
manifest_id = manifests.message_id
settings_of = manifests.settings_of
suspend, lift, configure = standing.suspend, standing.lift, standing.configure
vacate, vacant, generations = standing.vacate, standing.vacant, standing.generations


class ForbiddenChangeError(ValueError):
    """The file would rename, delete or restaff what exists; `changes` has one line for each."""

    def __init__(self, changes: Sequence[str]) -> None:
        super().__init__(
            "A load never renames, deletes or restaffs:\n"
            + "\n".join(changes)
            + "\nRestore these lines in the file; staffing is changed by its own act."
        )
        self.changes = list(changes)


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What a load did: seats created, and the differences to the file loaded before (empty: first or same)."""

    first: bool
    changes: tuple[str, ...]
    seats: int


def plan_load(*, data: Data) -> list[str]:
    """Return the differences between the loaded holding and `data`, one line each; [] when nothing is loaded.

    Raises ForbiddenChangeError when one of them is not allowed.
    """
    holding = Holding.objects.first()
    if holding is None:
        return []
    changes = list(files.differences(holding.source, data))
    if forbidden := [line for line in changes if _is_forbidden(line)]:
        raise ForbiddenChangeError(forbidden)
    return changes


def _is_forbidden(change: str) -> bool:
    # What is removed ("- path"), and staffing in any form: seats exist and hold agents.
    return (change.startswith("- ") and "[" in change) or change.lstrip("+- ").startswith(
        ("staffing.", "holding.subject_root", "holding.domain")
    )


@transaction.atomic
def load_holding(*, data: Data, actor: str, scaled: bool = False) -> LoadResult:
    """Bring the database to what the checked holding file says; loading the same file again changes nothing.

    Creates every missing unit, division, seat, agent and incumbency, writes the manifests of new divisions
    to the outbox, and one ledger entry per unit. Raises ForbiddenChangeError (see `plan_load`).
    """
    with connection.cursor() as cursor:
        cursor.execute("select pg_advisory_xact_lock(%s)", [LOAD_LOCK])
    before = Holding.objects.first()
    digest = files.digest(data)
    if before and before.source_digest == digest:
        return LoadResult(first=False, changes=(), seats=0)
    changes = plan_load(data=data)
    now = timezone.now()
    structure = loading.write_structure(data, at=now)
    plans = loading.missing_seats(data, structure)
    loading.copy_seats(plans, structure.blueprints, at=now)
    loading.write_mandates(data)
    _write_identity(data, digest=digest, scaled=scaled, at=now if before is None else before.loaded_at)
    publish_manifests(division_ids={plan.division.pk for plan in plans})
    _record_load(plans, before=before, digest=digest, changes=changes, actor=actor)
    return LoadResult(first=before is None, changes=tuple(changes), seats=len(plans))


def _write_identity(data: Data, *, digest: str, scaled: bool, at: datetime) -> None:
    identity = data["holding"]
    Holding.objects.update_or_create(
        id=1,
        defaults={
            "code": identity["code"],
            "name": identity["name"],
            "subject_root": identity["subject_root"],
            "domain": identity["domain"],
            "clearance_names": identity.get("clearance", files.DEFAULT_CLEARANCE),
            "floor": data["staffing"]["floor"],
            "scaled": scaled,
            "source": data,
            "source_digest": digest,
            "loaded_at": at,
        },
    )


def _record_load(
    plans: Sequence[loading.SeatPlan],
    *,
    before: Holding | None,
    digest: str,
    changes: Sequence[str],
    actor: str,
) -> None:
    created: dict[str, int] = defaultdict(int)
    for plan in plans:
        created[plan.unit.slug] += 1
    audit.record_many(
        acts=[
            audit.Act(
                actor=actor,
                action="holding.load",
                object="holding",
                before={"file": before.source_digest} if before else None,
                after={"file": digest},
                details={"file": digest, "changes": list(changes)[:200]},
            ),
            *(
                audit.Act(
                    actor=actor,
                    action="unit.staff",
                    object=f"unit/{slug}",
                    after={"seats": seats},
                    details={"seats": seats},
                )
                for slug, seats in created.items()
            ),
        ],
        correlation_id=f"load-{digest[:16]}",
    )


# --- staffing --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Appointment:
    """A seat's new agent and the one before it."""

    seat: Seat
    division: str  # key
    old: Agent | None  # None: the seat was vacant
    new: Agent

    @property
    def replaced(self) -> Agent:
        """The agent before. Raises ValueError for a seat that was vacant: nobody was replaced there."""
        if self.old is None:
            raise ValueError(f"{self.seat} was vacant.")
        return self.old


def appoint(
    *,
    seats: Iterable[tuple[int, int]],
    actor: str,
    reason: str,
    correlation_id: str = "",
    vacant: bool = False,
) -> list[Appointment]:
    """Give each seat a new agent of the next generation, in the caller's transaction.

    `seats` are (seat id, generation that is to be replaced). A seat that has moved on meanwhile is left
    alone, so the same call twice appoints once; and so is one that was vacated, unless `vacant` seats are
    to be staffed. The old agent is retired, its incumbency ended; one ledger entry per seat, one manifest per
    division touched. Returns what was done, by seat.
    """
    expected = dict(seats)
    locked = (
        Seat.objects.select_for_update(of=("self",))
        .select_related("unit", "role", "body", "division")
        .filter(pk__in=expected)
        .order_by("pk")
    )
    moving = [seat for seat in locked if seat.generation == expected[seat.pk]]
    old = {agent.seat_id: agent for agent in Agent.objects.in_office().filter(seat__in=moving)}
    moving = [seat for seat in moving if vacant or seat.pk in old]
    if not moving:
        return []
    now = timezone.now()
    ids = [seat.pk for seat in moving]
    Agent.objects.filter(pk__in=[agent.pk for agent in old.values()]).update(retired_at=now)
    Incumbency.objects.filter(seat_id__in=ids, ended_at=None).update(
        ended_at=Greatest("started_at", Value(now))  # the clock may have been set back
    )
    Seat.objects.filter(pk__in=ids).update(generation=F("generation") + 1)
    blueprints = loading.newest_blueprints()
    created = Agent.objects.bulk_create([_successor(seat, blueprints, at=now) for seat in moving], batch_size=2000)
    Incumbency.objects.bulk_create(
        [
            Incumbency(seat_id=agent.seat_id, agent=agent, generation=agent.generation, started_at=now)
            for agent in created
        ],
        batch_size=2000,
    )
    appointments = [
        Appointment(seat=seat, division=seat.division.key, old=old.get(seat.pk), new=agent)
        for seat, agent in zip(moving, created, strict=True)
    ]
    audit.record_many(
        acts=[_appointment_act(item, actor=actor, reason=reason) for item in appointments],
        correlation_id=correlation_id,
    )
    publish_manifests(division_ids={seat.division_id for seat in moving}, hint=True)
    return appointments


def give_out(*, seat: Seat, actor: str, reason: str, correlation_id: str = "") -> Appointment:
    """Give a seat to an agent with a connection of its own, as its next generation; the hosted one is dismissed.

    Runs in the caller's transaction, with `seat` locked. The manifest that goes out leaves the seat to no host.
    """
    return _hand_over(seat, external=True, actor=actor, reason=reason, correlation_id=correlation_id)


def take_back(*, seat: Seat, actor: str, reason: str, correlation_id: str = "") -> Appointment:
    """Give a seat back to the hosts, under its next generation; as `give_out`."""
    return _hand_over(seat, external=False, actor=actor, reason=reason, correlation_id=correlation_id)


def _hand_over(seat: Seat, *, external: bool, actor: str, reason: str, correlation_id: str) -> Appointment:
    seat.external = external
    seat.save(update_fields=["external"])  # before the manifest is written, which reads it
    done = appoint(
        seats=[(seat.pk, seat.generation)],
        actor=actor,
        reason=reason,
        correlation_id=correlation_id,
        vacant=True,
    )
    return done[0]


def _successor(seat: Seat, blueprints: dict[str, BlueprintVersion], *, at: datetime) -> Agent:
    seat.generation += 1
    holder = seat.role or seat.body
    assert holder is not None, "a seat has a role or a body (constraint seat_of_role_or_body)"  # noqa: S101
    name = loading.agent_id(seat.code, generation=seat.generation, corporate=seat.body_id is not None)
    return Agent(
        unit_id=seat.unit_id,
        seat=seat,
        generation=seat.generation,
        agent_id=name,
        subject=loading.agent_subject(unit=seat.unit.slug, group=holder.slug, agent=name),
        blueprint=blueprints[holder.slug],
        created_at=at,
    )


def _appointment_act(item: Appointment, *, actor: str, reason: str) -> audit.Act:
    return audit.Act(
        actor=actor,
        action="seat.appoint",
        object=f"seat/{item.seat}",
        before={"agent": item.old.subject, "generation": item.old.generation} if item.old else None,
        after={"agent": item.new.subject, "generation": item.new.generation},
        details={
            "reason": reason,
            "old": item.old.subject if item.old else None,
            "new": item.new.subject,
            "generation": item.new.generation,
        },
    )


def unit_ids() -> dict[str, int]:
    """Return each unit's id by its slug (36 rows)."""
    return dict(Unit.objects.values_list("slug", "id"))


def role_choices() -> list[tuple[str, str]]:
    """Return the roles of subsidiaries, then the bodies of the parent company, as (slug, slug)."""
    slugs = [*Role.objects.values_list("slug", flat=True), *Body.objects.values_list("slug", flat=True)]
    return [(slug, slug) for slug in slugs]
