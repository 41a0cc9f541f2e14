"""Stages: the table is what both the services and the database go by, and every change is kept."""

import json
from collections.abc import Mapping
from itertools import product

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from audit import services as audit
from audit.models import LedgerEntry
from holding import lifecycle, transitions
from holding.lifecycle import ENDED, NEXT, SEAT_NEXT, IllegalTransitionError, SeatStage, Stage
from holding.models import Agent, Incumbency, Seat, StageChange, Suspension, Unit
from holding.services import appoint, suspend, take_back, vacate
from holding.tests.factories import make_holding, make_seat
from holding.transitions import Move

# Written by hand, beside the table: an edge that comes or goes is to be looked at twice.
EDGES = {
    "requested": "provisioning retired",
    "provisioning": "probation active quarantined lost replaced retired",
    "probation": "active suspended draining quarantined lost replaced retired",
    "active": "suspended draining quarantined lost replaced retired",
    "suspended": "probation active draining quarantined lost replaced retired",
    "draining": "probation active quarantined lost replaced retired",
    "quarantined": "provisioning probation active replaced retired",
    "lost": "probation active suspended draining quarantined replaced retired",
    "retired": "",
    "replaced": "",
}
SEAT_EDGES = {"staffed": "vacant", "vacant": "staffed closed", "closed": "vacant"}


@pytest.fixture
def loaded(db: None) -> None:
    make_holding(subsidiaries=("pricing",))


def agent_of(code: str = "op-0031") -> Agent:
    return Agent.objects.in_office().get(seat__code=code)


def put(agent: Agent, stage: Stage) -> None:
    """Let an agent be in a stage, by the way that is allowed."""
    for step in WAYS[stage]:
        done = timezone.now() if step in ENDED else None
        Agent.objects.filter(pk=agent.pk).update(stage=step, retired_at=done)


WAYS: Mapping[Stage, tuple[Stage, ...]] = {
    Stage.PROVISIONING: (),
    Stage.PROBATION: (Stage.PROBATION,),
    Stage.ACTIVE: (Stage.ACTIVE,),
    Stage.SUSPENDED: (Stage.ACTIVE, Stage.SUSPENDED),
    Stage.DRAINING: (Stage.ACTIVE, Stage.DRAINING),
    Stage.RETIRED: (Stage.RETIRED,),
    Stage.QUARANTINED: (Stage.QUARANTINED,),
    Stage.LOST: (Stage.LOST,),
    Stage.REPLACED: (Stage.REPLACED,),
}


def execute(*statements: str, **values: int) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement, values)


def insert(stage: str, *, generation: int = 99, retired: bool = False) -> Agent:
    """Write an agent by SQL, beside the one in office."""
    old = agent_of()
    Agent.objects.filter(pk=old.pk).update(stage=Stage.REPLACED, retired_at=timezone.now())
    with connection.cursor() as cursor:
        cursor.execute(
            "insert into holding_agent (unit_id, seat_id, generation, agent_id, subject, blueprint_id, created_at,"
            " retired_at, stage) values (%s, %s, %s, 'op-0031-g99', 'org.claytom.pricing.operator.op-0031-g99', %s,"
            " now(), case when %s then now() end, %s) returning id",
            [old.unit_id, old.seat_id, generation, old.blueprint_id, retired, stage],
        )
        return Agent.objects.get(pk=cursor.fetchone()[0])


def test_the_table_is_what_was_decided() -> None:
    assert {old.value: set(news) for old, news in NEXT.items()} == {k: set(v.split()) for k, v in EDGES.items()}
    told = {old.value: set(news) for old, news in SEAT_NEXT.items()}
    assert told == {k: set(v.split()) for k, v in SEAT_EDGES.items()}
    assert {stage for stage, news in NEXT.items() if not news} == ENDED


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("old", list(Stage))
def test_every_pair_is_judged_alike_by_service_and_database(old: Stage) -> None:
    for new in set(Stage) - {old}:
        with transaction.atomic():
            if old == Stage.REQUESTED:  # an agent in office begins as another stage
                agent = insert(old.value)
            else:
                agent = agent_of()
                put(agent, old)
            legal = new in EDGES[old].split()
            assert _by_service(agent, new) is legal, f"{old} > {new} by the service"
            assert _by_sql(agent, new) is legal, f"{old} > {new} by SQL"
            transaction.set_rollback(True)


