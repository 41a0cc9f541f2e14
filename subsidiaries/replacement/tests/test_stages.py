"""Where agents stand follows from what is seen and ordered; people isolate them and let them go."""

import pytest
from django.utils import timezone, translation

from audit.models import LedgerEntry
from holding.models import Agent, StageChange, Unit
from holding.tests.factories import make_seat
from iam.access.models import User
from iam.access.rights import NotHeldError, RefusedError
from iam.access.tests.factories import make_person
from subsidiaries.commands import services as commands
from subsidiaries.commands.tests.factories import desired, make_order
from subsidiaries.replacement import isolation, observing, services
from subsidiaries.replacement.models import Census, Replacement, SeatState, StaffingRule
from subsidiaries.replacement.tests.factories import bring_to_life, make_staffed_holding, report


@pytest.fixture
def pricing(db: None) -> Unit:
    make_staffed_holding()
    bring_to_life("pricing")
    return Unit.objects.get(slug="pricing")


def cycle() -> services.Cycle:
    return services.ensure(unit="pricing")


def stage(code: str = "op-0031") -> str:
    return str(Agent.objects.in_office().get(seat__unit__slug="pricing", seat__code=code).stage)


def told(code: str = "op-0031") -> list[tuple[str, str, str]]:
    """What became of the holders of a seat, in order: from, to, why."""
    rows = StageChange.objects.filter(seat=make_seat(code=code)).order_by("pk")
    return list(rows.values_list("old", "new", "reason"))


def cap(times: float) -> None:
    StaffingRule.objects.update(daily_cap=times)


# --- what is seen ------------------------------------------------------------------------------------------


def test_agents_are_provisioning_until_presence_shows_them_live(db: None) -> None:
    make_staffed_holding()
    cycle()
    assert stage() == "provisioning"
    assert not StageChange.objects.exists()
    bring_to_life("pricing")
    cycle()
    assert set(Agent.objects.filter(unit__slug="pricing").values_list("stage", flat=True)) == {"active"}
    assert set(Agent.objects.filter(unit__slug="tax").values_list("stage", flat=True)) == {"provisioning"}
    assert told() == [("provisioning", "active", "first seen live")]
    entry = LedgerEntry.objects.get(action="agent.stages")
    assert (entry.object, entry.actor) == ("unit/pricing", "portal/arp")


def test_a_quiet_cycle_writes_nothing(pricing: Unit) -> None:
    cycle()
    rows, entries = StageChange.objects.count(), LedgerEntry.objects.count()
    cycle()
    assert (StageChange.objects.count(), LedgerEntry.objects.count()) == (rows, entries)


def test_a_later_generation_is_on_probation_for_its_time_and_counts_as_live(pricing: Unit) -> None:
    cycle()
    report("pricing.1", states={"op-0031": "failed"})
    assert cycle().replaced == 1
    assert stage() == "provisioning"
    report("pricing.1")
    cycle()
    assert stage() == "probation"
    assert Census.objects.by_unit(timezone.now())[pricing.pk] == (35, 35)
    StaffingRule.objects.update(probation_s=0)
    cycle()
    assert stage() == "active"
    assert told() == [
        ("provisioning", "active", "first seen live"),
        ("active", "replaced", "arp: failed"),
        ("provisioning", "probation", "first seen live"),
        ("probation", "active", "probation served"),
    ]


def test_a_loss_begins_the_probation_anew(pricing: Unit) -> None:
    cycle()
    report("pricing.1", states={"op-0031": "failed"})
    cycle()
    report("pricing.1")
    cycle()
    cap(0)
    report("pricing.1", states={"op-0031": "failed"})
    cycle()
    assert stage() == "lost"
    StaffingRule.objects.update(probation_s=0)
    report("pricing.1")
    cycle()
    assert stage() == "probation"  # as it was before
    cycle()
    assert stage() == "active"


@pytest.mark.parametrize(("states", "without"), [({"op-0031": "failed"}, ()), ({}, ("op-0031",))])
def test_what_cannot_be_replaced_yet_is_lost_until_it_comes_back(
    pricing: Unit, states: dict[str, str], without: tuple[str, ...]
) -> None:
    cycle()
    cap(0)
    for _ in range(2):  # of a missing one, two reports are wanted
        report("pricing.1", states=states, without=without)
    cycle()
    assert stage() == "lost"
    report("pricing.1")
    cycle()
    assert stage() == "active"
    assert [row[:2] for row in told()] == [
        ("provisioning", "active"), ("active", "lost"), ("lost", "active"),
    ]  # fmt: skip


def test_one_that_was_never_live_is_lost_and_then_seen_first(pricing: Unit) -> None:
    cap(0)
    report("pricing.1", states={"op-0031": "failed"})
    cycle()
    assert stage() == "lost"
    report("pricing.1")
    cycle()
    assert stage() == "active"


# --- what is ordered ---------------------------------------------------------------------------------------


