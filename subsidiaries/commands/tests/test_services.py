"""What is ordered, what the manifests say then, and what becomes of it."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.utils import timezone, translation

from audit.models import LedgerEntry
from bus.leases import Claim
from holding.models import Agent, Division, Seat, Suspension, Unit
from holding.tests.factories import make_holding
from iam.access.rights import RefusedError
from iam.access.tests.factories import make_person
from subsidiaries.commands import handlers, services
from subsidiaries.commands.models import Command, Target
from subsidiaries.commands.orders import lifting
from subsidiaries.commands.tests.factories import desired, give, make_order, manifest_of, obey, refuse, sent, states
from subsidiaries.replacement import observing
from subsidiaries.replacement import services as replacement
from subsidiaries.replacement.models import Census, Incident, Monitor, SeatState
from subsidiaries.replacement.tests.factories import bring_to_life, give_lease, report, unit_id

pytestmark = pytest.mark.django_db
UNITS = ("pricing", "tax", "data")
assert handlers  # presence is heard once they are imported, as in the process that takes it


@pytest.fixture(autouse=True)
def holding(db: None) -> Iterator[None]:
    make_holding(subsidiaries=UNITS)
    observing.ensure_states()
    now = timezone.now()
    Monitor.objects.create(since=now - timedelta(minutes=10), last_at=now)
    bring_to_life()
    with translation.override("en"):
        yield
    assert observing.census_drift() == []


def late(seconds: int = 31) -> None:
    """Let the time of everything that was sent be over, and the tick come."""
    over = timezone.now() - timedelta(seconds=seconds)
    Target.objects.filter(state="sent").update(begun_at=over - timedelta(seconds=30), due_at=over)
    services.tick()


def state(command: Command) -> str:
    return str(Command.objects.values_list("state", flat=True).get(pk=command.pk))


# --- pause and resume --------------------------------------------------------------------------------------


def test_a_pause_of_everybody_is_some_rows_and_is_confirmed_by_presence_alone() -> None:
    command = give(reason="the whole market is closed")
    assert command.agents == 3 * 35 + 50
    assert Suspension.objects.count() == Division.objects.count() == 3 * 5 + 6
    assert set(desired("pricing.1").values()) | set(desired("corporate.c-suite").values()) == {"paused"}
    assert sent("org.claytom.pricing.command.pause")[0]["reason"] == "the whole market is closed"
    assert set(states(command).values()) == {"sent"}
    report("pricing.1", observed_generation=2)  # the new manifest, but its agents still run
    services.tick()
    assert states(command)["pricing.1"] == "sent"
    obey()
    services.tick()
    assert set(states(command).values()) == {"acknowledged"}
    assert state(command) == "confirmed"
    assert set(SeatState.objects.values_list("state", flat=True)) == {"paused"}
    assert sum(live for _, live in Census.objects.by_unit(timezone.now()).values()) == command.agents
    resume = give("resume")
    assert Suspension.objects.count() == 0
    obey()
    services.tick()
    assert (state(resume), state(command)) == ("confirmed", "lifted")
    assert set(desired("pricing.1").values()) == {"run"}


def test_a_paused_unit_is_no_loss_to_arp() -> None:
    give(unit="pricing")
    obey()
    cycle = replacement.ensure(unit="pricing")
    assert (cycle.live, cycle.replaced, cycle.deficit) == (35, 0, 0)
    assert not Incident.objects.exists()


@pytest.mark.parametrize(
    ("about", "paused"),
    [
        ({"unit": "pricing", "role": "director"}, {"1"}),
        ({"division": "pricing.1", "role": "operator"}, {"31"}),
        ({"unit": "pricing", "seat": "op-0031"}, {"31"}),
        ({"role": "innovator"}, {"26"}),
    ],
)
def test_a_pause_is_about_what_it_names_and_nobody_else(about: dict[str, str], paused: set[str]) -> None:
    give(**about)
    assert {key for key, wanted in desired("pricing.1").items() if wanted == "paused"} == paused
    assert {key for key, wanted in desired("tax.1").items() if wanted == "paused"} == (
        paused if set(about) == {"role"} else set()
    )
    for key in ("pricing.1", "tax.1"):
        seats = Seat.objects.with_desired().filter(division__key=key)
        assert {str(seat.ordinal): seat.desired for seat in seats} == desired(key)  # type: ignore[attr-defined]


def test_a_seat_paused_by_two_orders_runs_when_both_are_lifted() -> None:
    whole = give(unit="pricing")
    one = give(unit="pricing", seat="op-0031")
    give_back = services.issue(order=lifting(whole, reason="over", key="k-1"), actor="ana")
    assert {key for key, wanted in desired("pricing.1").items() if wanted == "paused"} == {"31"}
    obey("pricing.1", "pricing.2", "pricing.3", "pricing.4", "pricing.5")
    services.tick()
    assert state(give_back) == "confirmed"
    services.issue(order=lifting(one, reason="over", key="k-2"), actor="ana")
    assert set(desired("pricing.1").values()) == {"run"}
    with pytest.raises(RefusedError, match="stands no more"):
        services.issue(order=lifting(one, reason="over", key="k-3"), actor="ana")


@pytest.mark.parametrize(
    "narrower",
    [
        {"unit": "pricing"},
        {"division": "pricing.1"},
        {"unit": "pricing", "role": "operator"},
        {"unit": "pricing", "seat": "op-0031"},
        {"role": "director"},
    ],
)
def test_a_narrower_resume_inside_a_wider_pause_is_refused_and_says_why(narrower: dict[str, str]) -> None:
    wide = give(reason="audit")
    with pytest.raises(RefusedError, match=rf"command {wide.pk} of ana \(audit\), which is about more"):
        give("resume", **narrower)
    assert set(desired("pricing.1").values()) == {"paused"}


def test_a_resume_gives_back_all_that_is_within_it() -> None:
    inner = [
        give(unit="pricing", role="operator"),
        give(division="pricing.2"),
        give(unit="pricing", seat="di-0001"),
    ]
    elsewhere = give(unit="tax")
    give("resume", "pricing")
    assert set(desired("pricing.1").values()) | set(desired("pricing.2").values()) == {"run"}
    assert {state(one) for one in inner} == {"lifted"}
    assert set(desired("tax.1").values()) == {"paused"}
    assert state(elsewhere) == "rolling-out"
    with pytest.raises(RefusedError, match="Nothing of this is paused"):
        give("resume", "pricing")


def test_the_agent_of_a_paused_seat_that_is_replaced_is_paused_too() -> None:
    give(unit="pricing", seat="op-0031")
    report("pricing.1", states={"op-0031": "failed"}, observed_generation=1)
    assert replacement.ensure(unit="pricing").replaced == 1
    assert manifest_of("pricing.1").generations == {"31": 2}
    assert desired("pricing.1")["31"] == "paused"


# --- how it ends -------------------------------------------------------------------------------------------


def test_what_is_not_obeyed_in_time_expires_and_is_noted_when_it_comes_late() -> None:
    command = give(unit="pricing")
    obey("pricing.1", "pricing.2", "pricing.3")
    late()
    assert sorted(states(command).values()) == ["acknowledged"] * 3 + ["expired"] * 2
    assert state(command) == "incomplete"
    obey("pricing.4")
    target = Target.objects.get(command=command, division__key="pricing.4")
    assert target.state == "expired"
    assert target.acknowledged_at is not None
    counts = Target.objects.counted(timezone.now(), of=[command.pk])[command.pk]
    assert (counts.total, counts.acknowledged, counts.expired, counts.late) == (5, 3, 2, 1)


def test_what_waits_is_shown_as_expired_without_any_process_that_notes_it() -> None:
    command = give(unit="pricing")
    over = timezone.now() + timedelta(seconds=31)
    counts = Target.objects.counted(over, of=[command.pk])[command.pk]
    assert (counts.open, counts.expired) == (0, 5)


def test_a_host_that_cannot_obey_says_why() -> None:
    command = give(unit="pricing")
    refuse("pricing.2", "this host has no worker 'quantum'")
    target = Target.objects.get(command=command, division__key="pricing.2")
    assert (target.state, target.words) == ("refused", "host-a: this host has no worker 'quantum'")
    obey("pricing.1", "pricing.3", "pricing.4", "pricing.5")
    services.tick()
    assert state(command) == "incomplete"


def test_an_older_manifest_or_a_zombie_acknowledges_nothing() -> None:
    obey("pricing.1", epoch=9)
    command = give(unit="pricing")
    obey("pricing.1", epoch=8)
    assert states(command)["pricing.1"] == "sent"
    report("pricing.1", epoch=9, observed_generation=1)
    assert states(command)["pricing.1"] == "sent"
    obey("pricing.1", epoch=9)
    assert states(command)["pricing.1"] == "acknowledged"


def test_a_host_that_has_gone_on_to_a_later_command_has_obeyed_both() -> None:
    first = give(unit="pricing")
    second = give("resume", "pricing")
    obey("pricing.1")
    assert (states(first)["pricing.1"], states(second)["pricing.1"]) == ("acknowledged", "acknowledged")


def test_the_same_key_is_the_same_command_and_another_order_is_refused() -> None:
    order = make_order(unit="pricing", key="once")
    first = services.issue(order=order, actor="ana")
    assert services.issue(order=order, actor="ana") == first
    assert manifest_of("pricing.1").generation == 2
    with pytest.raises(services.KeyTakenError, match=f"command {first.pk}"):
        services.issue(order=make_order(unit="tax", key="once"), actor="ana")
    agent = make_order(unit="pricing", seat="op-0031", key="agent")
    assert services.issue(order=agent, actor="ana") == services.issue(order=agent, actor="ana")


def test_every_act_is_in_the_ledger() -> None:
    command = give(unit="pricing")
    obey()
    services.tick()
    give("resume", "pricing")
    acts = LedgerEntry.objects.filter(object=f"command/{command.pk}").order_by("id")
    assert list(acts.values_list("action", "actor")) == [
        ("command.pause", "ana"), ("command.confirmed", "portal/commands"), ("command.lifted", "ana"),
    ]  # fmt: skip


# --- in steps ----------------------------------------------------------------------------------------------


def test_a_roll_out_takes_the_next_step_when_the_one_before_is_confirmed() -> None:
    command = give(unit="pricing", percent=40)
    for done in (2, 4, 5):
        begun = [key for key, value in states(command).items() if value == "sent"]
        assert sum(value != "waiting" for value in states(command).values()) == done
        services.tick()
        assert sum(value != "waiting" for value in states(command).values()) == done
        obey(*begun)
        services.tick()
    assert state(command) == "confirmed"


def test_the_order_of_a_roll_out_follows_from_its_key() -> None:
    first, second = (give(unit="pricing", percent=20, key=key) for key in ("a", "b"))
    third = give(unit="tax", percent=20, key="a2")
    places = [
        list(one.targets.order_by("place").values_list("division__code", flat=True))
        for one in (first, second, third)
    ]
    assert len({tuple(one) for one in places}) > 1
    assert services.issue(order=make_order(unit="pricing", percent=20, key="a"), actor="ana") == first


def test_a_roll_out_in_one_division_takes_a_share_of_its_agents() -> None:
    command = give(division="pricing.1", percent=50)
    first = {key for key, wanted in desired("pricing.1").items() if wanted == "paused"}
    assert 0 < len(first) < 7
    obey("pricing.1")
    services.tick()
    assert set(desired("pricing.1").values()) == {"paused"}
    obey("pricing.1")
    services.tick()
    assert state(command) == "confirmed"
    seats = Seat.objects.with_desired().filter(division__key="pricing.1")
    assert {seat.desired for seat in seats} == {"paused"}  # type: ignore[attr-defined]


def test_too_many_failures_halt_a_roll_out_until_a_person_lets_it_go_on() -> None:
    ana = make_person("ana")
    command = give(unit="pricing", percent=40, halt_above=10)
    (first, second) = (key for key, value in states(command).items() if value == "sent")
    obey(first)
    refuse(second)
    services.tick()
    assert state(command) == "halted"
    late()
    assert sum(value == "waiting" for value in states(command).values()) == 3
    services.proceed(command=command, by=ana, reason="that host is known")
    assert sum(value == "waiting" for value in states(command).values()) == 1
    obey(*(key for key, value in states(command).items() if value == "sent"))
    services.tick()
    obey(*(key for key, value in states(command).items() if value == "sent"))
    services.tick()
    assert state(command) == "incomplete"
    assert sorted(states(command).values()) == ["acknowledged"] * 4 + ["refused"]


def test_a_person_halts_and_aborts_and_what_was_done_stays() -> None:
    ana = make_person("ana")
    command = give(unit="pricing", percent=20)
    services.halt(command=command, by=ana, reason="wait")
    obey()
    services.tick()
    assert state(command) == "halted"
    services.abort(command=command, by=ana, reason="enough")
    assert sorted(states(command).values()) == ["acknowledged"] + ["dropped"] * 4
    assert Suspension.objects.filter(order=command.pk).count() == 1
    with pytest.raises(RefusedError, match="has ended"):
        services.abort(command=command, by=ana, reason="again")
    with pytest.raises(RefusedError, match="Say why"):
        services.halt(command=give(unit="tax", percent=20), by=ana, reason=" ")
    give("resume", "pricing")
    assert not Suspension.objects.filter(order=command.pk).exists()


def test_a_resume_ends_the_roll_out_of_what_it_lifts() -> None:
    command = give(unit="pricing", percent=20)
    give("resume", "pricing")
    obey()
    services.tick()
    assert state(command) == "lifted"
    assert "waiting" not in states(command).values()
    assert not Suspension.objects.exists()


# --- retire ------------------------------------------------------------------------------------------------


def test_a_retired_seat_is_vacant_until_it_is_staffed_and_no_loss() -> None:
    command = give("retire", "pricing", seat="op-0031")
    assert desired("pricing.1")["31"] == "retired"
    seat = Seat.objects.get(unit__slug="pricing", code="op-0031")
    assert not Agent.objects.in_office().filter(seat=seat).exists()
    report("pricing.1", full=False, only=("op-0031",))  # what its host said before it obeyed
    obey("pricing.1")
    services.tick()
    assert state(command) == "confirmed"
    for _ in range(3):
        report("pricing.1", without=("op-0031",), observed_generation=2)
        cycle = replacement.ensure(unit="pricing")
        assert (cycle.live, cycle.vacant, cycle.replaced, cycle.deficit) == (34, 1, 0, 0)
    assert not Incident.objects.exists()
    staffed = services.issue(order=lifting(command, reason="needed again", key="k"), actor="ana")
    seat.refresh_from_db()
    assert seat.generation == 2
    assert Agent.objects.in_office().get(seat=seat).agent_id == "op-0031-g2"
    obey("pricing.1")
    services.tick()
    assert state(staffed) == "confirmed"
    assert Census.objects.by_unit(timezone.now())[unit_id("pricing")] == (35, 35)


def test_a_resume_staffs_nothing_and_nobody_retires_the_whole_holding() -> None:
    give("retire", "pricing", seat="op-0031")
    with pytest.raises(RefusedError, match="Nothing of this is paused"):
        give("resume", "pricing")
    with pytest.raises(RefusedError, match="is not given for the whole holding"):
        give("retire")


# --- drain, config, report ---------------------------------------------------------------------------------


def test_a_division_is_handed_over_when_a_later_tenure_reports_it() -> None:
    command = give("drain", division="pricing.1")
    (body,) = sent("org.claytom.pricing.command.drain")
    assert body["divisions"] == ["pricing.1"]
    assert body["epochs"] == {"pricing.1": 5}
    obey("pricing.1")
    assert states(command) == {"pricing.1": "sent"}
    give_lease("pricing.1", 6)
    obey("pricing.1", epoch=6)
    assert states(command) == {"pricing.1": "acknowledged"}


def test_a_host_is_drained_of_all_that_it_runs() -> None:
    command = give("drain", host="host-a")
    assert len(states(command)) == 3 * 5 + 6
    assert sent("org.claytom.tax.command.drain")[0]["host"] == "host-a"
    with pytest.raises(RefusedError, match="about no agent"):
        give("drain", host="host-z")
    with pytest.raises(RefusedError, match="all that it runs"):
        give("drain", "pricing", host="host-a")


def test_settings_are_in_the_manifest_and_a_new_host_gets_them() -> None:
    command = give("config", "pricing", settings={"kpi_interval_s": 30})
    settings = manifest_of("pricing.1").settings
    assert (settings.kpi_interval_s, settings.presence_interval_s, settings.version) == (30, 5, command.pk)
    claims = [Claim(key, 9, "host-a") for key in ("pricing.1", "tax.1")]
    for claim in claims:
        give_lease(claim.division, claim.epoch)
    terms = replacement.welcome(claims=claims)
    assert [terms[claim]["kpi_interval_s"] for claim in claims] == [30, 60]
    obey("pricing.1", epoch=9)
    assert states(command)["pricing.1"] == "acknowledged"


def test_new_settings_end_what_still_rolls_out_older_ones() -> None:
    older = give("config", "pricing", settings={"kpi_interval_s": 30}, percent=20)
    newer = give("config", settings={"kpi_interval_s": 90})
    obey()
    services.tick()
    assert (state(older), state(newer)) == ("superseded", "confirmed")
    assert manifest_of("pricing.5").settings.kpi_interval_s == 90


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"kpi_interval_s": 1},
        {"presence_interval_s": 30},
        {"volume": 11},
        {"kpi_interval_s": True},
        {"kpi_interval_s": "x"},
    ],
)
def test_settings_out_of_bounds_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(RefusedError):
        give("config", "pricing", settings=settings)
    assert not Command.objects.exists()


def test_a_report_is_there_when_a_full_one_has_come() -> None:
    command = give("report", "pricing")
    assert len(sent("org.claytom.pricing.command.report")[0]["divisions"]) == 5  # type: ignore[arg-type]
    obey("pricing.1", full=False)
    assert states(command)["pricing.1"] == "sent"
    obey("pricing.1")
    assert states(command)["pricing.1"] == "acknowledged"


# --- who may -----------------------------------------------------------------------------------------------


def test_a_head_commands_the_own_unit_and_nobody_elses() -> None:
    head = make_person("head", role="subsidiary-head", unit=Unit.objects.get(slug="pricing"))
    assert services.issue(order=make_order(unit="pricing"), by=head).actor == "head"
    for other in (
        {"unit": "tax"},
        {},
        {"role": "director"},
        {"division": "tax.1"},
        {"unit": "tax", "seat": "op-0031"},
    ):
        with pytest.raises(RefusedError, match=r"needs the permission commands\.pause"):
            services.issue(order=make_order(**other), by=head)
    with pytest.raises(RefusedError, match=r"needs the permission commands\.issue"):
        services.issue(order=make_order("drain", host="host-a"), by=head)
    foreign = give(unit="tax", percent=20)
    with pytest.raises(RefusedError, match="for subs-tax"):
        services.halt(command=foreign, by=head, reason="mine")


def test_a_supervisor_pauses_and_does_not_retire() -> None:
    person = make_person("sam", role="supervisor", unit=Unit.objects.get(slug="pricing"))
    services.issue(order=make_order(unit="pricing"), by=person)
    with pytest.raises(RefusedError, match=r"commands\.issue"):
        services.issue(order=make_order("retire", "pricing", seat="op-0031"), by=person)