def _by_service(agent: Agent, new: Stage) -> bool:
    with transaction.atomic():
        try:
            moves = [Move(agent.pk, new, "test")]
            done = transitions.decide(moves=moves, actor="test", at=timezone.now())
        except IllegalTransitionError:
            return StageChange.objects.filter(agent=agent).exists()
        row = StageChange.objects.get(agent=agent)
        assert (row.new, row.actor, row.reason) == (new, "test", "test")
        assert len(done) == 1
        transaction.set_rollback(True)
        return True


def _by_sql(agent: Agent, new: Stage) -> bool:
    retired = "now()" if new in ENDED else "null"
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                f"update holding_agent set stage = %s, retired_at = {retired} where id = %s",  # noqa: S608
                [new.value, agent.pk],
            )
            transaction.set_rollback(True)
    except IntegrityError as error:
        return "cannot become" not in str(error)  # any other refusal is a fault
    return True


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("stage", list(Stage))
def test_an_agent_begins_only_as_the_table_says(stage: Stage) -> None:
    if stage in lifecycle.FIRST:
        assert insert(stage.value).stage == stage
        return
    with pytest.raises(IntegrityError, match=f"cannot begin as {stage}"), transaction.atomic():
        insert(stage.value, retired=stage in ENDED)


@pytest.mark.usefixtures("loaded")
def test_every_pair_of_seats_is_judged_alike_by_service_and_database() -> None:
    seat = make_seat()
    for old, new in product(SeatStage, SeatStage):
        if old == new:
            continue
        with transaction.atomic():
            for step in {"vacant": ("vacant",), "closed": ("vacant", "closed")}.get(old.value, ()):
                Seat.objects.filter(pk=seat.pk).update(stage=step)
            legal = new in SEAT_EDGES[old].split()
            try:
                with transaction.atomic():
                    transitions.move_seats(
                        seat_ids=[seat.pk], to=new, actor="test", reason="test", at=timezone.now()
                    )
                    transaction.set_rollback(True)
                moved = True
            except IllegalTransitionError:
                moved = False
            assert moved is legal, f"{old} > {new} by the service"
            try:
                with transaction.atomic():
                    Seat.objects.filter(pk=seat.pk).update(stage=new)
                written = True
            except IntegrityError:
                written = False
            assert written is legal, f"{old} > {new} by SQL"
            transaction.set_rollback(True)


# --- what the stage is tied to -----------------------------------------------------------------------------


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize(
    "change",
    [
        "update holding_agent set stage = 'retired' where id = %(agent)s",
        "update holding_agent set stage = 'active', retired_at = now() where id = %(agent)s",
        "update holding_agent set retired_at = now() where id = %(agent)s",
    ],
)
def test_a_stage_and_being_in_office_agree(change: str) -> None:
    with pytest.raises(IntegrityError, match="agent_stage_of_office"), transaction.atomic():
        execute(change, agent=agent_of().pk)


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize(
    "change",
    [
        "update holding_seat set stage = 'vacant' where id = %(seat)s",
        "update holding_incumbency set ended_at = clock_timestamp() where seat_id = %(seat)s",
    ],
)
def test_a_seat_is_staffed_while_somebody_holds_it(change: str) -> None:
    with pytest.raises(IntegrityError, match="holder"), transaction.atomic():
        execute(change, "set constraints all immediate", seat=make_seat().pk)


@pytest.mark.usefixtures("loaded")
def test_what_has_happened_is_not_altered() -> None:
    with transaction.atomic():
        moves = [Move(agent_of().pk, Stage.ACTIVE, "test")]
        transitions.decide(moves=moves, actor="test", at=timezone.now())
    for change in ("update holding_stagechange set actor = 'nobody'", "delete from holding_stagechange"):
        with pytest.raises(IntegrityError, match="not altered"), transaction.atomic():
            execute(change)


# --- who moves them ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("loaded")
def test_a_load_leaves_all_to_be_seen() -> None:
    assert set(Agent.objects.values_list("stage", flat=True)) == {"provisioning"}
    assert set(Seat.objects.values_list("stage", flat=True)) == {"staffed"}
    assert not StageChange.objects.exists()


