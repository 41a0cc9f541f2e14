"""The controller against a model: crashes, losses, duplicated and reordered messages, partitions, two controllers
on two connections, clocks that step.

Never two holders of a seat, never a lost seat, nobody replaced without cause, and the floor restored whenever there
is capacity.
"""

import os
import secrets
import sys
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from django.db import connection
from django.db.models import Count, F
from django.utils import timezone
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from holding.models import Agent, Incumbency, Seat
from subsidiaries.replacement import observing, services
from subsidiaries.replacement.models import DoubleHolder, Monitor, Replacement, StaffingRule
from subsidiaries.replacement.tests.factories import make_staffed_holding
from subsidiaries.replacement.tests.world import UNIT, Clock, Shard, World

pytestmark = pytest.mark.long

STEPS = 10_000
FULL_STEPS = 50_000
SEED = int(os.environ.get("ARP_SEED") or secrets.randbelow(2**32))
CHECK_EVERY = 25

SHARDS = st.integers(0, 4)
SEATS = st.integers(0, 6)
HELD = """
    select count(*) filter (where seats <> 1), count(*) from (
        select s.id, count(a.id) filter (where a.retired_at is null and a.generation = s.generation) as seats
          from holding_seat s left join holding_agent a on a.seat_id = s.id and a.retired_at is null
          join holding_unit u on u.id = s.unit_id where u.slug = %s group by s.id) each
"""


class Controller(RuleBasedStateMachine):
    """One life of the world; it goes on from where the last one healed."""

    clock: ClassVar[Clock]
    steps: ClassVar[int] = 0
    idle: bool = False

    @initialize()
    def begin(self) -> None:
        self.world = World(self.clock)
        self.seen = Replacement.objects.count()
        self.turn = 0
        self.cycled = False
        for shard in self.world.shards:
            self.world.report(shard, full=True)
        self.world.deliver(self.world.flight)
        self.world.flight.clear()

    def shard(self, number: int) -> Shard:
        return self.world.shards[number]

    # -- what happens to agents and hosts -------------------------------------------------------------------

    @rule(number=SHARDS, at=SEATS)
    def crash(self, number: int, at: int) -> None:
        shard = self.shard(number)
        self.world.crash(shard, sorted(shard.agents)[at % len(shard.agents)] if shard.agents else "")

    @rule(number=SHARDS, at=SEATS)
    def lose(self, number: int, at: int) -> None:
        shard = self.shard(number)
        if len(shard.agents) > 1:
            self.world.lose(shard, sorted(shard.agents)[at % len(shard.agents)])

    @rule(number=SHARDS, slowly=st.booleans())
    def take_up(self, number: int, slowly: bool) -> None:
        self.world.take_up(self.shard(number), slowly=slowly)

    @rule(number=SHARDS)
    def started(self, number: int) -> None:
        self.world.started(self.shard(number))

    @rule(number=SHARDS)
    def move(self, number: int) -> None:
        self.world.move(self.shard(number))

    @rule(number=SHARDS, off=st.booleans())
    def partition(self, number: int, off: bool) -> None:
        self.shard(number).cut_off = off

    @rule(there=st.booleans())
    def capacity(self, there: bool) -> None:
        self.world.capacity = there

    # -- what the bus does ----------------------------------------------------------------------------------

    @rule(number=SHARDS, full=st.booleans())
    def report(self, number: int, full: bool) -> None:
        self.world.report(self.shard(number), full=full)

    @rule()
    def report_all(self) -> None:
        for shard in self.world.shards:
            self.world.report(shard, full=True)

    @rule(at=st.integers(0, 30), keep=st.booleans())
    def deliver_one(self, at: int, keep: bool) -> None:
        """Deliver any message, whatever came before it; it may come again."""
        flight = self.world.flight
        if flight:
            place = at % len(flight)
            self.world.deliver([flight[place] if keep else flight.pop(place)])

    @rule(backwards=st.booleans())
    def deliver_all(self, backwards: bool) -> None:
        flight = self.world.flight
        self.world.deliver(flight[::-1] if backwards else flight)
        flight.clear()

    @rule(at=st.integers(0, 30))
    def drop(self, at: int) -> None:
        if self.world.flight:
            self.world.flight.pop(at % len(self.world.flight))

    # -- what the portal does -------------------------------------------------------------------------------

    @rule(two=st.booleans(), number=SHARDS, at=SEATS)
    def cycle(self, two: bool, number: int, at: int) -> None:
        """Let one controller run a cycle, or two at once; never after another without anything in between."""
        if self.idle:
            self.crash(number, at)
            self.world.deliver(self.world.flight)
        self.cycled = True
        if two:
            self.world.two_cycles()
        else:
            services.ensure(unit=UNIT)

    @rule(seconds=st.sampled_from([1, 3, 10, 16, 31, 61, 301]))
    def wait(self, seconds: int) -> None:
        self.clock.wait(seconds)

    @rule(seconds=st.sampled_from([-3600, -60, -5, 5, 60, 3600]))
    def set_clock(self, seconds: int) -> None:
        self.clock.shift += timedelta(seconds=seconds)

    # -- what must hold -------------------------------------------------------------------------------------

    @invariant()
    def count(self) -> None:
        Controller.steps += 1  # not of the life: each is of a class of its own
        if not hasattr(self, "world"):
            return
        self.turn += 1
        self.idle, self.cycled = self.cycled, False
        self.world.flight = self.world.flight[-20:]
        if self.turn % CHECK_EVERY == 0:
            self.check()

    def check(self) -> None:
        """No seat has two holders or none, none is lost, and nobody was replaced without cause."""
        with connection.cursor() as cursor:
            cursor.execute(HELD, [UNIT])
            assert cursor.fetchone() == (0, 35), "a seat with two agents in office, or none"
        assert DoubleHolder.objects.count() == 0
        assert observing.census_drift() == []
        fields = ("seat__division__key", "seat__code", "generation", "reason", "old_agent", "promoted_from")
        new = list(Replacement.objects.filter(unit__slug=UNIT).order_by("pk").values_list(*fields)[self.seen :])
        promoted = {agent for *_, agent in new}
        for key, code, generation, reason, agent, _ in new:
            self.seen += 1
            cause = (key, code, generation - 1)
            if reason == Replacement.Reason.PROMOTION:
                assert agent in promoted, f"{cause} was promoted to no seat"
            else:
                self.must_have_cause(cause, reason)

    def must_have_cause(self, cause: tuple[str, str, int], reason: str) -> None:
        if cause not in self.world.amiss:  # an assert would print the whole set, which takes longer than the test
            raise AssertionError(f"{cause} was well, and was replaced as {reason}")

    def teardown(self) -> None:
        """Whatever happened, with capacity every seat is live again, in good time."""
        if not hasattr(self, "world"):
            return
        try:
            self.world.heal()
            self.check()
        finally:
            self.world.close()


