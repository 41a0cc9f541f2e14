"""The API of bindings, roles and people: what each caller sees and may do."""

from typing import Any

import pytest
from django.test import Client

from audit.models import LedgerEntry
from holding.models import Unit
from holding.tests.factories import make_holding
from iam.access.models import ApiToken, RoleBinding, User
from iam.access.tests.factories import make_binding, make_person, make_token

pytestmark = pytest.mark.django_db
BINDINGS = "/api/v1/iam/bindings/"


@pytest.fixture(autouse=True)
def people() -> None:
    """An administrator, the head of a unit, and somebody who reads each of two units."""
    make_holding(subsidiaries=("pricing", "tax"))
    pricing, tax = (Unit.objects.get(slug=slug) for slug in ("pricing", "tax"))
    for person in (
        make_person("root", role="administrator", is_staff=True),
        make_person("head", role="subsidiary-head", unit=pricing),
        make_person("eva", role="viewer", unit=pricing),
        make_person("tom", role="viewer", unit=tax),
        make_person("none", role=""),
    ):
        make_token(person, token=f"token-of-{person.username}")


def as_(name: str) -> Client:
    return Client(headers={"Authorization": f"Bearer token-of-{name}", "Accept-Language": "en"})


def names(name: str, path: str, key: str, **query: str) -> list[str]:
    response = as_(name).get(path, query)
    assert response.status_code == 200, response.content
    return sorted(row[key] for row in response.json()["results"])


def post(name: str, path: str, **body: Any) -> Any:
    return as_(name).post(path, body, content_type="application/json")


def test_each_caller_sees_the_people_of_their_units() -> None:
    assert names("root", BINDINGS, "person") == ["eva", "head", "root", "tom"]
    assert names("head", BINDINGS, "person") == ["eva", "head"]
    assert names("head", "/api/v1/iam/people/", "username") == ["eva", "head"]
    assert names("root", "/api/v1/iam/people/", "username") == ["eva", "head", "none", "root", "tom"]
    assert as_("head").get("/api/v1/iam/people/tom/").status_code == 404
    other = RoleBinding.objects.get(user__username="tom")
    assert as_("head").get(f"{BINDINGS}{other.pk}/").status_code == 404
    assert as_("eva").get(BINDINGS).status_code == 403


def test_filters_keep_what_they_name() -> None:
    eva = RoleBinding.objects.get(user__username="eva")
    assert names("root", BINDINGS, "person", unit="pricing") == ["eva", "head"]
    assert names("root", BINDINGS, "person", permission="admin.use") == ["root"]
    assert names("root", BINDINGS, "person", role="viewer", person="tom") == ["tom"]
    assert as_("head").get(BINDINGS, {"unit": "tax"}).status_code == 400  # as if it did not exist
    post("root", f"{BINDINGS}{eva.pk}/revoke/", reason="left")
    assert names("root", BINDINGS, "person", role="viewer") == ["tom"]
    assert names("root", BINDINGS, "person", role="viewer", all="true") == ["eva", "tom"]


def test_a_role_is_granted_and_revoked_by_who_may() -> None:
    asked = {"person": "none", "role": "viewer", "unit": "pricing", "reason": "joins"}
    made = post("head", BINDINGS, **asked)
    assert made.status_code == 201, made.content
    assert (made.json()["namespace"], made.json()["granted_by"]) == ("subs-pricing", "head")
    assert as_("none").get("/api/v1/units/").json()["results"][0]["slug"] == "pricing"
    again = post("head", BINDINGS, **asked)
    assert again.status_code == 400
    assert "already" in again.json()["detail"][0]
    path = f"{BINDINGS}{made.json()['id']}/revoke/"
    assert post("head", path).status_code == 400
    assert post("eva", path, reason="x").status_code == 403
    revoked = post("head", path, reason="left")
    assert revoked.status_code == 200
    assert revoked.json()["revoked_at"]
    assert post("head", path, reason="left").status_code == 400
    assert as_("none").get("/api/v1/units/").status_code == 403
    assert LedgerEntry.objects.filter(actor="head").count() == 2


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"unit": None}, 403),
        ({"role": "executive"}, 403),
        ({"person": "head"}, 403),
        ({"unit": "tax"}, 400),
        ({"unit": "\x00"}, 400),
        ({"person": "\x00"}, 400),
        ({"role": "\x00"}, 400),
        ({"person": "nobody"}, 400),
        ({"role": "nothing"}, 400),
        ({"reason": ""}, 400),
        ({"expires_at": "2001-01-01T00:00:00Z"}, 400),
    ],
)
def test_what_cannot_be_granted_is_refused_with_a_sentence(change: dict[str, Any], status: int) -> None:
    body = {"person": "none", "role": "viewer", "unit": "pricing", "reason": "joins", **change}
    response = post("head", BINDINGS, **body)
    assert response.status_code == status, response.content
    assert not User.objects.get(username="none").bindings.exists()


def test_a_token_that_opens_less_also_grants_less() -> None:
    ApiToken.objects.filter(user__username="root").update(permissions=["bindings.grant", "people.view"])
    response = post("root", BINDINGS, person="none", role="viewer", reason="x")
    assert response.status_code == 403
    assert "units.view" in response.json()["detail"]


def test_the_last_administrator_stays() -> None:
    User.objects.filter(username="head").update(is_staff=True)
    binding = make_binding(User.objects.get(username="head"), "administrator")
    mine = RoleBinding.objects.get(user__username="root")
    assert post("head", f"{BINDINGS}{mine.pk}/revoke/", reason="x").status_code == 200
    assert post("head", f"{BINDINGS}{binding.pk}/revoke/", reason="x").status_code == 400
