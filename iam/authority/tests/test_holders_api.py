"""Who holds authority, and versions of the matrix, over the REST API."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from audit.models import LedgerEntry
from holding import clock
from iam.access.tests.factories import make_binding, make_token
from iam.authority import services
from iam.authority.models import Appointment, Delegation, Interest, MatrixVersion, Substitution
from iam.authority.tests.factories import ask, make_authority, office_of, unit_of, who

pytestmark = pytest.mark.django_db
PEOPLE = {
    "dora": ("supervisor", "pricing"),
    "paula": ("subsidiary-head", "pricing"),
    "tomas": ("subsidiary-head", "tax"),
    "carla": ("executive", ""),
    "omar": ("auditor", ""),
    "rita": ("administrator", ""),
    "gema": ("administrator", ""),
    "sara": ("viewer", ""),
}
KINDS = ("offices", "appointments", "delegations", "substitutions", "interests", "matrix/versions")


@pytest.fixture(autouse=True)
def authority(db: None, redis_url: str) -> None:
    make_authority()
    for name, (role, unit) in PEOPLE.items():
        make_binding(who(name), role, unit_of(unit) if unit else None)
        make_token(who(name), token=f"token-of-{name}")


def get(name: str, path: str) -> Any:
    return _client(name).get(f"/api/v1/authority/{path}")


def post(name: str, path: str, data: dict[str, Any] | None = None) -> Any:
    return _client(name).post(f"/api/v1/authority/{path}", data or {}, content_type="application/json")


def _client(name: str) -> Client:
    return Client(headers={"Authorization": f"Bearer token-of-{name}", "Accept-Language": "en"})


def rows(name: str, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = get(name, path).json()["results"]
    return found


def last(action: str) -> tuple[str, str]:
    entry = LedgerEntry.objects.filter(action=action).latest("pk")
    return entry.actor, entry.object


def lend(**fields: Any) -> Any:
    given = {"appointment": office_of("paula").pk, "person": "dora", "matters": ["capex"], "reason": "Travel"}
    return post("paula", "delegations/", {**given, **fields})


# --- who gets in -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_each_list_asks_for_its_permission(kind: str) -> None:
    assert Client().get(f"/api/v1/authority/{kind}/").status_code == 401
    assert get("sara", f"{kind}/").status_code == 403
    assert get("omar", f"{kind}/").status_code == 200
    assert get("omar", f"{kind}/?colour=red").status_code == 400


def test_what_is_not_there_is_told_in_a_sentence() -> None:
    for kind, end in (
        ("appointments", "end"),
        ("delegations", "revoke"),
        ("substitutions", "end"),
        ("interests", "end"),
    ):
        for response in (get("rita", f"{kind}/987654/"), post("rita", f"{kind}/987654/{end}/")):
            assert response.status_code == 404
            assert response.json()["detail"] == "There is nothing of the number 987654 here."


# --- offices and appointments ------------------------------------------------------------------------------


def test_offices_are_listed_by_rank() -> None:
    found = rows("dora", "offices/")
    assert [office["rank"] for office in found] == sorted(office["rank"] for office in found)
    assert {"slug": "board", "name": "Board of directors", "scope": "body", "rank": 6} in found


def test_appointments_of_the_group_and_of_units_in_view_are_seen() -> None:
    def names(name: str, query: str = "") -> set[str]:
        return {row["person"] for row in rows(name, f"appointments/?limit=500&{query}")}

    assert {"dora", "dani", "paula", "carla", "board1"} <= names("dora")
    assert not names("dora") & {"toni", "tomas"}
    assert {"toni", "tomas", "dora"} <= names("omar")
    assert names("omar", "office=subsidiary-ceo") == {"paula", "tomas"}
    assert names("omar", "unit=tax") == {"toni", "tomas"}
    assert names("omar", "person=carla") == names("carla", "mine=true") == {"carla"}
    assert get("dora", "appointments/?unit=tax").status_code == 400
    hidden = office_of("tomas").pk
    assert get("dora", f"appointments/{hidden}/").status_code == 404
    assert get("tomas", f"appointments/{hidden}/").json()["unit"] == "tax"


def test_who_manages_authority_appoints_and_ends() -> None:
    given = {"office": "subsidiary-ceo", "person": "omar", "unit": "tax"}
    assert post("carla", "appointments/", given).status_code == 403
    made = post("rita", "appointments/", given)
    assert made.status_code == 201, made.content
    row = Appointment.objects.get(person=who("omar"))
    assert made.json() == {
        "id": row.pk,
        "office": "subsidiary-ceo",
        "person": "omar",
        "unit": "tax",
        "valid_from": made.json()["valid_from"],
        "valid_to": None,
        "recorded_by": "rita",
    }
    assert last("office.appoint") == ("rita", f"person/{who('omar').pk}")
    again = post("rita", "appointments/", given)
    assert again.status_code == 400
    assert "holds this office already" in again.json()["detail"][0]
    assert post("carla", f"appointments/{row.pk}/end/").status_code == 403
    ended = post("rita", f"appointments/{row.pk}/end/")
    assert ended.status_code == 200
    row.refresh_from_db()
    assert row.valid_to is not None
    assert ended.json()["valid_to"] is not None
    assert last("office.end") == ("rita", f"person/{who('omar').pk}")
    assert post("rita", f"appointments/{row.pk}/end/").json() == ended.json()
    assert row.pk not in [one["id"] for one in rows("rita", "appointments/?limit=500")]
    assert row.pk in [one["id"] for one in rows("rita", "appointments/?limit=500&all=true")]


def test_nobody_appoints_themselves() -> None:
    refused = post("rita", "appointments/", {"office": "group-cfo", "person": "rita"})
    assert refused.status_code == 403
    assert refused.json()["detail"] == "Nobody appoints themselves."
    assert not Appointment.objects.filter(person=who("rita")).exists()


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"office": "nothing"}, "office"),
        ({"office": "agent-envelope"}, "office"),
        ({"person": "nobody"}, "no active person"),
        ({"unit": None}, "needs a unit"),
        ({"office": "board"}, "needs a unit"),
        ({"unit": "moon"}, "unit"),
        ({"valid_to": "2001-01-01T00:00:00Z"}, "before it begins"),
        ({"valid_to": "x"}, "valid_to"),
    ],
)
def test_an_appointment_that_cannot_be_is_refused(fields: dict[str, Any], word: str) -> None:
    given = {"office": "subsidiary-ceo", "person": "omar", "unit": "tax", **fields}
    refused = post("rita", "appointments/", given)
    assert refused.status_code == 400
    assert word in json.dumps(refused.json())
    assert not Appointment.objects.filter(person=who("omar")).exists()


# --- delegations -------------------------------------------------------------------------------------------


def test_an_office_is_lent_decided_with_and_taken_back() -> None:
    made = lend(limit="100000")
    assert made.status_code == 201, made.content
    row = Delegation.objects.get()
    told = made.json()
    assert (told["id"], told["office"], told["unit"]) == (row.pk, "subsidiary-ceo", "pricing")
    assert (told["delegator"], told["person"], told["matters"], told["limit"]) == (
        "paula", "dora", ["capex"], "100000.0000",
    )  # fmt: skip
    assert last("office.delegate") == ("paula", f"person/{who('dora').pk}")
    approval = ask(90_000, matter="capex", at=clock.now())
    assert services.explain(approval=approval, person=who("dora")).allowed
    refused = post("dora", f"delegations/{row.pk}/revoke/")
    assert refused.status_code == 403
    assert refused.json()["detail"] == "Only who lent an office takes it back."
    assert post("paula", f"delegations/{row.pk}/revoke/").json()["valid_to"] is not None
    assert last("office.revoke") == ("paula", f"person/{who('dora').pk}")
    assert not services.explain(approval=approval, person=who("dora")).allowed
    assert rows("paula", "delegations/") == []
    assert [one["id"] for one in rows("paula", "delegations/?all=true")] == [row.pk]


@pytest.mark.parametrize(
    ("fields", "status", "word"),
    [
        ({"appointment": lambda: office_of("carla").pk}, 403, "Only who holds an office can delegate it"),
        ({"appointment": lambda: 987654}, 400, "appointment"),
        ({"limit": "300000"}, 400, "above the delegator"),
        ({"limit": "-1"}, 400, "limit"),
        ({"matters": ["nothing"]}, 400, "matters"),
        ({"matters": ["merger"]}, 400, "does not decide"),
        ({"person": "paula"}, 400, "themselves"),
        ({"person": "nobody"}, 400, "no active person"),
        ({"reason": ""}, 400, "reason"),
    ],
)
def test_a_delegation_that_cannot_be_is_refused(fields: dict[str, Any], status: int, word: str) -> None:
    refused = lend(**{name: value() if callable(value) else value for name, value in fields.items()})
    assert refused.status_code == status
    assert word in json.dumps(refused.json())
    assert not Delegation.objects.exists()


def test_delegations_are_seen_by_unit_and_by_those_whom_they_concern() -> None:
    ours = lend(person="tomas").json()["id"]
    theirs = services.delegate(
        appointment=office_of("toni"), delegator=who("toni"), person=who("omar"), reason="Leave"
    ).pk

    def seen(name: str, query: str = "") -> set[int]:
        return {row["id"] for row in rows(name, f"delegations/?{query}")}

    assert seen("dora") == {ours}
    assert seen("tomas") == {ours, theirs}  # one is lent to him, of a unit that he does not see
    assert seen("tomas", "mine=true") == {ours}
    assert get("tomas", f"delegations/{ours}/").json()["unit"] == "pricing"
    assert seen("omar") == seen("rita") == {ours, theirs}
    assert seen("omar", "mine=true") == {theirs}
    assert get("dora", f"delegations/{theirs}/").status_code == 404
    assert post("dora", f"delegations/{theirs}/revoke/").status_code == 404


# --- substitutions -----------------------------------------------------------------------------------------


def test_a_substitute_is_named_and_ended_by_the_person_alone() -> None:
    made = post("paula", "substitutions/", {"substitute": "carla", "reason": "Leave"})
    assert made.status_code == 201, made.content
    row = Substitution.objects.get()
    assert (made.json()["person"], made.json()["substitute"]) == ("paula", "carla")
    assert last("office.substitute") == ("paula", f"person/{who('paula').pk}")
    twice = post("paula", "substitutions/", {"substitute": "omar", "reason": "Leave"})
    assert twice.status_code == 400
    assert "already in that time" in twice.json()["detail"][0]
    alone = post("dora", "substitutions/", {"substitute": "dora", "reason": "Leave"})
    assert (alone.status_code, alone.json()["detail"]) == (400, ["Nobody stands in for themselves."])
    assert [one["id"] for one in rows("dora", "substitutions/")] == [row.pk]
    assert rows("dora", "substitutions/?mine=true") == []
    assert [one["id"] for one in rows("carla", "substitutions/?mine=true")] == [row.pk]
    assert get("tomas", f"substitutions/{row.pk}/").status_code == 404
    refused = post("carla", f"substitutions/{row.pk}/end/")
    assert (refused.status_code, refused.json()["detail"]) == (
        403, "Only whom it stands in for ends a substitution.",
    )  # fmt: skip
    assert post("paula", f"substitutions/{row.pk}/end/").status_code == 200
    assert last("office.return") == ("paula", f"person/{who('paula').pk}")
    row.refresh_from_db()
    assert row.valid_to is not None


# --- interests ---------------------------------------------------------------------------------------------


def test_an_interest_is_declared_recuses_and_is_ended_for_what_comes_later() -> None:
    made = post("dora", "interests/", {"kind": "relative", "counterparty": " Acme  Ltd "})
    assert made.status_code == 201, made.content
    row = Interest.objects.get()
    assert made.json()["counterparty"] == row.counterparty == "Acme Ltd"
    assert last("interest.declare") == ("dora", f"person/{who('dora').pk}")
    approval = ask(counterparty="Acme Ltd", at=clock.now())
    refused = post("paula", f"interests/{row.pk}/end/")
    assert (refused.status_code, refused.json()["detail"]) == (403, "Only whose interest it is ends it.")
    assert post("dora", f"interests/{row.pk}/end/").json()["valid_to"] is not None
    assert last("interest.end") == ("dora", f"person/{who('dora').pk}")
    decided = _client("dora").post(
        f"/api/v1/approvals/{approval.pk}/decide/", {"verdict": "approve"}, content_type="application/json"
    )
    assert decided.status_code == 403
    assert "an interest in it" in decided.json()["detail"]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"unit": "pricing", "counterparty": "Acme"},
        {"unit": "tax"},  # not in view of her
        {"counterparty": "  "},
        {"counterparty": "Acme", "kind": "what"},
        {"counterparty": "A" * 201},
        {"counterparty": "Acme", "valid_to": "2001-01-01T00:00:00Z"},
    ],
)
def test_an_interest_that_cannot_be_is_refused(fields: dict[str, Any]) -> None:
    assert post("dora", "interests/", {"kind": "other", **fields}).status_code == 400
    assert not Interest.objects.exists()


def test_interests_are_seen_by_who_sees_the_units_of_the_person() -> None:
    row = Interest.objects.get(pk=post("dora", "interests/", {"kind": "other", "unit": "pricing"}).json()["id"])
    for name in ("dora", "paula", "omar", "carla"):
        assert [one["unit"] for one in rows(name, "interests/")] == ["pricing"], name
    assert rows("tomas", "interests/") == rows("paula", "interests/?mine=true") == []
    assert get("tomas", f"interests/{row.pk}/").status_code == 404


# --- versions of the matrix --------------------------------------------------------------------------------


def rules() -> list[dict[str, Any]]:
    told = get("omar", "matrix/").json()["rules"]
    return [{name: rule[name] for name in ("matter", "office", "limit", "required")} for rule in told]


def lowered() -> list[dict[str, Any]]:
    given = rules()
    for rule in given:
        if (rule["matter"], rule["office"]) == ("opex-budgeted", "subsidiary-ceo"):
            rule["limit"] = "400000"
    return [rule for rule in given if (rule["matter"], rule["office"]) != ("capex", "group-ceo")]


def test_a_version_is_drafted_by_one_and_adopted_by_another() -> None:
    assert post("carla", "matrix/versions/", {"rules": lowered(), "reason": "x"}).status_code == 403
    made = post("rita", "matrix/versions/", {"rules": lowered(), "reason": "Lower"})
    assert made.status_code == 201, made.content
    told = made.json()
    assert (told["number"], told["status"], told["author"], told["reason"]) == (2, "draft", "rita", "Lower")
    assert told["changes"] == [
        {
            "matter": "opex-budgeted",
            "office": "subsidiary-ceo",
            "before": {"limit": "500000.0000", "required": 1},
            "after": {"limit": "400000.0000", "required": 1},
        },
        {
            "matter": "capex",
            "office": "group-ceo",
            "before": {"limit": "10000000.0000", "required": 1},
            "after": None,
        },
    ]
    assert last("matrix.draft") == ("rita", "matrix/2")
    assert get("dora", "matrix/versions/2/").json() == told
    assert [row["number"] for row in rows("dora", "matrix/versions/")] == [2, 1]
    refused = post("rita", "matrix/versions/2/adopt/")
    assert refused.status_code == 403
    assert "somebody other than its author" in refused.json()["detail"]
    assert post("carla", "matrix/versions/2/adopt/").status_code == 403
    done = post("gema", "matrix/versions/2/adopt/")
    assert (done.status_code, done.json()["status"], done.json()["approver"]) == (200, "adopted", "gema")
    assert len(done.json()["changes"]) == 2
    assert last("matrix.adopt") == ("gema", "matrix/2")
    assert get("omar", "matrix/").json()["number"] == 2
    again = post("gema", "matrix/versions/2/adopt/")
    assert (again.status_code, again.json()["detail"]) == (400, ["Version 2 is not a draft."])


def test_a_version_comes_into_force_later() -> None:
    post("rita", "matrix/versions/", {"rules": lowered(), "reason": "Lower"})
    past = {"valid_from": (clock.now() - timedelta(days=1)).isoformat()}
    assert "in the past" in post("gema", "matrix/versions/2/adopt/", past).json()["detail"][0]
    later = {"valid_from": (clock.now() + timedelta(days=9)).isoformat()}
    assert post("gema", "matrix/versions/2/adopt/", later).status_code == 200
    assert get("omar", "matrix/").json()["number"] == 1


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda given: given, "says the same"),
        (lambda given: [], "lets nobody decide"),
        (lambda given: [*given, {"matter": "zq", "office": "board", "limit": None, "required": None}], "no such"),
        (lambda given: [*given, given[0]], "two offices of one rank"),
        (lambda given: [{**given[0], "limit": "-1"}], "from 0"),
        (lambda given: [{**given[0], "limit": "x"}], "limit"),
        (lambda given: [{**given[0], "limit": "1.00001"}], "limit"),
        (lambda given: [{"matter": "capex", "office": "board", "limit": None}], "by majority"),
        (lambda given: [{"matter": "capex"}], "required"),
        (lambda given: "all", "Expected a list"),
    ],
)
def test_a_draft_that_cannot_be_is_refused(change: Callable[[list[dict[str, Any]]], Any], word: str) -> None:
    refused = post("rita", "matrix/versions/", {"rules": change(rules()), "reason": "x"})
    assert refused.status_code == 400
    assert word in json.dumps(refused.json()["rules"])
    assert MatrixVersion.objects.count() == 1


def test_a_version_that_is_not_there_is_told() -> None:
    for response in (get("omar", "matrix/versions/77/"), post("rita", "matrix/versions/77/adopt/")):
        assert response.status_code == 404
        assert response.json()["detail"] == "There is no version 77 of the matrix."
