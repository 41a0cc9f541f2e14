"""Approvals and the matrix over the REST API."""

from typing import Any

import pytest
from django.test import Client

from holding import clock
from iam.access.services import issue_token
from iam.access.tests.factories import make_binding, make_token
from iam.authority import services
from iam.authority.models import Approval
from iam.authority.tests.factories import YES, ask, decide, make_authority, office_of, unit_of, who

pytestmark = pytest.mark.django_db
PEOPLE = {
    "dora": ("supervisor", "pricing"),
    "paula": ("subsidiary-head", "pricing"),
    "tomas": ("subsidiary-head", "tax"),
    "omar": ("auditor", ""),
    "sara": ("viewer", ""),
}


@pytest.fixture(autouse=True)
def authority(db: None, redis_url: str) -> None:
    make_authority()
    for name, (role, unit) in PEOPLE.items():
        make_binding(who(name), role, unit_of(unit) if unit else None)
        make_token(who(name), token=f"token-of-{name}")


def get(name: str, path: str = "approvals/") -> Any:
    return _client(name).get(f"/api/v1/{path}")


def post(name: str, path: str, data: dict[str, Any]) -> Any:
    return _client(name).post(f"/api/v1/{path}", data, content_type="application/json")


def _client(name: str) -> Client:
    return Client(headers={"Authorization": f"Bearer token-of-{name}", "Accept-Language": "en"})


def body(**fields: Any) -> dict[str, Any]:
    given = {"key": "order-4711", "matter": "opex-budgeted", "unit": "pricing", "value": "40000", "title": "Paper"}
    return {**given, **fields}


def test_a_request_is_made_once_decided_by_another_and_told() -> None:
    made = post("paula", "approvals/", body())
    assert made.status_code == 201
    asked = made.json()
    assert (asked["state"], asked["matter"], asked["unit"]) == ("pending", "opex-budgeted", "pricing")
    assert [level["office"] for level in asked["levels"]] == ["subsidiary-director"]
    assert post("paula", "approvals/", body()).json()["id"] == asked["id"]
    assert post("paula", "approvals/", body(value="41000")).status_code == 409
    path = f"approvals/{asked['id']}/decide/"
    refused = post("paula", path, {"verdict": "approve"})
    assert refused.status_code == 403
    assert "does not decide it" in refused.json()["detail"]
    assert post("dora", path, {"verdict": "reject"}).status_code == 400
    done = post("dora", path, {"verdict": "approve"})
    assert (done.status_code, done.json()["state"]) == (200, "approved")
    assert done.json()["decisions"][0]["person"] == "dora"
    assert post("dora", path, {"verdict": "approve"}).status_code == 403


def test_the_requester_withdraws_and_nobody_else() -> None:
    asked = post("paula", "approvals/", body()).json()["id"]
    assert post("tomas", f"approvals/{asked}/withdraw/", {}).status_code == 404
    assert post("dora", f"approvals/{asked}/withdraw/", {}).status_code == 403
    assert post("paula", f"approvals/{asked}/withdraw/", {"reason": "x"}).json()["state"] == "withdrawn"


def test_each_sees_the_approvals_of_their_units() -> None:
    mine, theirs = ask(at=clock.now()), ask(unit="tax", at=clock.now())
    assert [row["id"] for row in get("dora").json()["results"]] == [mine.pk]
    assert [row["id"] for row in get("tomas").json()["results"]] == [theirs.pk]
    assert [row["id"] for row in get("omar").json()["results"]] == [theirs.pk, mine.pk]
    assert [row["id"] for row in get("omar", "approvals/?unit=tax&state=pending").json()["results"]] == [theirs.pk]
    assert get("dora", f"approvals/{theirs.pk}/").status_code == 404
    assert get("dora", f"approvals/{mine.pk}/").json()["digest"] == mine.digest
    assert get("omar", "approvals/?what=1").status_code == 400
    assert get("omar", "approvals/?state=nope").status_code == 400


def test_the_permissions_of_each_act_are_asked_for() -> None:
    asked = ask(at=clock.now())
    assert get("sara").status_code == 403
    assert post("omar", "approvals/", body()).status_code == 403
    assert post("omar", f"approvals/{asked.pk}/decide/", {"verdict": "approve"}).status_code == 403
    assert Client().get("/api/v1/approvals/").status_code == 401
    assert Client().get("/api/v1/authority/matrix/").status_code == 401


@pytest.mark.parametrize(
    "wrong", [{"value": "-1"}, {"value": "x"}, {"unit": "tax"}, {"unit": "moon"}, {"matter": "x"}, {"key": ""}]
)
def test_what_cannot_be_asked_for_is_refused(wrong: dict[str, Any]) -> None:
    assert post("paula", "approvals/", body(**wrong)).status_code == 400
    assert not Approval.objects.exists()


