"""Who may decide: four eyes, splitting, delegation, substitution, terms, conflicts, bodies. The answer says why."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from audit.models import LedgerEntry
from iam.access.models import User
from iam.authority import services
from iam.authority.models import Approval, Delegation, Interest, Substitution
from iam.authority.services import HolderError, NotAllowedError
from iam.authority.tests.factories import (
    DAY,
    EPOCH,
    HOUR,
    NO,
    T0,
    YES,
    ask,
    decide,
    make_account,
    make_appointment,
    make_authority,
    office_of,
    offices,
    unit_of,
    who,
)

pytestmark = pytest.mark.django_db
NOW = T0 + HOUR
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def authority(db: None) -> None:
    make_authority()


def may(approval: Approval, name: str, at: datetime = NOW, acting_for: str = "") -> tuple[bool, str]:
    """Return the answer, and check that inbox and service say the same."""
    person = who(name)
    approval.refresh_from_db()
    answer = services.explain(
        approval=approval, person=person, acting_for=who(acting_for) if acting_for else None, at=at
    )
    if not acting_for:
        inbox = Approval.objects.waiting_for(person, at).filter(pk=approval.pk)
        assert inbox.exists() == answer.allowed, answer.reason
        assert inbox.count() <= 1
    assert answer.reason.endswith(".")
    return answer.allowed, answer.reason


def lend(owner: str, to: str, **fields: Any) -> Delegation:
    return services.delegate(
        appointment=office_of(owner),
        delegator=who(owner),
        person=who(to),
        reason="holiday",
        **{"valid_from": T0 - 10 * DAY, **fields},
    )


def stand_in(person: str, by: str, **fields: Any) -> Substitution:
    return services.substitute(
        person=who(person),
        substitute=who(by),
        reason="holiday",
        actor="test",
        **{"valid_from": T0 - 10 * DAY, **fields},
    )


def interest(name: str, **fields: Any) -> Interest:
    return services.declare_interest(
        person=who(name), kind=Interest.Kind.OWNERSHIP, actor=name, **{"valid_from": T0 - 10 * DAY, **fields}
    )


# --- the office --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "name", "allowed"),
    [
        (40_000, "dora", True),
        (40_000, "dani", True),
        (40_000, "toni", False),  # of another unit
        (40_000, "paula", False),  # higher, but not asked
        (40_000, "gema", False),
        (40_000, "board1", False),
        (40_000, "sara", False),
        (400_000, "paula", True),
        (400_000, "tomas", False),
        (400_000, "dora", False),
        (1_000_000, "carla", True),
        (1_000_000, "cris", False),  # of the same rank, but another office
        (9_000_000, "gema", True),
        (11_000_000, "board1", True),
        (11_000_000, "gema", False),
        (11_000_000, "audit1", False),
    ],
)
def test_only_the_required_office_decides(value: int, name: str, allowed: bool) -> None:
    approval = ask(value)
    assert may(approval, name)[0] == allowed
    if not allowed:
        with pytest.raises(NotAllowedError, match="Only"):
            decide(approval, name)
        assert not approval.decisions.exists()
    else:
        assert decide(approval, name) in {"approved", "pending"}


# --- four eyes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("by", "name", "acting_for", "word"),
    [
        ("dora", "dora", "", "asked for it"),
        ("dora", "omar", "", "acts for the one who asked"),  # stands in for her
        ("dora", "sara", "", "acts for the one who asked"),  # has her office lent
    ],
)
def test_who_asks_does_not_decide_nor_anybody_for_them(by: str, name: str, acting_for: str, word: str) -> None:
    stand_in("dora", "omar")
    lend("dora", "sara")
    approval = ask(by=by)
    allowed, reason = may(approval, name)
    assert not allowed
    assert word in reason
    assert decide(approval, "dani") == "approved"


def test_the_requester_stands_in_for_nobody_on_their_own_request() -> None:
    stand_in("dora", "rita")
    approval = ask(by="rita")
    assert may(approval, "rita") == (False, "Who asked for it does not decide it.")
    assert decide(approval, "dora") == "approved"


def test_the_requesters_substitute_decides_under_an_office_of_their_own() -> None:
    stand_in("dora", "dani")
    approval = ask(by="dora")
    assert decide(approval, "dani") == "approved"
    assert approval.decisions.get().acting_for is None


def test_when_the_portal_asks_no_person_is_the_requester() -> None:
    approval = ask(by="")
    assert (approval.requester, approval.actor) == (None, "portal/authority")
    assert decide(approval, "dora") == "approved"


# --- dual --------------------------------------------------------------------------------------------------


def test_dual_needs_two_people() -> None:
    approval = ask(matter="payment-release")
    assert approval.levels.get().required == 2
    assert decide(approval, "dora") == "pending"
    assert may(approval, "dora") == (False, "The person has decided it already; one person counts once.")
    assert decide(approval, "dani") == "approved"


def test_one_person_counts_once_whatever_hats() -> None:
    stand_in("dani", "dora")
    approval = ask(matter="payment-release")
    assert decide(approval, "dora") == "pending"
    with pytest.raises(NotAllowedError, match="one person counts once"):
        decide(approval, "dora", acting_for="dani")


def test_one_persons_authority_counts_once_whoever_uses_it() -> None:
    stand_in("dani", "omar")
    lend("dani", "sara")
    approval = ask(matter="payment-release")
    assert decide(approval, "omar") == "pending"
    for name in ("dani", "sara"):
        allowed, reason = may(approval, name)
        assert not allowed
        assert "on the authority of dani" in reason
    assert decide(approval, "dora") == "approved"


def test_where_an_office_has_too_few_holders_the_next_rank_joins_at_once() -> None:
    approval = ask(400_000, matter="payment-release")
    assert offices(approval) == ["subsidiary-ceo", "group-cfo"]
    assert list(approval.levels.values_list("cause", flat=True)) == ["required", "short"]
    assert decide(approval, "paula") == "pending"
    assert decide(approval, "carla") == "approved"


def test_a_single_no_of_an_office_rejects() -> None:
    approval = ask(matter="payment-release")
    assert decide(approval, "dora", NO) == "rejected"
    assert may(approval, "dani")[0] is False


def test_a_no_needs_a_note() -> None:
    with pytest.raises(ValueError, match="note"):
        services.decide(approval=ask(), person=who("dora"), verdict=NO, note="  ", at=NOW)


# --- splitting ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "office"),
    [
        ({}, {}, "subsidiary-ceo"),
        ({}, {"by": "svc-rita"}, "subsidiary-ceo"),
        ({"by": "svc-rita"}, {}, "subsidiary-ceo"),
        ({"by": "svc-rita"}, {"by": "sara"}, "subsidiary-director"),
        ({"counterparty": "Acme"}, {"counterparty": " acme "}, "subsidiary-ceo"),
        ({"counterparty": "Acme"}, {"counterparty": "Acme", "by": "sara"}, "subsidiary-ceo"),
        ({"counterparty": "Acme"}, {"counterparty": "Bolt"}, "subsidiary-director"),
        ({"counterparty": "Acme", "unit": "tax"}, {"counterparty": "Acme"}, "subsidiary-director"),
        ({"matter": "capex", "counterparty": "Acme"}, {"counterparty": "Acme"}, "subsidiary-director"),
        ({"by": "sara"}, {"by": "rita"}, "subsidiary-director"),
        ({"at": T0 - 30 * DAY + timedelta(seconds=1)}, {}, "subsidiary-ceo"),
        ({"at": T0 - 30 * DAY}, {}, "subsidiary-director"),
        ({"at": T0 - 31 * DAY}, {}, "subsidiary-director"),
    ],
)
def test_what_was_asked_for_in_thirty_days_is_added(
    first: dict[str, Any], second: dict[str, Any], office: str
) -> None:
    make_account("svc-rita", "rita")
    ask(26_000 if first.get("matter") != "capex" else 20_000, **first)
    assert offices(ask(26_000, **second))[0] == office


@pytest.mark.parametrize(
    ("become", "office"),
    [
        (lambda first: None, "subsidiary-ceo"),
        (lambda first: decide(first, "dora"), "subsidiary-ceo"),
        (lambda first: decide(first, "dora", NO), "subsidiary-director"),
        (lambda first: services.withdraw(approval=first, person=who("rita"), at=NOW), "subsidiary-director"),
        (lambda first: services.tick(at=T0 + 20 * DAY), "subsidiary-director"),  # it expires
    ],
)
def test_what_was_refused_is_not_added(become: Callable[[Approval], object], office: str) -> None:
    become(ask(26_000))
    assert offices(ask(26_000, at=T0 + 21 * DAY))[0] == office


def test_small_values_grow_out_of_the_envelope() -> None:
    states = [ask(400, by="").state for _ in range(3)]
    assert states == ["approved", "approved", "pending"]
    assert Approval.objects.latest("pk").judged == Decimal(1200)


def test_levels_are_not_added() -> None:
    ask(1, matter="chaos")
    assert offices(ask(1, matter="chaos")) == ["subsidiary-director"]


# --- delegation --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("terms", "value", "allowed"),
    [
        ({}, 400_000, True),
        ({"matters": ["opex-budgeted"]}, 400_000, True),
        ({"matters": ["capex"]}, 400_000, False),
        ({"matters": ["opex-budgeted"], "limit": Decimal(400_000)}, 400_000, True),
        ({"matters": ["opex-budgeted"], "limit": Decimal(399_999)}, 400_000, False),
        ({"matters": ["opex-budgeted"], "limit": Decimal(500_000)}, 500_001, False),
        ({"valid_from": NOW}, 400_000, True),
        ({"valid_from": NOW + HOUR}, 400_000, False),
        ({"valid_to": NOW}, 400_000, False),
        ({"valid_to": NOW + HOUR}, 400_000, True),
    ],
)
def test_a_delegate_decides_within_the_terms(terms: dict[str, Any], value: int, allowed: bool) -> None:
    lend("paula", "omar", **terms)
    approval = ask(value)
    assert may(approval, "omar")[0] == allowed
    if allowed:
        assert decide(approval, "omar") == "approved"
        decision = approval.decisions.get()
        assert (decision.person, decision.acting_for) == (who("omar"), who("paula"))
        assert decision.delegation is not None


def test_a_revoked_delegation_gives_nothing() -> None:
    delegation = lend("paula", "omar")
    approval = ask(400_000)
    services.revoke_delegation(delegation=delegation, actor="paula", at=T0 + timedelta(minutes=1))
    allowed, reason = may(approval, "omar")
    assert not allowed
    assert "ended" in reason


def test_a_delegation_ends_with_its_appointment() -> None:
    lend("paula", "omar")
    approval = ask(400_000)
    services.end_appointment(appointment=office_of("paula"), actor="test", at=T0 + timedelta(minutes=1))
    for name in ("paula", "omar"):
        allowed, reason = may(approval, name)
        assert not allowed
        assert "ended" in reason


@pytest.mark.parametrize(
    ("owner", "by", "to", "terms", "word"),
    [
        ("paula", "omar", "sara", {}, "cannot delegate on"),
        ("paula", "carla", "sara", {}, "cannot delegate on"),
        ("paula", "paula", "paula", {}, "themselves"),
        ("board1", "board1", "sara", {}, "body"),
        ("paula", "paula", "sara", {"matters": ["opex-budgeted"], "limit": Decimal(500_001)}, "above"),
        ("paula", "paula", "sara", {"matters": ["opex-budgeted"], "limit": Decimal(-1)}, "from 0"),
        ("paula", "paula", "sara", {"matters": ["opex-budgeted"], "limit": Decimal("NaN")}, "from 0"),
        ("paula", "paula", "sara", {"limit": Decimal(1)}, "needs the matters"),
        ("paula", "paula", "sara", {"matters": ["opex-budgeted", "chaos"], "limit": Decimal(1)}, "measures"),
        ("paula", "paula", "sara", {"matters": ["merger"]}, "does not decide"),
        ("paula", "paula", "sara", {"valid_to": T0 - 20 * DAY}, "before it begins"),
        ("paula", "paula", "sara", {"valid_from": EPOCH - DAY}, "does not hold"),
    ],
)
def test_a_delegation_is_refused(owner: str, by: str, to: str, terms: dict[str, Any], word: str) -> None:
    lend("paula", "omar")
    with pytest.raises(HolderError, match=word):
        services.delegate(
            appointment=office_of(owner),
            delegator=who(by),
            person=who(to),
            reason="",
            **{"valid_from": T0, **terms},
        )
    assert Delegation.objects.count() == 1


# --- substitution ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("terms", "allowed"),
    [
        ({}, True),
        ({"valid_from": NOW, "valid_to": NOW + HOUR}, True),
        ({"valid_from": NOW + HOUR}, False),
        ({"valid_to": NOW}, False),
    ],
)
def test_a_substitute_decides_in_that_time_and_is_named(terms: dict[str, Any], allowed: bool) -> None:
    stand_in("paula", "omar", **terms)
    approval = ask(400_000)
    assert may(approval, "omar")[0] == allowed
    if allowed:
        assert decide(approval, "omar") == "approved"
        decision = approval.decisions.get()
        assert (decision.person, decision.acting_for) == (who("omar"), who("paula"))
        assert decision.substitution is not None


def test_a_substitution_that_ended_early_gives_nothing() -> None:
    made = stand_in("paula", "omar")
    approval = ask(400_000)
    services.end_substitution(substitution=made, actor="paula", at=T0)
    assert may(approval, "omar")[0] is False


def test_a_substitute_has_neither_what_was_lent_to_the_person_nor_a_substitution_of_theirs() -> None:
    lend("paula", "dora")
    stand_in("dora", "omar")
    stand_in("omar", "sara")
    approval = ask(400_000)
    assert may(approval, "dora")[0] is True
    assert may(approval, "omar")[0] is False
    assert may(ask(40_000), "sara")[0] is False


@pytest.mark.parametrize(("person", "by"), [("paula", "paula"), ("paula", "sara")])
def test_a_substitution_is_refused_for_oneself_and_beside_another(person: str, by: str) -> None:
    stand_in("paula", "omar", valid_to=T0 + DAY)
    with pytest.raises(HolderError):
        stand_in(person, by, valid_from=T0)
    stand_in("paula", "sara", valid_from=T0 + DAY)


# --- a choice of title -------------------------------------------------------------------------------------


def keys(approval: Approval, name: str) -> list[str]:
    return [hat.key for hat in services.titles(approval=approval, person=who(name), at=NOW)]


def decide_as(approval: Approval, name: str, key: str) -> str:
    return services.decide(approval=approval, person=who(name), verdict=YES, acting_as=key, at=NOW).state


def test_who_has_several_titles_chooses_one() -> None:
    lent, absent = lend("dani", "dora"), stand_in("dani", "dora")
    own, other = f"office-{office_of('dora').pk}", f"substitution-{absent.pk}-{office_of('dani').pk}"
    approval = ask(matter="payment-release")
    assert keys(approval, "dora")[0] == own
    assert set(keys(approval, "dora")) == {own, f"delegation-{lent.pk}", other}
    assert decide_as(approval, "dora", other) == "pending"
    given = approval.decisions.get()
    assert (given.acting_for, given.substitution, given.delegation) == (who("dani"), absent, None)
    entry = LedgerEntry.objects.filter(action="approval.decide").latest("pk")
    details = json.loads(bytes(entry.body))["details"]
    assert (details["title"], details["acting_for"]) == (other, "dani")
    assert keys(approval, "dora") == []


def test_without_a_choice_the_own_office_is_taken() -> None:
    lend("dani", "dora")
    approval = ask()
    assert decide_as(approval, "dora", "") == "approved"
    assert approval.decisions.get().delegation is None


@pytest.mark.parametrize(
    ("title", "sentence"),
    [
        (lambda: f"office-{office_of('dani').pk}", "does not hold the title"),
        (lambda: "office-x", "does not hold the title"),
        (lambda: f"delegation-{lend('carla', 'dora').pk}", "This title does not decide it"),
        (
            lambda: f"delegation-{lend('dani', 'dora', matters=['opex-budgeted'], limit=Decimal(100)).pk}",
            "above the limit of the delegation",
        ),
        (lambda: f"delegation-{lend('dani', 'dora', matters=['capex']).pk}", "This title does not decide it"),
        (lambda: f"delegation-{lend('dani', 'dora', valid_to=T0).pk}", "does not hold the title"),
        (lambda: f"substitution-{stand_in('rita', 'dora').pk}-1", "does not hold the title"),
    ],
)
def test_a_title_that_is_not_theirs_or_does_not_suffice_is_refused(title: Callable[[], str], sentence: str) -> None:
    key = title()
    approval = ask()
    assert key not in keys(approval, "dora")
    with pytest.raises(NotAllowedError, match=sentence):
        decide_as(approval, "dora", key)
    assert not approval.decisions.exists()


def test_a_title_does_not_lift_what_holds_for_the_person() -> None:
    lent = lend("dani", "dora")
    interest("dora", counterparty="Acme")
    approval = ask(counterparty="Acme")
    assert keys(approval, "dora") == []
    with pytest.raises(NotAllowedError, match="an interest"):
        decide_as(approval, "dora", f"delegation-{lent.pk}")


# --- terms -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "end", "allowed"),
    [
        (T0 - DAY, None, True),
        (NOW, NOW + HOUR, True),
        (T0 - DAY, NOW, False),
        (NOW + HOUR, None, False),
    ],
)
def test_authority_is_judged_when_the_decision_is_given(
    start: datetime, end: datetime | None, allowed: bool
) -> None:
    approval = ask()
    make_appointment("omar", "subsidiary-director", "pricing", start=start, end=end)
    assert may(approval, "omar")[0] == allowed


@pytest.mark.parametrize("field", ["is_active", "cleared"])
def test_who_left_or_lost_the_clearance_has_no_authority(field: str) -> None:
    lend("paula", "omar")
    approval = ask(400_000)
    User.objects.filter(username="paula").update(**{field: False})
    assert may(approval, "paula")[0] is False
    assert may(approval, "omar")[0] is False


@pytest.mark.parametrize(
    ("office", "unit", "name"),
    [("subsidiary-ceo", "", "omar"), ("board", "tax", "omar"), ("group-cfo", "", "carla")],
)
def test_an_appointment_is_refused(office: str, unit: str, name: str) -> None:
    with pytest.raises(HolderError):
        make_appointment(name, office, unit)


def test_an_appointment_ends_once() -> None:
    ended = services.end_appointment(appointment=office_of("paula"), actor="test", at=T0)
    again = services.end_appointment(appointment=ended, actor="test", at=T0 + DAY)
    assert again.valid_to == T0
    make_appointment("paula", "subsidiary-ceo", "pricing", start=T0 + DAY)
    assert may(ask(400_000, at=T0 + DAY), "paula", at=T0 + DAY)[0] is True


# --- conflicts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "asked", "allowed"),
    [
        ({"counterparty": "Acme"}, {"counterparty": "ACME"}, False),
        ({"counterparty": "Acme"}, {"counterparty": "Bolt"}, True),
        ({"counterparty": "Acme"}, {}, True),
        ({"unit": "pricing"}, {}, False),
        ({"unit": "tax"}, {}, True),
        ({"unit": "tax"}, {"counterparty": "tax"}, False),
        ({"counterparty": "Acme", "valid_to": NOW}, {"counterparty": "Acme"}, False),
        ({"counterparty": "Acme", "valid_from": NOW + HOUR}, {"counterparty": "Acme"}, True),
        ({"counterparty": "Bolt"}, {"parties": ("dora",)}, False),
        ({"counterparty": "Bolt"}, {"parties": ("dani",)}, True),
    ],
)
def test_who_has_an_interest_or_is_a_party_is_recused(
    declared: dict[str, Any], asked: dict[str, Any], allowed: bool
) -> None:
    terms = {**declared, **({"unit": unit_of(declared["unit"])} if "unit" in declared else {})}
    interest("dora", **terms)
    stand_in("dora", "omar")
    approval = ask(**asked)
    assert may(approval, "dora")[0] == allowed
    assert may(approval, "omar")[0] == allowed  # nor does anybody in their stead


@pytest.mark.parametrize(
    ("start", "end", "allowed"),
    [
        (T0 - DAY, T0, True),  # it had ended when it was asked for
        (T0 - DAY, T0 + MINUTE, False),
        (T0 - DAY, NOW - MINUTE, False),
        (T0 - DAY, NOW, False),
        (T0 - DAY, NOW + HOUR, False),
        (T0 - DAY, None, False),
        (T0 + MINUTE, T0 + 2 * MINUTE, False),  # it began and ended meanwhile
        (T0 + MINUTE, T0 + MINUTE, True),  # it never held
        (NOW, None, False),
        (NOW + MINUTE, None, True),
    ],
)
@pytest.mark.parametrize("where", ["counterparty", "unit"])
def test_an_interest_counts_if_it_held_at_any_time_since_it_was_asked_for(
    where: str, start: datetime, end: datetime | None, allowed: bool
) -> None:
    thing: dict[str, Any] = {"counterparty": "Acme"} if where == "counterparty" else {"unit": unit_of("pricing")}
    declared = interest("dora", valid_from=start, **thing)
    if end is not None:
        services.end_interest(interest=declared, actor="dora", at=end)
    stand_in("dora", "omar")
    lend("dora", "sara")
    approval = ask(counterparty="Acme")
    for name in ("dora", "omar", "sara"):
        assert may(approval, name)[0] == allowed, name
    if not allowed:
        with pytest.raises(NotAllowedError, match="an interest in it"):
            decide(approval, "dora")


def test_who_ends_an_interest_decides_what_is_asked_for_afterwards() -> None:
    declared = interest("dora", counterparty="Acme")
    before = ask(counterparty="Acme")
    services.end_interest(interest=declared, actor="dora", at=T0 + MINUTE)
    after = ask(5, counterparty="Acme", matter="capex", at=T0 + 2 * MINUTE)
    assert may(before, "dora", at=before.expires_at - MINUTE)[0] is False
    assert may(after, "dora")[0] is True


def test_a_member_who_ends_an_interest_while_the_body_votes_stays_out() -> None:
    declared = interest("board1", counterparty="Acme")
    approval = ask(0, matter="merger", counterparty="Acme")
    services.end_interest(interest=declared, actor="board1", at=T0 + MINUTE)
    assert may(approval, "board1")[0] is False
    assert len(approval.levels.get().eligible) == 4
    assert [decide(approval, name) for name in ("board2", "board3", "board4")] == ["pending", "pending", "approved"]


def test_the_recused_are_no_members_of_the_body() -> None:
    for name in ("board1", "board2"):
        interest(name, counterparty="Acme")
    approval = ask(0, matter="merger", counterparty="Acme")
    level = approval.levels.get()
    assert (level.required, len(level.eligible)) == (2, 3)
    assert may(approval, "board1")[0] is False
    assert [decide(approval, name) for name in ("board3", "board4")] == ["pending", "approved"]


@pytest.mark.parametrize("terms", [{}, {"counterparty": "  "}, {"counterparty": "Acme", "unit": "tax"}])
def test_an_interest_is_in_one_thing(terms: dict[str, Any]) -> None:
    with pytest.raises(HolderError):
        interest("dora", **{**terms, **({"unit": unit_of("tax")} if "unit" in terms else {})})


def test_an_interest_ends() -> None:
    declared = interest("dora", counterparty="Acme")
    services.end_interest(interest=declared, actor="dora", at=T0)
    assert may(ask(counterparty="Acme"), "dora")[0] is True


# --- bodies ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("votes", "states"),
    [
        ((YES, YES, YES), ("pending", "pending", "approved")),
        ((YES, YES, NO, YES), ("pending", "pending", "pending", "approved")),
        ((YES, YES, NO, NO, NO), ("pending", "pending", "pending", "pending", "rejected")),
        ((NO, NO, NO), ("pending", "pending", "rejected")),
        ((NO, NO, YES, YES, YES), ("pending", "pending", "pending", "pending", "approved")),
    ],
)
def test_a_body_decides_by_majority(votes: tuple[Any, ...], states: tuple[str, ...]) -> None:
    approval = ask(11_000_000)
    given = [decide(approval, f"board{n}", vote) for n, vote in enumerate(votes, start=1)]
    assert tuple(given) == states


def test_a_body_that_grows_meanwhile_needs_more() -> None:
    approval = ask(4_000_000, matter="opex-unbudgeted")
    assert approval.levels.get().required == 2
    make_appointment("omar", "audit-committee", start=T0)
    make_appointment("sara", "audit-committee", start=T0)
    assert [decide(approval, name) for name in ("audit1", "audit2", "omar")] == ["pending", "pending", "approved"]
