"""A lost director or coordinator is followed by promotion, down to a new operator; every seat has one holder."""

import json
import threading
from collections.abc import Sequence
from datetime import timedelta

import pytest
from django.db import connections, transaction
from django.utils import timezone

from audit import services as audit
from audit.models import LedgerEntry
from bus import mailbox
from bus.models import DirectedMessage
from holding.models import Agent, Incumbency, Seat, StageChange, Suspension, Unit
from holding.services import suspend
from holding.tests.factories import make_seat
from iam.access.models import User
from iam.access.rights import NotHeldError, RefusedError
from iam.access.tests.factories import make_person
from subsidiaries.commands.tests.factories import manifest_of
from subsidiaries.replacement import services, succession
from subsidiaries.replacement.cases import Case
from subsidiaries.replacement.models import Replacement, SeatState, StaffingRule, Successor
from subsidiaries.replacement.succession import Candidate, Filled
from subsidiaries.replacement.tests.factories import bring_to_life, make_staffed_holding, report, silence

CHAIN = ["di-0001", "co-0006", "es-0016", "op-0031"]


@pytest.fixture
def pricing(db: None) -> Unit:
    make_staffed_holding()
    bring_to_life("pricing")
    services.ensure(unit="pricing")
    return Unit.objects.get(slug="pricing")


def lose(*codes: str, division: str = "pricing.1") -> services.Cycle:
    """Let a division's host report these agents failed, and a cycle run."""
    report(division, states=dict.fromkeys(codes, "failed"))
    return services.ensure(unit="pricing")


def holder(code: str) -> Agent:
    return Agent.objects.in_office().get(seat__unit__slug="pricing", seat__code=code)


def filled() -> dict[str, str | None]:
    """Who was promoted to which seat; None: a new agent."""
    rows = Replacement.objects.order_by("pk").values_list("seat__code", "promoted_from__agent_id")
    return dict(rows)


def is_whole() -> bool:
    """Whether every seat has exactly one holder, by agents, incumbencies and stage alike."""
    seats = set(Seat.objects.values_list("pk", flat=True))
    office = list(Agent.objects.in_office().values_list("seat_id", flat=True))
    held = list(Incumbency.objects.filter(ended_at=None).values_list("seat_id", flat=True))
    staffed = set(Seat.objects.filter(stage="staffed").values_list("pk", flat=True))
    return sorted(office) == sorted(held) == sorted(seats) and staffed == seats


# --- who succeeds whom -------------------------------------------------------------------------------------


def successors(code: str) -> list[str]:
    rows = Successor.objects.filter(seat=make_seat(code=code)).order_by("rank")
    return list(rows.values_list("successor__code", flat=True))


def test_seats_of_the_tier_below_succeed_those_of_the_own_division_first(pricing: Unit) -> None:
    assert successors("di-0001") == [f"co-{number:04d}" for number in range(6, 16)]
    assert successors("di-0002")[:3] == ["co-0008", "co-0009", "co-0006"]
    assert successors("co-0008")[:4] == ["es-0018", "es-0019", "in-0027", "es-0016"]
    assert len(successors("co-0008")) == succession.RANKED
    assert not Successor.objects.exclude(seat__role__tier__in=["L4", "L3"]).exists()