def test_the_matrix_is_read_as_of_a_day() -> None:
    matrix = get("omar", "authority/matrix/").json()
    assert (matrix["number"], matrix["status"]) == (1, "adopted")
    assert {
        "matter": "capex",
        "measure": "amount",
        "office": "board",
        "rank": 6,
        "limit": None,
        "required": None,
    } in (matrix["rules"])
    assert get("omar", "authority/matrix/?on=2001-01-01").status_code == 404
    assert get("omar", "authority/matrix/?on=x").status_code == 400
    assert get("omar", "authority/matrix/?day=x").status_code == 400
    assert get("sara", "authority/matrix/").status_code == 403


def test_a_title_is_chosen_among_those_that_suffice() -> None:
    lent = services.delegate(
        appointment=office_of("dani"), delegator=who("dani"), person=who("dora"), reason="Leave"
    )
    asked = ask(at=clock.now())
    path = f"approvals/{asked.pk}/"
    own, other = get("dora", f"{path}titles/").json()
    assert own == {
        "key": f"office-{office_of('dora').pk}",
        "office": "subsidiary-director",
        "unit": "pricing",
        "acting_for": None,
        "delegation": None,
        "substitution": None,
    }
    assert (other["key"], other["acting_for"], other["delegation"]) == (f"delegation-{lent.pk}", "dani", lent.pk)
    assert get("paula", f"{path}titles/").json() == []
    assert get("tomas", f"{path}titles/").status_code == 404
    assert get("omar", f"{path}titles/").status_code == 403
    assert get("dora", f"{path}titles/?x=1").status_code == 400
    refused = post("dora", f"{path}decide/", {"verdict": "approve", "acting_as": "office-0"})
    assert refused.status_code == 403
    assert "does not hold the title" in refused.json()["detail"]
    done = post("dora", f"{path}decide/", {"verdict": "approve", "acting_as": other["key"]})
    assert done.status_code == 200
    assert (done.json()["decisions"][0]["person"], done.json()["decisions"][0]["acting_for"]) == ("dora", "dani")


def test_a_token_of_one_unit_acts_on_no_other() -> None:
    make_binding(who("dora"), "supervisor", unit_of("tax"))
    make_binding(who("dora"), "subsidiary-head", unit_of("tax"))
    issue_token(
        user=who("dora"), name="tax", token="tax-of-dora", expires_at=None, actor="test", unit=unit_of("tax")
    )
    client = Client(headers={"Authorization": "Bearer tax-of-dora", "Accept-Language": "en"})
    waiting, own = ask(9_000, at=clock.now()), ask(9_000, by="dora", at=clock.now())
    decided = ask(9_000, at=clock.now())
    decide(decided, "dora", YES, at=clock.now())
    for asked in (waiting, own, decided):
        path = f"/api/v1/approvals/{asked.pk}/"
        assert client.get(path).status_code == 404
        assert client.get(f"{path}titles/").status_code == 404
        for act, data in (("decide", {"verdict": "approve"}), ("withdraw", {})):
            answer = client.post(f"{path}{act}/", data, content_type="application/json")
            assert answer.status_code == 404, act
        assert get("dora", f"approvals/{asked.pk}/").status_code == 200  # a token of the account itself
    there = ask(unit="tax", at=clock.now())
    assert client.get(f"/api/v1/approvals/{there.pk}/").status_code == 200
    assert client.get(f"/api/v1/approvals/{there.pk}/titles/").json() == []
    refused = client.post("/api/v1/approvals/", body(), content_type="application/json")
    assert refused.status_code in {400, 403}
    made = client.post("/api/v1/approvals/", body(unit="tax"), content_type="application/json")
    assert made.status_code == 201
    waiting.refresh_from_db()
    own.refresh_from_db()
    assert (waiting.state, own.state) == ("pending", "pending")


def test_a_token_of_one_unit_needs_the_permission_for_it() -> None:
    make_binding(who("dora"), "auditor", unit_of("tax"))
    issue_token(
        user=who("dora"), name="tax", token="tax-of-dora", expires_at=None, actor="test", unit=unit_of("tax")
    )
    client = Client(headers={"Authorization": "Bearer tax-of-dora", "Accept-Language": "en"})
    there = ask(unit="tax", by="dora", at=clock.now())
    assert client.get(f"/api/v1/approvals/{there.pk}/").status_code == 200
    for act in ("decide", "withdraw"):
        answer = client.post(
            f"/api/v1/approvals/{there.pk}/{act}/", {"verdict": "approve"}, content_type="application/json"
        )
        assert answer.status_code == 403
    assert client.get(f"/api/v1/approvals/{there.pk}/titles/").status_code == 403
