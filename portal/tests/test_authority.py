"""The matrix, who holds office and one's own authority on pages."""

import pytest

from iam.access.services import ensure_administrator
from iam.authority.models import Appointment, Delegation, Interest
from iam.authority.tests.factories import who
from portal.tests.offices import SignIn, asked, decide, text

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("officers")]


def test_the_matrix_is_shown_in_force_and_as_of_a_day(sign_in: SignIn) -> None:
    client = sign_in("omar")
    page = text(client.get("/authority/?unit=pricing"))
    assert "Budgeted operating contract" in page
    assert "500,000 EUR" in page
    assert "paula" in page
    assert "tomas" not in page
    assert "No matrix was in force then." in text(client.get("/authority/?on=2001-01-01"))
    assert client.get("/authority/?version=1").status_code == 200
    assert client.get("/authority/?version=77").status_code == 404
    assert client.get("/authority/?on=nonsense&unit=%00").status_code == 200
    assert "paula" not in text(sign_in("tomas").get("/authority/?unit=pricing"))


def test_an_office_is_lent_and_taken_back(sign_in: SignIn) -> None:
    paula = sign_in("paula")
    held = Appointment.objects.get(person=who("paula"))
    given = {
        "form": "delegation", "delegation-appointment": str(held.pk), "delegation-person": "dora",
        "delegation-matters": ["capex"], "delegation-limit": "300000", "delegation-reason": "Travel",
    }  # fmt: skip
    refused = paula.post("/authority/mine/", given)
    assert refused.status_code == 422
    assert "above the delegator" in text(refused)
    assert 'value="Travel"' in text(refused)
    assert paula.post("/authority/mine/", given | {"delegation-limit": "100000"}).status_code == 302
    lent = Delegation.objects.get()
    assert (lent.person, lent.matters) == (who("dora"), ["capex"])
    assert sign_in("dora").post(f"/authority/mine/end/delegation/{lent.pk}/").status_code == 404
    assert paula.post(f"/authority/mine/end/delegation/{lent.pk}/").status_code == 302
    lent.refresh_from_db()
    assert lent.valid_to is not None


def test_a_substitute_is_named_and_an_interest_recuses(sign_in: SignIn) -> None:
    dora = sign_in("dora")
    wrong = {"form": "substitution", "substitution-substitute": "nobody", "substitution-reason": "Leave"}
    assert dora.post("/authority/mine/", wrong).status_code == 422
    assert dora.post("/authority/mine/", wrong | {"substitution-substitute": "toni"}).status_code == 302
    approval = asked(counterparty="Acme")
    assert dora.post(
        "/authority/mine/", {"form": "interest", "interest-kind": "relative", "interest-counterparty": "Acme"}
    ).status_code == 302  # fmt: skip
    assert Interest.objects.get().person == who("dora")
    assert "has an interest in it" in text(decide(dora, approval))
    assert dora.post("/authority/mine/", {"form": "what"}).status_code == 422
    assert dora.post("/authority/mine/end/what/1/").status_code == 404


def test_an_administrator_appoints_and_ends(sign_in: SignIn) -> None:
    ensure_administrator(username="root", password="correct horse battery", token="t", actor="test")
    root = sign_in("root")
    given = {"appoint-office": "subsidiary-ceo", "appoint-person": "omar"}
    assert root.post("/authority/appoint/", given).status_code == 422
    himself = root.post("/authority/appoint/", given | {"appoint-unit": "tax", "appoint-person": "root"})
    assert "Nobody appoints themselves." in text(himself)
    assert root.post("/authority/appoint/", given | {"appoint-unit": "tax"}).status_code == 302
    made = Appointment.objects.get(person=who("omar"))
    assert root.post(f"/authority/appoint/{made.pk}/end/").status_code == 302
    made.refresh_from_db()
    assert made.valid_to is not None


def test_every_page_is_one_page_and_the_admin_only_looks(sign_in: SignIn) -> None:
    ensure_administrator(username="root", password="correct horse battery", token="t", actor="test")
    approval = asked()
    root = sign_in("root")
    for path in ("/approvals/", f"/approvals/{approval.pk}/", "/approvals/new/", "/authority/", "/authority/mine/"):
        for language in ("es", "en"):
            page = text(root.get(path, headers={"Accept-Language": language}))
            assert page.count("<h1>") == 1, path
            assert f'lang="{language}"' in page
        assert root.get(path, headers={"HX-Request": "true"}).status_code == 200
    for model in ("approval", "level", "decision", "appointment", "matrixversion", "rule", "interest"):
        assert root.get(f"/admin/authority/{model}/").status_code == 200, model
        assert root.get(f"/admin/authority/{model}/add/").status_code == 403, model