def test_ranks_are_kept_for_an_hour_and_then_made_anew(pricing: Unit) -> None:
    def newest_first(candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        return sorted(candidates, key=lambda one: -one.ordinal)

    succession.rank_by(newest_first)
    try:
        services.ensure(unit="pricing")
        assert successors("di-0001")[0] == "co-0006"
        Successor.objects.update(ranked_at=timezone.now() - timedelta(hours=2))
        services.ensure(unit="pricing")
        assert successors("di-0001")[:3] == ["co-0007", "co-0006", "co-0015"]
    finally:
        succession.rank_by(succession.by_seniority)


@pytest.fixture
def ana(pricing: Unit) -> User:
    return make_person(role="subsidiary-head", unit=pricing)


def test_a_persons_order_stands_and_is_in_the_ledger(pricing: Unit, ana: User) -> None:
    seat = make_seat(code="di-0001")
    wanted = [make_seat(code=code).pk for code in ("co-0010", "co-0007")]
    succession.reorder(by=ana, seat=seat, successors=wanted, reason="they know the market")
    assert successors("di-0001")[:3] == ["co-0010", "co-0007", "co-0006"]
    succession.refresh(unit=pricing, now=timezone.now())
    assert successors("di-0001")[:2] == ["co-0010", "co-0007"]
    entry = LedgerEntry.objects.get(action="succession.order")
    details = json.loads(bytes(entry.body))["details"]
    assert (entry.actor, entry.object, details["reason"]) == ("ana", "seat/pricing/di-0001", "they know the market")
    lose("di-0001")
    assert filled()["di-0001"] == "co-0010-g1"
    succession.reorder(by=ana, seat=seat, successors=[], reason="as before")
    assert successors("di-0001")[0] == "co-0006"


def test_what_is_no_order_of_succession_is_refused(pricing: Unit, ana: User) -> None:
    seat, coordinator = make_seat(code="di-0001"), make_seat(code="co-0006").pk
    for wrong in ([make_seat(code="op-0031").pk], [coordinator, coordinator], [seat.pk]):
        with pytest.raises(RefusedError):
            succession.reorder(by=ana, seat=seat, successors=wrong, reason="r")
    with pytest.raises(RefusedError):
        succession.reorder(by=ana, seat=seat, successors=[coordinator], reason=" ")
    with pytest.raises(RefusedError):
        succession.reorder(by=ana, seat=make_seat(code="op-0031"), successors=[], reason="r")
    with pytest.raises(RefusedError):
        succession.reorder(by=ana, seat=make_seat("corporate", "ceo"), successors=[], reason="r")
    eva = make_person("eva", role="subsidiary-head", unit=Unit.objects.get(slug="tax"))
    with pytest.raises(NotHeldError):
        succession.reorder(by=eva, seat=seat, successors=[coordinator], reason="r")


# --- the chain ---------------------------------------------------------------------------------------------


def test_a_lost_director_is_followed_down_to_a_new_operator(pricing: Unit) -> None:
    cycle = lose("di-0001")
    assert (cycle.replaced, cycle.deferred) == (1, 0)
    assert filled() == {
        "di-0001": "co-0006-g1", "co-0006": "es-0016-g1", "es-0016": "op-0031-g1", "op-0031": None,
    }  # fmt: skip
    assert [holder(code).agent_id for code in CHAIN] == [f"{code}-g2" for code in CHAIN]
    former = Agent.objects.filter(unit=pricing, retired_at__isnull=False).values_list("agent_id", "stage")
    assert dict(former) == {"di-0001-g1": "replaced", **{f"{code}-g1": "retired" for code in CHAIN[1:]}}
    assert is_whole()
    rows = Replacement.objects.order_by("pk").values_list("reason", "detail")
    assert sorted(rows) == [
        ("failed", ""), ("promotion", "promoted to co-0006"), ("promotion", "promoted to di-0001"),
        ("promotion", "promoted to es-0016"),
    ]  # fmt: skip


def test_every_step_is_in_the_ledger_and_told_to_the_hosts_at_once(pricing: Unit) -> None:
    before = manifest_of("pricing.1").generation
    lose("di-0001")
    manifest = manifest_of("pricing.1")
    assert manifest.generation == before + 1
    assert manifest.generations == {"1": 2, "6": 2, "16": 2, "31": 2}
    entries = LedgerEntry.objects.filter(action="seat.appoint")
    bodies = {entry.object: json.loads(bytes(entry.body))["details"] for entry in entries}
    assert set(bodies) == {f"seat/pricing/{code}" for code in CHAIN}
    assert bodies["seat/pricing/di-0001"]["promoted"] == "org.claytom.pricing.coordinator.co-0006-g1"
    assert bodies["seat/pricing/co-0006"]["reason"] == "promoted to di-0001"
    assert "promoted" not in bodies["seat/pricing/op-0031"]
    while audit.seal():
        pass
    assert audit.verify().ok
    moved = StageChange.objects.filter(new="retired").values_list("agent__agent_id", "reason")
    assert dict(moved)["co-0006-g1"] == "promoted to di-0001"


def test_the_promoted_are_live_and_on_probation_when_their_hosts_report_them(pricing: Unit) -> None:
    lose("di-0001")
    report("pricing.1")
    services.ensure(unit="pricing")
    assert [holder(code).stage for code in CHAIN] == ["probation"] * 4
    assert not Replacement.objects.filter(live_at=None).exists()


def letters_to(codes: Sequence[str], kind: str) -> list[mailbox.Letter]:
    end = timezone.now() + timedelta(hours=1)
    bodies = {
        "work.offer": {"id": "w-test-000001", "kind": "price", "deadline": end.isoformat()},
        "escalation.resolve": {"id": "e", "decision": "yes"},
    }
    return [
        mailbox.Letter(holder(code).subject, 1, kind, "portal/test", bodies[kind], f"{kind}/{code}", end)
        for code in codes
    ]


def test_mail_about_a_seat_follows_it_along_the_chain(pricing: Unit) -> None:
    with transaction.atomic():
        mailbox.post(letters=[*letters_to(CHAIN, "work.offer"), *letters_to(CHAIN, "escalation.resolve")])
    lose("di-0001")
    rows = DirectedMessage.objects.values_list("key", "address", "state")
    assert {key: (address.rpartition(".")[2], state) for key, address, state in rows} == {
        **{f"work.offer/{code}": (f"{code}-g2", "open") for code in CHAIN},
        **{f"escalation.resolve/{code}": (f"{code}-g1", "withdrawn") for code in CHAIN},
    }


def test_a_lost_coordinator_is_followed_by_a_specialist(pricing: Unit) -> None:
    lose("co-0007")
    assert filled() == {"co-0007": "es-0016-g1", "es-0016": "op-0031-g1", "op-0031": None}
    assert is_whole()


def test_lost_specialists_operators_and_seats_of_the_parent_company_get_new_agents(pricing: Unit) -> None:
    lose("es-0016", "in-0026", "op-0031")
    assert filled() == {"es-0016": None, "in-0026": None, "op-0031": None}
    bring_to_life("corporate")
    report("corporate.c-suite", states={"ceo": "failed"})
    SeatState.objects.filter(seat__code="ceo").update(state="failed", since=timezone.now())
    assert services.ensure(unit="corporate").replaced == 1
    row = Replacement.objects.get(seat__code="ceo")
    assert (row.promoted_from, row.reason, row.detail) == (None, "failed", "")
    assert Agent.objects.in_office().get(seat__code="ceo").generation == 2
    assert is_whole()


# --- who is fit --------------------------------------------------------------------------------------------


def test_without_a_fit_successor_the_seat_gets_a_new_agent_and_says_so(pricing: Unit) -> None:
    SeatState.objects.filter(unit=pricing, role="coordinator").update(state="stuck")
    lose_only("di-0001")
    row = Replacement.objects.get()
    assert (row.seat.code, row.promoted_from, row.detail) == ("di-0001", None, succession.NO_SUCCESSOR)


def test_a_chain_ends_where_nobody_is_fit(pricing: Unit) -> None:
    SeatState.objects.filter(unit=pricing, role__in=["specialist", "innovator"]).update(state="stuck")
    lose_only("di-0001")
    assert filled() == {"di-0001": "co-0006-g1", "co-0006": None}
    assert Replacement.objects.get(seat__code="co-0006").detail == f"promoted to di-0001; {succession.NO_SUCCESSOR}"


def lose_only(*codes: str) -> None:
    """Let agents be failed and a cycle run without a report that would show the others live."""
    SeatState.objects.filter(seat__code__in=codes, unit__slug="pricing").update(
        state="failed", since=timezone.now()
    )
    services.ensure(unit="pricing")


@pytest.mark.parametrize("trouble", ["stuck", "suspended", "external", "isolated", "silent"])
def test_who_is_in_trouble_or_no_agent_of_ours_is_passed_over(pricing: Unit, trouble: str) -> None:
    seat = make_seat(code="co-0006")
    if trouble == "stuck":
        SeatState.objects.filter(seat=seat).update(state="stuck")
    elif trouble == "suspended":
        paused = Suspension.Desired.PAUSED
        suspend(division_ids=[seat.division_id], seat_id=seat.pk, desired=paused, order=9, actor="a", reason="r")
    elif trouble == "external":
        Seat.objects.filter(pk=seat.pk).update(external=True)
    elif trouble == "isolated":
        Agent.objects.filter(seat=seat).update(stage="quarantined")
        StaffingRule.objects.update(daily_cap=0)
    if trouble == "silent":  # of another division then: nobody of a silent one is promoted
        silence("pricing.1")
        lose_only()
        SeatState.objects.filter(seat__code="di-0002", unit=pricing).update(state="failed")
        SeatState.objects.filter(seat__code__in=["co-0008", "co-0009"], unit=pricing).update(state="stuck")
        services.ensure(unit="pricing")
        assert filled()["di-0002"] == "co-0010-g1"
        return
    if trouble == "isolated":
        case = Case(make_seat(code="di-0001").pk, 1, Replacement.Reason.FAILED, timezone.now())
        services.replace(unit=pricing, cases=[case], actor="test")
    else:
        lose_only("di-0001")
    assert filled()["di-0001"] == "co-0007-g1"


def test_two_that_are_lost_at_once_do_not_get_the_same_successor(pricing: Unit, ana: User) -> None:
    Successor.objects.all().delete()
    succession.refresh(unit=pricing, now=timezone.now())
    wanted = [make_seat(code="co-0006").pk]
    for code in ("di-0001", "di-0002"):
        succession.reorder(by=ana, seat=make_seat(code=code), successors=wanted, reason="the best")
    lose_only("di-0001", "di-0002")
    assert (filled()["di-0001"], filled()["di-0002"]) == ("co-0006-g1", "co-0008-g1")
    assert is_whole()


def test_a_lost_coordinator_follows_nobody(pricing: Unit) -> None:
    lose("di-0001", "co-0006")
    assert filled() == {
        "di-0001": "co-0007-g1", "co-0007": "es-0016-g1", "es-0016": "op-0031-g1", "op-0031": None,
        "co-0006": "es-0017-g1", "es-0017": "op-0032-g1", "op-0032": None,
    }  # fmt: skip
    assert is_whole()


def test_all_directors_and_coordinators_at_once_leave_no_seat_empty(pricing: Unit) -> None:
    lose_only(*[f"di-{number:04d}" for number in range(1, 6)], *[f"co-{number:04d}" for number in range(6, 16)])
    assert is_whole()
    promoted = [name for name in filled().values() if name]
    assert len(promoted) == len(set(promoted))
    assert {Replacement.objects.get(seat__code=f"di-{number:04d}").detail for number in range(1, 6)} == {
        succession.NO_SUCCESSOR
    }


# --- once, and counted once --------------------------------------------------------------------------------


def test_the_same_loss_decided_twice_promotes_once(pricing: Unit) -> None:
    case = Case(make_seat(code="di-0001").pk, 1, Replacement.Reason.FAILED, timezone.now())
    assert services.replace(unit=pricing, cases=[case], actor="test") == 1
    assert services.replace(unit=pricing, cases=[case], actor="test") == 0
    assert Replacement.objects.count() == 4
    assert is_whole()


def test_a_promotion_takes_one_of_the_days_cap(pricing: Unit) -> None:
    StaffingRule.objects.update(daily_cap=2 / 35)
    lose("di-0001")
    cycle = lose("op-0032", division="pricing.2")
    assert (cycle.replaced, cycle.deferred) == (1, 0)
    assert lose("op-0033", division="pricing.3").deferred == 1


def test_whoever_asked_is_told_who_came_to_which_seat(pricing: Unit) -> None:
    heard: list[Filled] = []
    succession.after_filling(heard.extend)
    try:
        lose("co-0007")
    finally:
        succession._notes.pop()
    assert [(one.old.agent_id, one.new.agent_id, one.promoted and one.promoted.agent_id) for one in heard] == [
        ("co-0007-g1", "co-0007-g2", "es-0016-g1"),
        ("es-0016-g1", "es-0016-g2", "op-0031-g1"),
        ("op-0031-g1", "op-0031-g2", None),
    ]


@pytest.mark.django_db(transaction=True)
def test_two_controllers_at_once_promote_once() -> None:
    make_staffed_holding()
    bring_to_life("pricing")
    unit, seat = Unit.objects.get(slug="pricing"), make_seat(code="di-0001")
    case = Case(seat.pk, 1, Replacement.Reason.FAILED, timezone.now())
    start, done, errors = threading.Barrier(3), list[int](), list[Exception]()

    def decide() -> None:
        try:
            start.wait(10)
            done.append(services.replace(unit=unit, cases=[case], actor="test"))
        except Exception as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=decide) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert sorted(done) == [0, 0, 1]
    assert Replacement.objects.count() == 4
    assert is_whole()