@pytest.mark.usefixtures("loaded")
def test_an_appointment_replaces_the_old_agent_and_says_so() -> None:
    seat, old = make_seat(), agent_of()
    (done,) = appoint(seats=[(seat.pk, 1)], actor="arp", reason="arp: failed", correlation_id="c-1")
    old.refresh_from_db()
    assert (old.stage, done.new.stage) == ("replaced", "provisioning")
    row = StageChange.objects.get(seat=seat)
    assert (row.agent, row.old, row.new, row.actor, row.reason, row.correlation_id, row.at) == (
        old, "provisioning", "replaced", "arp", "arp: failed", "c-1", old.retired_at,
    )  # fmt: skip
    details = json.loads(bytes(LedgerEntry.objects.get(action="seat.appoint").body))["details"]
    assert details["stages"] == {"old": "replaced", "new": "provisioning"}


@pytest.mark.usefixtures("loaded")
def test_who_gives_way_in_order_is_retired() -> None:
    old = agent_of()
    seat = Seat.objects.select_related("unit").get(pk=old.seat_id)
    take_back(seat=seat, actor="ana", reason="back to the hosts")
    old.refresh_from_db()
    assert old.stage == "retired"


@pytest.mark.usefixtures("loaded")
def test_a_vacated_seat_is_vacant_until_it_is_staffed_again() -> None:
    seat, old = make_seat(), agent_of()
    retired = Suspension.Desired.RETIRED
    suspend(division_ids=[seat.division_id], seat_id=seat.pk, desired=retired, order=7, actor="ana", reason="r")
    vacate(division_ids=[seat.division_id], actor="ana", reason="no work", at=timezone.now(), correlation_id="c-7")
    seat.refresh_from_db()
    old.refresh_from_db()
    assert (seat.stage, old.stage) == ("vacant", "retired")
    entry = LedgerEntry.objects.get(action="agent.stage")
    assert (entry.actor, entry.object, entry.correlation_id) == ("ana", "seat/pricing/op-0031", "c-7")
    appoint(seats=[(seat.pk, 1)], actor="ana", reason="work again", vacant=True)
    seat.refresh_from_db()
    assert seat.stage == "staffed"
    rows = StageChange.objects.filter(seat=seat).order_by("pk").values_list("agent_id", "old", "new")
    assert list(rows) == [
        (old.pk, "provisioning", "retired"), (None, "staffed", "vacant"), (None, "vacant", "staffed"),
    ]  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute("set constraints all immediate")
    assert Incumbency.objects.filter(seat=seat, ended_at=None).count() == 1


@pytest.mark.usefixtures("loaded")
def test_what_was_seen_of_many_is_one_entry_whose_digest_the_rows_bear_out() -> None:
    unit = Unit.objects.get(slug="pricing")
    agents = list(Agent.objects.filter(unit=unit).order_by("pk"))
    moves = [Move(agent.pk, Stage.ACTIVE, "seen") for agent in agents[1:]]
    moves.append(Move(agents[0].pk, Stage.LOST, "seen"))
    done = transitions.observe(unit=unit, moves=moves, actor="portal/arp", at=timezone.now())
    assert len(done) == len(agents) == 35
    entry = LedgerEntry.objects.get(action="agent.stages")
    details = json.loads(bytes(entry.body))["details"]
    assert (details["agents"], details["moves"]) == (
        35, {"provisioning > active": 34, "provisioning > lost": 1},
    )  # fmt: skip
    rows = StageChange.objects.filter(correlation_id=entry.correlation_id)
    assert details["rows"] == transitions.digest(rows.values_list("agent_id", "old", "new", "reason"))
    while audit.seal():
        pass
    assert audit.verify().ok
    assert transitions.observe(unit=unit, moves=moves, actor="portal/arp", at=timezone.now()) == []
    assert LedgerEntry.objects.filter(action="agent.stages").count() == 1


@pytest.mark.usefixtures("loaded")
def test_one_that_cannot_go_keeps_all_where_they_are() -> None:
    first, second = agent_of("op-0031"), agent_of("op-0032")
    moves = [Move(first.pk, Stage.ACTIVE, "seen"), Move(second.pk, Stage.SUSPENDED, "wrong")]
    with pytest.raises(IllegalTransitionError, match="op-0032-g1 is provisioning: it cannot become suspended"):
        transitions.decide(moves=moves, actor="test", at=timezone.now())
    assert agent_of("op-0031").stage == "provisioning"
    assert not StageChange.objects.exists()