def run_steps(monkeypatch: pytest.MonkeyPatch, wanted: int) -> None:
    """Run lives until so many steps are made; each begins with a seed that follows from the printed one."""
    make_staffed_holding()
    StaffingRule.objects.update(daily_cap=1e6)
    clock = Clock(timezone.now())
    monkeypatch.setattr(timezone, "now", clock.now)
    Monitor.objects.update(since=clock.now() - timedelta(hours=1), last_at=clock.now())
    Controller.clock, Controller.steps = clock, 0
    rounds = 0
    while Controller.steps < wanted:
        machine = seed(SEED + rounds)(_machine())
        run_state_machine_as_test(machine, settings=SETTINGS)
        rounds += 1


def say_seed(capsys: pytest.CaptureFixture[str]) -> None:
    """Print the seed; the environment variable of that name makes the run the same again."""
    with capsys.disabled():
        sys.stdout.write(f"\nARP_SEED={SEED}\n")


def _machine() -> Any:
    return type("Controller", (Controller,), {})


SETTINGS = settings(
    max_examples=4,
    stateful_step_count=400,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)


@pytest.mark.django_db(transaction=True)
def test_the_controller_keeps_every_seat(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    say_seed(capsys)
    run_steps(monkeypatch, STEPS)
    _settled()


@pytest.mark.full
@pytest.mark.django_db(transaction=True)
def test_the_controller_keeps_every_seat_for_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    say_seed(capsys)
    run_steps(monkeypatch, FULL_STEPS)
    _settled()


def _settled() -> None:
    """Every generation has its replacement, and every seat one incumbency that is open."""
    seats = Seat.objects.filter(unit__slug=UNIT)
    made = sum(seats.values_list("generation", flat=True)) - seats.count()
    assert made == Replacement.objects.filter(unit__slug=UNIT).count()
    assert made > 0
    open_ones = Incumbency.objects.filter(seat__in=seats, ended_at=None).values("seat").annotate(n=Count("pk"))
    assert {row["n"] for row in open_ones} == {1}
    assert not Agent.objects.in_office().exclude(generation=F("seat__generation")).exists()
