"""The API of services and agents, of tokens and invitations: what each caller sees and may do."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.test import Client
from django.utils import timezone

from audit.models import LedgerEntry
from holding.models import Unit
from iam.access.confirmation import CONFIRMED
from iam.access.models import ApiToken, Invitation, User
from iam.access.services import token_digest
from iam.access.tests.factories import make_binding
from tests.iam_callers import IAM, as_, call, listed, make_callers

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def callers(redis_url: str) -> None:
    make_callers()


def end(days: float = 30) -> str:
    return (timezone.now() + timedelta(days=days)).isoformat()


def user(name: str) -> User:
    return User.objects.get(username=name)


def make_service(name: str = "erp", unit: str = "pricing") -> User:
    call("root", "POST", "services/", 201, username=name, owner="eva")
    account = user(name)
    make_binding(account, "integration", Unit.objects.get(slug=unit))
    return account


# --- accounts ----------------------------------------------------------------------------------------------


def test_a_service_is_created_used_and_deactivated() -> None:
    made = call("root", "POST", "services/", 201, username="erp", owner="eva", kind="agent")
    assert made == {
        "username": "erp", "kind": "agent", "owner": "eva", "is_active": True, "cleared": True, "tokens": 0,
        "next_end": None, "last_used_at": None,
    }  # fmt: skip
    account = user("erp")
    assert not account.has_usable_password()
    make_binding(account, "integration", Unit.objects.get(slug="pricing"))
    token = call("root", "POST", "tokens/", 201, account="erp", name="nightly", expires_at=end())["token"]
    client = Client(headers={"Authorization": f"Bearer {token}"})
    assert client.get("/api/v1/units/").status_code == 200
    shown = call("head", "GET", "services/erp/", 200)
    assert (shown["tokens"], shown["owner"]) == (1, "eva")
    assert shown["last_used_at"]
    assert shown["next_end"]
    call("head", "POST", "services/erp/deactivate/", 403)
    gone = call("root", "POST", "services/erp/deactivate/", 200)
    assert (gone["is_active"], gone["tokens"]) == (False, 0)
    assert client.get("/api/v1/units/").status_code == 401
    assert "inactive already" in call("root", "POST", "services/erp/deactivate/", 400)["detail"][0]
    told = LedgerEntry.objects.filter(object=f"person/{account.pk}").order_by("id").values_list("action", "actor")
    assert list(told) == [
        (action, "root") for action in ("account.create", "token.issue", "token.revoke", "account.deactivate")
    ]


def test_services_are_seen_as_people_are() -> None:
    make_service("erp"), make_service("ledger-reader", "tax")
    assert listed("head", "services/", "username") == ["erp"]
    assert listed("other", "services/", "username") == ["ledger-reader"]
    assert listed("root", "services/", "username", kind="service", owner="eva", q="erp") == ["erp"]
    assert listed("root", "services/", "username", kind="agent") == []
    for hidden in ("erp", "eva", "nobody"):  # out of view, a person, nobody
        assert hidden in call("other", "GET", f"services/{hidden}/", 404)["detail"]
    call("root", "POST", "services/eva/deactivate/", 404)
    call("eva", "GET", "services/", 403)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"username": "eva"}, "detail"),
        ({"username": "no name"}, "username"),
        ({"username": ""}, "username"),
        ({"owner": "none-such"}, "owner"),
        ({"owner": "gone"}, "detail"),
        ({"kind": "person"}, "kind"),
    ],
)
def test_an_account_that_cannot_be_is_refused(change: dict[str, Any], field: str) -> None:
    User.objects.create(username="gone", is_active=False)
    answer = call("root", "POST", "services/", 400, **{"username": "erp", "owner": "eva", **change})
    assert list(answer) == [field]
    assert not User.objects.exclude(kind="person").exists()
    call("chief", "POST", "services/", 403, username="erp", owner="eva")


# --- tokens of accounts ------------------------------------------------------------------------------------


def test_a_token_is_told_once_and_revoked() -> None:
    make_service()
    body = {
        "account": "erp",
        "name": "nightly",
        "expires_at": end(),
        "permissions": ["units.view"],
        "unit": "pricing",
    }
    response = as_("root").post(f"{IAM}tokens/", body, content_type="application/json")
    assert response.status_code == 201
    assert response.headers["Cache-Control"] == "no-store"
    issued = response.json()
    token = ApiToken.objects.get(user__username="erp")
    assert token.digest == token_digest(issued["token"])
    assert (issued["account"], issued["permissions"], issued["unit"]) == ("erp", ["units.view"], "pricing")
    rows = call("root", "GET", "tokens/", 200, account="erp")["results"]
    assert [row["id"] for row in rows] == [token.pk]
    assert "token" not in rows[0]
    assert issued["token"] not in str(rows)
    assert token.digest not in str(rows)
    assert list(call("root", "GET", "tokens/", 200, account="eva")["results"]) == []
    call("root", "DELETE", f"tokens/{token.pk}/", 204)
    assert str(token.pk) in call("root", "DELETE", f"tokens/{token.pk}/", 404)["detail"]
    assert not ApiToken.objects.filter(user__username="erp").exists()
    call("root", "DELETE", f"tokens/{user('eva').tokens.get().pk}/", 404)  # a person's own
    for name in ("head", "chief"):
        call(name, "GET", "tokens/", 403)
        call(name, "POST", "tokens/", 403, **body)


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"permissions": ["ledger.view"]}, 400, "does not hold"),
        ({"permissions": ["no.such"]}, 400, "does not hold"),
        ({"unit": "tax"}, 400, "holds nothing"),
        ({"expires_at": "2001-01-01T00:00:00Z"}, 400, "future"),
        ({"expires_at": None}, 400, "null"),
        ({"name": "first"}, 400, "already"),
        ({"account": "eva"}, 400, "There is no"),
        ({"account": "\x00"}, 400, "Null"),
        ({"unit": "nowhere"}, 400, "There is no"),
    ],
)
def test_a_token_that_cannot_be_is_refused(change: dict[str, Any], status: int, words: str) -> None:
    make_service()
    body = {"account": "erp", "name": "first", "expires_at": end()}
    call("root", "POST", "tokens/", 201, **body)
    answer = call("root", "POST", "tokens/", status, **{**body, "name": "second", **change})
    assert words in str(answer)
    assert user("erp").tokens.count() == 1
    assert "365" in str(call("root", "POST", "tokens/", 400, **{**body, "name": "x", "expires_at": end(366)}))


def test_a_token_gives_no_more_than_the_token_it_is_issued_with() -> None:
    make_service()
    body = {"account": "erp", "name": "x", "expires_at": end()}
    ApiToken.objects.filter(user__username="root").update(permissions=["tokens.manage", "people.view"])
    assert "units.view" in call("root", "POST", "tokens/", 403, **body)["detail"]
    User.objects.filter(username="erp").update(is_active=False)
    ApiToken.objects.filter(user__username="root").update(permissions=[])
    assert "inactive" in call("root", "POST", "tokens/", 400, **body)["detail"][0]


# --- one's own tokens --------------------------------------------------------------------------------------


def test_people_issue_and_revoke_their_own_tokens() -> None:
    issued = call("eva", "POST", "own-tokens/", 201, name="mine", expires_at=end(), permissions=["units.view"])
    assert user("eva").tokens.get(name="mine").digest == token_digest(issued["token"])
    assert listed("eva", "own-tokens/", "name") == ["mine", "tests"]
    assert listed("head", "own-tokens/", "name") == ["tests"]
    call("head", "DELETE", f"own-tokens/{issued['id']}/", 404)
    call("eva", "DELETE", f"own-tokens/{issued['id']}/", 204)
    assert listed("eva", "own-tokens/", "name") == ["tests"]
    call("eva", "POST", "own-tokens/", 400, name="mine", expires_at=end(), permissions=["ledger.view"])
    call("eva", "POST", "own-tokens/", 400, name="tests", expires_at=end())
    told = LedgerEntry.objects.filter(object=f"person/{user('eva').pk}", actor="eva").order_by("id")
    assert list(told.values_list("action", flat=True)) == ["token.issue", "token.revoke"]


def test_a_token_does_not_reach_for_more_than_it_opens() -> None:
    mine = ApiToken.objects.filter(user__username="eva")
    mine.update(expires_at=timezone.now() + timedelta(days=1))
    assert "outlive" in call("eva", "POST", "own-tokens/", 403, name="x", expires_at=end())["detail"]
    for limit in ({"permissions": ["units.view"]}, {"permissions": [], "unit": Unit.objects.get(slug="pricing")}):
        mine.update(**limit)
        answer = call("eva", "POST", "own-tokens/", 403, name="x", expires_at=end(0.5))
        assert "opens less" in answer["detail"]
        call("eva", "DELETE", f"own-tokens/{mine.get().pk}/", 403)
    assert mine.count() == 1


def test_a_session_issues_tokens_and_invites_only_when_it_was_confirmed_lately() -> None:
    client = Client(headers={"Accept-Language": "en"})
    client.force_login(user("root"))
    own = {"name": "mine", "expires_at": end()}
    invited = {"email": "new@example.org", "role": "viewer"}
    for path, body in (("own-tokens/", own), ("invitations/", invited)):
        refused = client.post(f"{IAM}{path}", body, content_type="application/json")
        assert refused.status_code == 403
        assert "/account/confirm/" in refused.json()["detail"]
    session = client.session
    session[CONFIRMED] = timezone.now().timestamp()
    session.save()
    for path, body in (("own-tokens/", own), ("invitations/", invited)):
        assert client.post(f"{IAM}{path}", body, content_type="application/json").status_code == 201


# --- invitations -------------------------------------------------------------------------------------------


def test_an_invitation_is_sent_and_revoked() -> None:
    body = {"email": "new@example.org", "first_name": "New", "role": "viewer", "unit": "pricing", "language": "en"}
    made = call("root", "POST", "invitations/", 201, **body)
    assert (made["email"], made["role"], made["unit"], made["invited_by"]) == (
        "new@example.org", "viewer", "pricing", "root",
    )  # fmt: skip
    link = re.search(r"/sign-in/invitation/([^/]+)/", str(mail.outbox[0].body))
    assert link
    assert link[1] not in str(made)
    assert Invitation.objects.get().digest == token_digest(link[1])
    assert listed("root", "invitations/", "email", email="new") == ["new@example.org"]
    assert Client().get(link[0]).status_code == 200
    call("root", "POST", f"invitations/{made['id']}/revoke/", 204)
    assert str(made["id"]) in call("root", "POST", f"invitations/{made['id']}/revoke/", 404)["detail"]
    assert Client().get(link[0]).status_code == 410
    assert listed("root", "invitations/", "email") == []
    told = LedgerEntry.objects.filter(action__startswith="invitation.").order_by("id")
    assert list(told.values_list("action", "actor")) == [("invitation.send", "root"), ("invitation.revoke", "root")]


def test_an_invitation_that_cannot_be_is_refused() -> None:
    body = {"email": "new@example.org", "role": "viewer"}
    for change in ({"email": "x"}, {"role": "nothing"}, {"unit": "nowhere"}, {"email": "root@example.org"}):
        call("root", "POST", "invitations/", 400, **{**body, **change})
    for name in ("head", "chief"):
        call(name, "POST", "invitations/", 403, **body)
        call(name, "GET", "invitations/", 403)
    ApiToken.objects.filter(user__username="root").update(permissions=["people.manage"])
    answer = call("root", "POST", "invitations/", 403, **body)
    assert "bindings.grant" in answer["detail"]  # a token that opens less also invites to less
    assert not Invitation.objects.exists()
    assert not mail.outbox


def test_without_a_mail_nobody_is_invited(settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9
    call("root", "POST", "invitations/", 503, email="new@example.org", role="viewer")
    assert Invitation.objects.get().revoked_at