def test_an_order_about_one_seat_suspends_and_a_pause_of_all_does_not(pricing: Unit) -> None:
    cycle()
    whole = commands.issue(order=make_order("pause", "pricing"), actor="ana")
    cycle()
    assert stage() == "active"
    one = commands.issue(order=make_order("pause", "pricing", seat="op-0031"), actor="ana")
    report("pricing.1", states={"op-0031": "paused"})
    cycle()
    assert (stage(), stage("op-0032")) == ("suspended", "active")
    for command in (one, whole):
        commands.issue(order=commands.lifting(command, reason="checked", key=f"lift-{command.pk}"), actor="ana")
    cycle()
    assert stage() == "active"
    assert told()[1:] == [
        ("active", "suspended", "an order about its seat"),
        ("suspended", "active", "no order about its seat stands"),
    ]


def test_a_suspended_agent_that_is_lost_comes_back_suspended(pricing: Unit) -> None:
    cycle()
    commands.issue(order=make_order("pause", "pricing", seat="op-0031"), actor="ana")
    cycle()
    cap(0)
    report("pricing.1", states={"op-0031": "failed"})
    cycle()
    report("pricing.1", states={"op-0031": "paused"})
    cycle()
    assert [row[1] for row in told()] == ["active", "suspended", "lost", "suspended"]


# --- isolated by a person ----------------------------------------------------------------------------------


@pytest.fixture
def ana(pricing: Unit) -> User:
    return make_person(role="subsidiary-head", unit=pricing)


def in_office(code: str = "op-0031") -> Agent:
    return Agent.objects.in_office().select_related("unit").get(seat__unit__slug="pricing", seat__code=code)


def test_an_isolated_agent_is_paused_at_once_and_replaced_by_the_next_cycle(pricing: Unit, ana: User) -> None:
    cycle()
    old = isolation.quarantine_agent(by=ana, agent=in_office(), reason="it sends nonsense")
    assert old.stage == "quarantined"
    assert desired("pricing.1")["31"] == "paused"
    report("pricing.1", states={"op-0031": "paused"})
    assert cycle().replaced == 1
    old.refresh_from_db()
    assert old.stage == "replaced"
    assert desired("pricing.1")["31"] == "run"
    row = Replacement.objects.get()
    assert (row.reason, row.old_agent) == ("quarantine", old)
    report("pricing.1")
    cycle()
    assert [row[1] for row in told()] == ["active", "quarantined", "replaced", "probation"]
    entry = LedgerEntry.objects.get(action="agent.stage")
    assert (entry.actor, entry.object) == ("ana", "seat/pricing/op-0031")


def test_no_resume_lets_an_isolated_agent_run(pricing: Unit, ana: User) -> None:
    cap(0)
    cycle()
    isolation.quarantine_agent(by=ana, agent=in_office(), reason="it sends nonsense")
    commands.issue(order=make_order("pause", "pricing", key="p"), actor="ana")
    commands.issue(order=make_order("resume", "pricing", key="r"), actor="ana")
    assert desired("pricing.1")["31"] == "paused"
    cycle()
    assert stage() == "quarantined"


def test_a_released_agent_runs_again_as_what_it_was(pricing: Unit, ana: User) -> None:
    cap(0)
    cycle()
    isolation.quarantine_agent(by=ana, agent=in_office(), reason="it sends nonsense")
    cycle()
    done = isolation.release_agent(by=ana, agent=in_office(), reason="it was the clock")
    assert done.stage == "active"
    assert desired("pricing.1")["31"] == "run"
    assert told()[-1] == ("quarantined", "active", "it was the clock")


def test_what_cannot_be_isolated_or_released_says_why(pricing: Unit, ana: User) -> None:
    cycle()
    former = in_office()
    with translation.override("en"):
        with pytest.raises(RefusedError, match="not isolated"):
            isolation.release_agent(by=ana, agent=former, reason="r")
        isolation.quarantine_agent(by=ana, agent=former, reason="r")
        with pytest.raises(RefusedError, match="isolated already"):
            isolation.quarantine_agent(by=ana, agent=former, reason="r")
        with pytest.raises(RefusedError):
            isolation.release_agent(by=ana, agent=former, reason="  ")
        cycle()
        with pytest.raises(RefusedError, match="left office"):
            isolation.release_agent(by=ana, agent=former, reason="r")
        agent = in_office("op-0032")
        agent.seat.external = True
        agent.seat.save()
        with pytest.raises(RefusedError, match="withdraw its enrolment"):
            isolation.quarantine_agent(by=ana, agent=agent, reason="r")


def test_only_who_may_retire_agents_there_isolates_them(pricing: Unit) -> None:
    for name, role, unit in [("eva", "subsidiary-head", "tax"), ("ivo", "supervisor", "pricing")]:
        person = make_person(name, role=role, unit=Unit.objects.get(slug=unit))
        with pytest.raises(NotHeldError):
            isolation.quarantine_agent(by=person, agent=in_office(), reason="r")
    assert stage() == "provisioning"


def test_presence_alone_moves_nobody(pricing: Unit) -> None:
    """Stages are the cycle's: what hosts say is taken as fast as ever."""
    assert set(Agent.objects.values_list("stage", flat=True)) == {"provisioning"}
    assert observing.census_drift() == []
    assert SeatState.objects.filter(unit=pricing, state="idle").count() == 35
