"""Writes of the group's structure: loading it, staffing its seats, telling the hosts."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import connection, transaction
from django.db.models import F, Value
from django.db.models.functions import Greatest
from django.utils import timezone

from audit import services as audit
from bus.rows import insert_rows
from holding import blueprints, files, generator, loading, manifests, standing, surge, transitions
from holding.files import Data
from holding.lifecycle import SeatStage, Stage
from holding.models import Agent, BlueprintVersion, Body, Holding, Incumbency, Role, Seat, Suspension, Unit

LOAD_LOCK = 0x6C6F6164  # "load": one load at a time
SETTINGS = manifests.SETTINGS
publish_manifests = manifests.publish_manifests
manifest_id = manifests.message_id
settings_of = manifests.settings_of
suspend, lift, configure = standing.suspend, standing.lift, standing.configure
vacate, vacant, generations = standing.vacate, standing.vacant, standing.generations
Move, decide_stages, observe_stages = transitions.Move, transitions.decide, transitions.observe
create_surge, reopen_surge, close_surge = surge.create_seats, surge.reopen_seats, surge.close_seats


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


@dataclass(frozen=True, slots=True)
class Terms:
    """How an agent leaves its seat, and who comes: somebody `promoted` from a lower seat, or a new agent (None)."""

    stage: Stage
    reason: str
    promoted: Agent | None = None


def appoint(
    *,
    seats: Iterable[tuple[int, int]],
    actor: str,
    reason: str,
    correlation_id: str = "",
    vacant: bool = False,
    leaving: Stage = Stage.REPLACED,
    terms: Mapping[int, Terms] | None = None,
    versions: Mapping[int, BlueprintVersion] | None = None,
) -> list[Appointment]:
    """Give each seat a new agent of the next generation, in the caller's transaction.

    `seats` are (seat id, generation that is to be replaced). A seat that has moved on meanwhile is left
    alone, so the same call twice appoints once; and so is one that was vacated, unless `vacant` seats are
    to be staffed. The old agent ends in the stage `leaving`, its incumbency with it; `terms` are those of seats (by
    id) where it is otherwise. One ledger entry per seat, one manifest per division touched. The new agent is made
    by the version that is in force for the seat (`holding.blueprints`), or by that which `versions` names for it.
    Returns what was done, by seat.
    """
    usual = Terms(leaving, reason)
    terms = terms or {}
    expected = dict(seats)
    locked = (
        Seat.objects.select_for_update()
        .prefetch_related("unit", "role", "body", "division")  # a few rows, shared by all the seats
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
    last = {seat_id: agent.blueprint_id for seat_id, agent in old.items()}
    made_by = {**blueprints.by_successor(seats=moving, last=last), **(versions or {})}
    transitions.move(
        moves=[_end(agent, terms.get(seat_id, usual)) for seat_id, agent in old.items()],
        actor=actor,
        at=now,
        correlation_id=correlation_id,
    )
    Incumbency.objects.filter(seat_id__in=ids, ended_at=None).update(
        ended_at=Greatest("started_at", Value(now))  # the clock may have been set back
    )
    transitions.move_seats(
        seat_ids=[seat.pk for seat in moving if seat.stage != SeatStage.STAFFED],
        to=SeatStage.STAFFED,
        actor=actor,
        reason=reason,
        at=now,
        correlation_id=correlation_id,
    )
    Seat.objects.filter(pk__in=ids).update(generation=F("generation") + 1)
    Suspension.objects.filter(seat_id__in=ids, order__lt=0).delete()  # isolated was the one before
    created = insert_rows(_successor(seat, made_by[seat.pk], at=now) for seat in moving)
    insert_rows(
        Incumbency(seat_id=agent.seat_id, agent=agent, generation=agent.generation, started_at=now)
        for agent in created
    )
    appointments = [
        Appointment(seat=seat, division=seat.division.key, old=old.get(seat.pk), new=agent)
        for seat, agent in zip(moving, created, strict=True)
    ]
    audit.record_many(
        acts=[_appointment_act(item, actor=actor, terms=terms.get(item.seat.pk, usual)) for item in appointments],
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
        leaving=Stage.RETIRED,  # in order: nothing was lost
    )
    return done[0]


def _end(agent: Agent, terms: Terms) -> transitions.Move:
    return transitions.Move(agent.pk, terms.stage, terms.reason)


def _successor(seat: Seat, version: BlueprintVersion, *, at: datetime) -> Agent:
    seat.generation += 1
    return generator.make_agent(seat=seat, version=version, generation=seat.generation, at=at)


def _appointment_act(item: Appointment, *, actor: str, terms: Terms) -> audit.Act:
    old, new = item.old, item.new
    details = {
        "reason": terms.reason,
        "old": old.subject if old else None,
        "new": new.subject,
        "generation": new.generation,
        "stages": {"old": terms.stage.value if old else None, "new": str(new.stage)},
        "blueprint": str(new.blueprint),
    }
    if terms.promoted is not None:
        details["promoted"] = terms.promoted.subject
    return audit.Act(
        actor=actor,
        action="seat.appoint",
        object=f"seat/{item.seat}",
        before={"agent": old.subject, "generation": old.generation, "stage": str(old.stage)} if old else None,
        after={"agent": new.subject, "generation": new.generation, "stage": str(new.stage)},
        details=details,
    )


def unit_ids() -> dict[str, int]:
    """Return each unit's id by its slug (36 rows)."""
    return dict(Unit.objects.values_list("slug", "id"))


def role_choices() -> list[tuple[str, str]]:
    """Return the roles of subsidiaries, then the bodies of the parent company, as (slug, slug)."""
    slugs = [*Role.objects.values_list("slug", flat=True), *Body.objects.values_list("slug", flat=True)]
    return [(slug, slug) for slug in slugs]
