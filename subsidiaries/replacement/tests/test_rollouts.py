"""A rollout: it never falls below the floor, stops when its agents fail, and takes each step once."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta

import psycopg
import pytest
from django.db import IntegrityError, OperationalError, connection, connections, transaction
from django.db.models import F
from django.utils import timezone, translation

from audit.models import LedgerEntry
from holding import blueprints
from holding.models import Agent, BlueprintVersion, Seat, Suspension, Unit
from holding.tests.factories import make_holding, make_version
from iam.access.models import User
from iam.access.rights import NotHeldError, RefusedError
from iam.access.tests.factories import make_person
from subsidiaries.performance.senders import Directory, SenderError
from subsidiaries.replacement import observing, rollout_orders, services
from subsidiaries.replacement.models import (
    Census,
    DivisionState,
    Incident,
    Monitor,
    Replacement,
    SeatState,
    StaffingRule,
)
from subsidiaries.replacement.rollout_models import CrashRule, Rollout, RolloutSeat, RolloutUnit, SurgeSeat
from subsidiaries.replacement.rollout_orders import Order
from subsidiaries.replacement.tests.hosts import Hosts, manifest_of

pytestmark = pytest.mark.long

AGENTS = 65  # of which 35 operators, seven in each division
FLOOR = AGENTS
WHOLE = 1500  # as in the real holding


def load(*units: str, agents: int = AGENTS) -> Hosts:
    """Load units that are full and heard of, and return their hosts."""
    make_holding(agents=agents, subsidiaries=units)
    observing.ensure_states()
    now = timezone.now()
    Monitor.objects.create(since=now - timedelta(minutes=10), last_at=now)
    hosts = Hosts(*units)
    hosts.report(instantly=True)
    for unit in units:
        services.ensure(unit=unit)
    return hosts


def head(name: str = "head") -> User:
    """Return somebody who may roll out everywhere."""
    known = User.objects.filter(username=name).first()
    if known is not None:
        return known
    return make_person(name)


def start(version: BlueprintVersion, unit: str = "pricing", **numbers: int) -> Rollout:
    """Start a rollout whose canary is not observed for longer than it takes to be live."""
    settings = {"observe_s": 0, "canary": 10, "wave": 6, "surge": 4, "halt_above": 10} | numbers
    place = Unit.objects.get(slug=unit) if unit else None
    key = f"k-{version.pk}-{unit}-{Rollout.objects.count()}"
    return rollout_orders.start(
        order=Order(version=version, reason="better", key=key, unit=place, **settings), by=head()
    )


def live(unit: str = "pricing") -> int:
    """Return how many agents of the unit the recorded presence shows live, counted by row."""
    return SeatState.objects.filter(unit__slug=unit, state__in=("idle", "busy", "paused")).count()


def made_by(unit: str = "pricing", role: str = "operator") -> Counter[int]:
    """Return how many agents in office of the establishment each version number made."""
    agents = Agent.objects.in_office().filter(unit__slug=unit, seat__role__slug=role, seat__surge=None)
    return Counter(agents.values_list("blueprint__version", flat=True))


def go(
    hosts: Hosts, rollout: Rollout, *, bad: tuple[str, ...] = (), unit: str = "pricing", most: int = 120
) -> list[int]:
    """Let cycles and reports follow each other until the rollout has ended and no temporary seat is open.

    Return the number of live agents that was recorded after each cycle and each report.
    """
    seen = []
    for _ in range(most):
        services.ensure(unit=unit)
        seen.append(live(unit))
        hosts.report(bad=bad)
        seen.append(live(unit))
        rollout.refresh_from_db()
        if rollout.state not in Rollout.GOING and not SurgeSeat.objects.filter(closed_at=None).exists():
            return seen
    raise AssertionError(f"still {rollout.state} after {most} cycles: {made_by(unit)}")


@pytest.fixture
def english() -> Iterator[None]:
    with translation.override("en"):
        yield


@pytest.fixture
def hosts(db: None, english: None) -> Iterator[Hosts]:
    yield load("pricing")
    assert observing.census_drift() == []


def test_a_rollout_never_falls_below_the_floor_by_one_agent(hosts: Hosts) -> None:
    new = make_version(params={"drag": 0.1})
    rollout = start(new)
    seen = go(hosts, rollout)
    assert rollout.state == "done"
    assert made_by() == {2: 35}
    assert min(seen) >= FLOOR
    assert max(seen) > FLOOR  # there were temporary seats
    assert live() == FLOOR
    assert not Incident.objects.exists()
    seats = Seat.objects.filter(unit__slug="pricing", role__slug="operator", surge=None)
    assert set(seats.values_list("generation", flat=True)) == {2}  # each was changed once
    assert set(Replacement.objects.values_list("reason", flat=True)) == {"rollout"}


@pytest.mark.full
def test_a_rollout_over_a_whole_subsidiary_never_falls_below_the_floor(db: None, english: None) -> None:
    hosts = load("pricing", agents=WHOLE)
    rollout = start(make_version(), canary=5, wave=75, surge=75)
    seen = go(hosts, rollout, most=400)
    assert (rollout.state, min(seen)) == ("done", WHOLE)
    assert made_by() == {2: WHOLE - 30}
    assert live() == WHOLE
    assert observing.census_drift() == []


@pytest.mark.parametrize("role", ["director", "coordinator", "specialist", "innovator"])
def test_a_role_of_few_seats_is_rolled_out_within_its_quota(hosts: Hosts, role: str) -> None:
    rollout = start(make_version(role), wave=3, surge=1)
    quota = Seat.objects.filter(unit__slug="pricing", role__slug=role).count()
    states = SeatState.objects.filter(unit__slug="pricing", role=role, state="idle")
    for _ in range(60):
        services.ensure(unit="pricing")
        assert (live(), states.count()) >= (FLOOR, quota)
        assert states.count() >= quota
        hosts.report()
        assert states.count() >= quota
        rollout.refresh_from_db()
        if rollout.state == "done" and not SurgeSeat.objects.filter(closed_at=None).exists():
            break
    assert made_by(role=role) == {2: quota}


def test_the_bodies_of_the_parent_company_are_rolled_out_too(db: None, english: None) -> None:
    make_holding(agents=AGENTS, subsidiaries=("pricing",))
    observing.ensure_states()
    Monitor.objects.create(since=timezone.now() - timedelta(minutes=10), last_at=timezone.now())
    hosts = Hosts("corporate")
    hosts.report(instantly=True)
    rollout = start(make_version("c-suite"), unit="corporate", wave=4, surge=2)
    seen = go(hosts, rollout, unit="corporate")
    assert min(seen) >= Unit.objects.get(slug="corporate").floor
    office = Agent.objects.in_office().filter(seat__body__slug="c-suite", seat__surge=None)
    assert set(office.values_list("blueprint__version", flat=True)) == {2}


def test_temporary_seats_are_used_again_and_leave_no_trace_in_the_census(hosts: Hosts) -> None:
    go(hosts, start(make_version()))
    first = set(SurgeSeat.objects.values_list("seat_id", flat=True))
    assert Suspension.objects.filter(seat__in=first, desired="retired").count() == len(first)
    go(hosts, start(make_version()))
    assert set(SurgeSeat.objects.values_list("seat_id", flat=True)) == first
    assert observing.ensure_states() == 0
    seats, alive = Census.objects.by_unit(timezone.now())[Unit.objects.get(slug="pricing").pk]
    assert (seats, alive) == (AGENTS, AGENTS)
    assert not SeatState.objects.filter(seat__in=first).exists()


def test_a_bad_canary_stops_at_its_percentage_and_rolls_back(hosts: Hosts) -> None:
    new = make_version(params={"drag": 0.9})
    rollout = start(new, canary=10, wave=2)
    seen = go(hosts, rollout, bad=(new.digest,))
    assert rollout.state == "returned"
    assert "agents failed" in bytes(LedgerEntry.objects.get(action="rollout.returning").body).decode()
    assert RolloutSeat.objects.filter(rollout=rollout).count() <= 4  # of 35, ten per cent
    assert made_by() == {1: 35}
    assert live() == FLOOR
    # What failed was lost, not taken: at most the canary's failures were missing at any time.
    assert min(seen) >= FLOOR - 4


def test_one_failed_canary_within_the_threshold_stops_nothing(hosts: Hosts) -> None:
    new = make_version()
    rollout = start(new, canary=20, wave=7, halt_above=20)
    services.ensure(unit="pricing")
    while not (rows := list(RolloutSeat.objects.filter(state="begun"))):
        hosts.report(instantly=True)
        services.ensure(unit="pricing")
    hosts.report(instantly=True)
    SeatState.objects.filter(pk=rows[0].seat_id).update(state="failed", since=timezone.now())
    observing.recount(division_ids=[Seat.objects.get(pk=rows[0].seat_id).division_id])
    go(hosts, rollout)
    assert rollout.state == "done"
    assert RolloutSeat.objects.exclude(failed_at=None).count() == 1
    assert made_by() == {2: 35}


def test_the_canary_is_observed_before_the_rest_begins(hosts: Hosts) -> None:
    rollout = start(make_version(), observe_s=3600)
    for _ in range(10):
        services.ensure(unit="pricing")
        hosts.report()
    rollout.refresh_from_db()
    assert rollout.state == "observing"
    assert RolloutSeat.objects.count() == 4
    Rollout.objects.update(changed_at=timezone.now() - timedelta(hours=2))
    go(hosts, rollout)
    assert made_by() == {2: 35}


def test_a_silent_division_is_neither_changed_nor_held_against_the_version(hosts: Hosts) -> None:
    rollout = start(make_version(), patience_s=10)
    services.ensure(unit="pricing")
    DivisionState.objects.update(seen_at=timezone.now() - timedelta(seconds=20))
    for _ in range(3):
        services.ensure(unit="pricing")
    rollout.refresh_from_db()
    assert (rollout.state, RolloutSeat.objects.count()) == ("canary", 0)


def test_people_pause_resume_roll_back_and_abort_with_a_reason(hosts: Hosts) -> None:
    new = make_version()
    rollout, by = start(new), head()
    with pytest.raises(RefusedError, match="Say why"):
        rollout_orders.pause(rollout=rollout, by=by, reason=" ")
    rollout_orders.pause(rollout=rollout, by=by, reason="a look at it")
    for _ in range(3):
        services.ensure(unit="pricing")
        hosts.report()
    assert not RolloutSeat.objects.exists()
    with pytest.raises(RefusedError, match="at work"):
        rollout_orders.pause(rollout=rollout, by=by, reason="x")
    rollout_orders.resume(rollout=rollout, by=by, reason="fine")
    while made_by()[2] < 10:
        services.ensure(unit="pricing")
        hosts.report()
    rollout_orders.roll_back(rollout=rollout, by=by, reason="customers complain")
    seen = go(hosts, rollout)
    assert (rollout.state, made_by()) == ("returned", {1: 35})
    assert min(seen) >= FLOOR
    with pytest.raises(RefusedError, match="ended already"):
        rollout_orders.abort(rollout=rollout, by=by, reason="x")
    again = start(new)
    while made_by()[2] < 10:
        services.ensure(unit="pricing")
        hosts.report()
    rollout_orders.abort(rollout=again, by=by, reason="not today")
    seen = go(hosts, again)
    assert (again.state, min(seen)) == ("aborted", FLOOR)
    assert made_by()[2] >= 10
    acts = LedgerEntry.objects.filter(object=f"rollout/{again.pk}").order_by("id").values_list("action", flat=True)
    assert acts[0] == "rollout.start"
    assert list(acts)[-1] == "rollout.aborted"


def test_one_rollout_of_a_blueprint_in_a_unit_at_a_time(hosts: Hosts) -> None:
    first, new = start(make_version()), make_version()
    for place in ("pricing", ""):
        with pytest.raises(RefusedError, match=f"Rollout {first.pk} of this blueprint is open in “Pricing”"):
            start(new, place)
    start(make_version("director"))
    second = start(make_version("innovator"))
    with pytest.raises(IntegrityError, match="rollout_one_per_unit"), transaction.atomic():
        RolloutUnit.objects.filter(rollout=second).update(blueprint=first.blueprint)


def test_what_is_no_rollout_is_refused(hosts: Hosts) -> None:
    new, old = make_version(), BlueprintVersion.objects.get(blueprint__slug="operator", version=1)
    draft = blueprints.draft(blueprint=new.blueprint, spec=new.spec, author="ana", note="x")
    with pytest.raises(RefusedError, match="not approved"):
        start(draft)
    with pytest.raises(RefusedError, match="number from 1 to 100"):
        start(new, canary=0)
    with pytest.raises(RefusedError, match="about no agent"):
        start(old)
    nobody = make_person("nobody", role="viewer")
    with pytest.raises(NotHeldError):
        rollout_orders.start(order=Order(version=new, reason="x", key="k"), by=nobody)
    order = Order(version=new, reason="x", key="k", unit=Unit.objects.get(slug="pricing"))
    plan = rollout_orders.preview(order=order, by=head())
    assert [(one.unit.slug, one.agents, one.canaries, one.above, one.surge) for one in plan] == [
        ("pricing", 35, 2, 0, 35)
    ]
    rollout = rollout_orders.start(order=order, by=head())
    assert rollout_orders.start(order=order, by=head()) == rollout
    with pytest.raises(rollout_orders.RolloutKeyTakenError):
        rollout_orders.start(order=Order(version=new, reason="y", key="k", unit=order.unit), by=head())


def test_a_rollout_everywhere_spreads_its_canary_over_the_units(db: None, english: None) -> None:
    hosts = load("pricing", "tax", "data")
    rollout = start(make_version(), "", canary=5)
    parts = dict(RolloutUnit.objects.filter(rollout=rollout).values_list("unit__slug", "canaries"))
    assert sorted(parts.values()) == [2, 2, 2]  # six of 105
    for _ in range(60):
        for unit in parts:
            services.ensure(unit=unit)
            assert live(unit) >= FLOOR
        hosts.report()
        rollout.refresh_from_db()
        if rollout.state == "done":
            break
    assert {unit: made_by(unit) for unit in parts} == {unit: {2: 35} for unit in parts}


def test_a_version_that_crash_loops_is_halted_and_no_seat_waits_for_it(hosts: Hosts) -> None:
    CrashRule.objects.update(least=3)
    new = make_version()
    rollout = start(new, canary=30, wave=12, surge=12, halt_above=100)
    seen = go(hosts, rollout, bad=(new.digest,))
    new.refresh_from_db()
    assert new.halted_at is not None
    assert rollout.state == "returned"
    assert "halted" in rollout.note or LedgerEntry.objects.filter(action="rollout.returning").exists()
    assert made_by() == {1: 35}
    assert live() == FLOOR
    assert seen[-1] == FLOOR
    with pytest.raises(RefusedError, match="halted"):
        start(new)


def test_failures_of_all_versions_alike_halt_none(hosts: Hosts) -> None:
    CrashRule.objects.update(least=3)
    rollout = start(make_version())
    while made_by()[2] < 17:
        services.ensure(unit="pricing")
        hosts.report()
    rollout_orders.pause(rollout=rollout, by=head(), reason="half of them")
    SeatState.objects.filter(role="operator").update(state="failed", since=timezone.now())
    services.ensure(unit="pricing")
    assert not BlueprintVersion.objects.exclude(halted_at=None).exists()


def test_a_version_is_not_halted_for_one_that_nobody_ran_yet(hosts: Hosts) -> None:
    CrashRule.objects.update(least=3)
    make_version()
    SeatState.objects.filter(role="operator").update(state="failed", since=timezone.now())
    assert services.ensure(unit="pricing").replaced == 35
    assert not BlueprintVersion.objects.exclude(halted_at=None).exists()


def test_the_holders_of_a_revoked_version_are_replaced_within_the_limits(hosts: Hosts) -> None:
    new = make_version()
    go(hosts, start(new))
    blueprints.revoke(new, by="bob", reason="it lies")
    StaffingRule.objects.update(missing_per_cycle=10)
    assert services.ensure(unit="pricing").replaced == 10
    hosts.report(instantly=True)
    assert made_by() == {1: 10, 2: 25}
    assert services.ensure(unit="pricing").replaced == 0  # another beat of the same ten seconds
    for _ in range(3):
        Replacement.objects.update(decided_at=F("decided_at") - timedelta(seconds=10))
        services.ensure(unit="pricing")
        hosts.report(instantly=True)
    assert made_by() == {1: 35}
    assert Replacement.objects.filter(reason="revoked").count() == 35
    assert live() == FLOOR


def test_a_rollout_of_a_version_that_is_revoked_goes_back(hosts: Hosts) -> None:
    new = make_version()
    rollout = start(new)
    while made_by()[2] < 8:
        services.ensure(unit="pricing")
        hosts.report()
    blueprints.revoke(new, by="bob", reason="it lies")
    go(hosts, rollout)
    assert (rollout.state, made_by()) == ("returned", {1: 35})


def test_the_manifest_knows_the_temporary_seats(hosts: Hosts) -> None:
    start(make_version())
    services.ensure(unit="pricing")
    codes = set(SurgeSeat.objects.values_list("seat__code", flat=True))
    assert codes
    wanted = {
        f"op-{ordinal}"
        for key in hosts.keys
        for group in manifest_of(key).seats
        for first, last in group.ordinals
        for ordinal in range(first, last + 1)
    }
    assert codes <= wanted
    known = Directory()
    assert known.sender((b"org.claytom.pricing.operator.op-900001-g1", b"")).ordinal == 900_001
    with pytest.raises(SenderError, match="holds no seat"):
        known.sender((b"org.claytom.pricing.operator.op-500000-g1", b""))


# --- at once, and in the middle ----------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("workers", [2, 4])
def test_the_same_step_by_several_workers_is_one_step(workers: int, english: None) -> None:
    hosts = load("pricing")
    rollout = start(make_version(), wave=4, surge=4)
    errors: list[Exception] = []

    def at_once(act: Callable[[], object]) -> None:
        barrier = threading.Barrier(workers)

        def work() -> None:
            try:
                barrier.wait(10)
                act()
            except Exception as error:
                errors.append(error)
            finally:
                connections.close_all()

        threads = [threading.Thread(target=work) for _ in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

    for _ in range(40):
        at_once(lambda: services.ensure(unit="pricing"))
        assert live() >= FLOOR
        hosts.report()
        rollout.refresh_from_db()
        if rollout.state == "done":
            break
    assert errors == []
    assert made_by() == {2: 35}
    generations = Seat.objects.filter(unit__slug="pricing", role__slug="operator", surge=None)
    assert set(generations.values_list("generation", flat=True)) == {2}
    assert SurgeSeat.objects.count() == 4
    assert observing.census_drift() == []


@pytest.mark.django_db(transaction=True)
def test_a_step_whose_process_is_killed_is_taken_once_more_and_nothing_twice(
    postgres_superuser_dsn: str, english: None
) -> None:
    hosts = load("pricing")
    rollout = start(make_version(), wave=4, surge=4)

    def killed_cycle() -> None:
        with connection.cursor() as cursor:
            cursor.execute("select pg_backend_pid(), current_database()")
            pid, database = cursor.fetchone()
        transaction.set_autocommit(False)
        services.ensure(unit="pricing")
        with psycopg.connect(postgres_superuser_dsn, dbname=database, autocommit=True) as other:
            other.execute("select pg_terminate_backend(%s)", [pid])
        with pytest.raises(OperationalError):
            Seat.objects.count()
        connection.close()

    for _ in range(40):
        before = (made_by(), SurgeSeat.objects.count(), RolloutSeat.objects.count(), live())
        killed_cycle()
        assert (made_by(), SurgeSeat.objects.count(), RolloutSeat.objects.count(), live()) == before
        services.ensure(unit="pricing")
        assert live() >= FLOOR
        hosts.report()
        rollout.refresh_from_db()
        if rollout.state == "done":
            break
    assert made_by() == {2: 35}
    assert set(RolloutSeat.objects.values_list("generation", flat=True)) == {2}
    assert SurgeSeat.objects.count() == 4
