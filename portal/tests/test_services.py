"""`/iam/services/` and `/iam/groups/`: what each of several people sees there, and what their forms do."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit.models import LedgerEntry
from holding.models import Unit
from holding.tests.factories import make_holding
from iam.access.confirmation import CONFIRMED
from iam.access.models import EmergencyAccess, GroupMapping, User
from iam.access.services import token_digest
from iam.access.tests.factories import make_binding, make_person, make_token
from portal.tests.test_access import FORBIDDEN

pytestmark = pytest.mark.django_db
ACCOUNT = {"username": "crm", "kind": "agent", "owner": "eva"}
TOKEN = {"name": "nightly", "days": "30", "unit": "corporate", "permissions": ["units.view"]}


@pytest.fixture(autouse=True)
def people(redis_url: str) -> None:
    """An administrator, the heads of two units, a viewer; a service of one unit, and what a group gives there."""
    make_holding(subsidiaries=("pricing", "tax"))
    make_person("root", role="administrator", is_staff=True)
    for slug in ("pricing", "tax"):
        make_person(f"head-{slug}", role="subsidiary-head", unit=unit(slug))
    eva = make_person("eva", role="viewer", unit=unit("pricing"))
    service = User.objects.create(username="erp", kind="service", owner=eva, cleared=True)
    make_binding(service, "integration", unit("pricing"))
    role = service.bindings.get().role
    GroupMapping.objects.create(group="readers", role=role, unit=unit("pricing"))


def unit(slug: str) -> Unit:
    return Unit.objects.get(slug=slug)


def as_(name: str) -> Client:
    client = Client(headers={"Accept-Language": "en"})
    client.force_login(User.objects.get(username=name))
    session = client.session
    session[CONFIRMED] = timezone.now().timestamp()
    session.save()
    return client


def text(response: Any) -> str:
    return str(response.content, "utf-8")


def tabs(client: Client) -> set[str]:
    return set(re.findall(r'<a class="button" href="(/iam/[a-z]*/?)"', text(client.get("/iam/"))))


def test_each_sees_services_and_groups_of_the_units_where_they_see_people() -> None:
    for path, mark in (("/iam/services/", "/iam/services/erp/"), ("/iam/groups/", "readers")):
        for name, seen in (("root", True), ("head-pricing", True), ("head-tax", False)):
            response = as_(name).get(path)
            assert response.status_code == 200
            assert (mark in text(response)) == seen, (name, path)
        assert as_("eva").get(path).status_code == 403
    assert as_("head-pricing").get("/iam/services/erp/").status_code == 200
    for hidden in ("erp", "eva", "nobody"):
        assert as_("head-tax").get(f"/iam/services/{hidden}/").status_code == 404
    assert "No service or agent has an account." in text(as_("head-tax").get("/iam/services/"))
    assert "No group gives a role." in text(as_("head-tax").get("/iam/groups/"))


def test_tabs_and_forms_are_shown_to_those_who_may() -> None:
    make_person("sup", role="supervisor", unit=unit("pricing"))
    assert {"/iam/services/", "/iam/groups/", "/iam/reviews/"} <= tabs(as_("head-pricing"))
    assert "/iam/reviews/" not in tabs(as_("sup"))
    assert "Create an account" in text(as_("root").get("/iam/services/"))
    assert "Create an account" not in text(as_("head-pricing").get("/iam/services/"))
    assert "Let a group give a role" in text(as_("head-pricing").get("/iam/groups/"))
    assert "Let a group give a role" not in text(as_("sup").get("/iam/groups/"))
    page = text(as_("head-pricing").get("/iam/services/erp/"))
    assert "Issue a token" not in page
    assert "Deactivate" not in page


def test_the_pages_are_whole_cheap_and_keep_to_the_policy() -> None:
    root = as_("root")
    for path in ("/iam/services/", "/iam/services/erp/", "/iam/services/erp/token/", "/iam/groups/"):
        with CaptureQueriesContext(connection) as queries:
            response = root.get(path)
        assert response.status_code == 200, path
        assert not FORBIDDEN.search(text(response)), path
        assert len([one for one in queries if "SAVEPOINT" not in one["sql"]]) <= 13, path
        assert "<html" not in text(root.get(path, headers={"HX-Request": "true"})), path


def test_long_lists_are_paged() -> None:
    owner, role = User.objects.get(username="eva"), GroupMapping.objects.get().role
    for number in range(60):
        User.objects.create(username=f"s{number:02}", kind="service", owner=owner)
        GroupMapping.objects.create(group=f"g{number:02}", role=role)
    for path, pattern in (("/iam/services/", r"/iam/services/([^/\"]+)/"), ("/iam/groups/", r"\bg\d\d\b|readers")):
        first = text(as_("root").get(path))
        link = re.search(r'rel="next" href="([^"]+)"', first)
        assert link
        second = text(as_("root").get(link[1].replace("&amp;", "&")))
        here, there = set(re.findall(pattern, first)), set(re.findall(pattern, second))
        assert (len(here), len(there), here & there) == (50, 11, set())


# --- accounts and their tokens -----------------------------------------------------------------------------


def test_an_account_is_created_and_deactivated() -> None:
    root = as_("root")
    made = root.post("/iam/new-service/", ACCOUNT)
    assert made.headers["Location"] == "/iam/services/crm/"
    assert "Created: crm" in text(root.get("/iam/services/crm/"))
    account = User.objects.get(username="crm")
    assert (account.kind, account.owner, account.has_usable_password()) == (
        "agent", User.objects.get(username="eva"), False,
    )  # fmt: skip
    make_token(account, expires_at=timezone.now() + timedelta(days=1))
    assert root.post("/iam/services/crm/deactivate/").status_code == 302
    assert not account.tokens.exists()
    refused = root.post("/iam/services/crm/deactivate/")
    assert refused.status_code == 422
    assert "inactive already" in text(refused)
    assert as_("head-pricing").post("/iam/services/erp/deactivate/").status_code == 403
    assert root.get("/iam/services/crm/deactivate/").status_code == 405
    actions = LedgerEntry.objects.filter(actor="root", action__startswith="account.").order_by("id")
    assert list(actions.values_list("action", flat=True)) == ["account.create", "account.deactivate"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"username": "erp"}, "in use"),
        ({"username": "no name"}, "Enter a valid username"),
        ({"owner": "erp"}, "must answer"),
        ({"owner": "nobody"}, "nobody with that name"),
        ({"kind": "person"}, "Select a valid choice"),
    ],
)
def test_an_account_that_cannot_be_is_a_422_with_the_form_as_it_was(change: dict[str, str], words: str) -> None:
    form = {**ACCOUNT, **change}
    response = as_("root").post("/iam/new-service/", form)
    assert response.status_code == 422
    assert words in text(response)
    assert f'value="{form["username"]}"' in text(response)
    assert User.objects.exclude(kind="person").count() == 1
    assert as_("head-pricing").post("/iam/new-service/", form).status_code == 403


def test_a_token_is_shown_once_works_and_is_revoked() -> None:
    root = as_("root")
    response = root.post("/iam/services/erp/token/", {**TOKEN, "unit": "pricing"})
    assert response.status_code == 200
    assert "no-store" in response.headers["Cache-Control"]
    shown = re.search(r"<code data-token>([^<]+)</code>", text(response))
    assert shown
    token = User.objects.get(username="erp").tokens.get()
    assert token.digest == token_digest(shown[1])
    caller = Client(headers={"Authorization": f"Bearer {shown[1]}"})
    assert caller.get("/api/v1/units/").status_code == 200
    page = text(root.get("/iam/services/erp/"))
    assert "nightly" in page
    assert shown[1] not in page
    assert "nightly" not in text(as_("head-pricing").get("/iam/services/erp/"))
    again = root.post("/iam/services/erp/token/", {**TOKEN, "unit": "pricing"})
    assert again.status_code == 422
    assert "already" in text(again)
    path = f"/iam/services/erp/tokens/{token.pk}/revoke/"
    assert as_("head-pricing").post(path).status_code == 403
    assert root.post(path).headers["Location"] == "/iam/services/erp/"
    assert root.post(path).status_code == 404
    assert caller.get("/api/v1/units/").status_code == 401


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"permissions": ["ledger.view"]}, "does not hold"),
        ({"unit": "tax"}, "does not hold"),
        ({"days": "366"}, "365"),
        ({"days": "0"}, "1"),
        ({"name": ""}, "required"),
    ],
)
def test_a_token_that_cannot_be_is_a_422(change: dict[str, Any], words: str) -> None:
    response = as_("root").post("/iam/services/erp/token/", {**TOKEN, "unit": "pricing", **change})
    assert response.status_code == 422
    assert words in text(response)
    assert not User.objects.get(username="erp").tokens.exists()


def test_a_token_is_issued_only_by_who_showed_lately_who_they_are() -> None:
    client = as_("root")
    session = client.session
    session[CONFIRMED] = 0
    session.save()
    for response in (client.get("/iam/services/erp/token/"), client.post("/iam/services/erp/token/", TOKEN)):
        assert response.headers["Location"].startswith("/account/confirm/?next=")
    assert not User.objects.get(username="erp").tokens.exists()


# --- groups ------------------------------------------------------------------------------------------------


def test_a_group_is_mapped_and_unmapped() -> None:
    head, form = as_("head-pricing"), {"group": "lookers", "role": "viewer", "unit": "pricing"}
    assert head.post("/iam/groups/add/", form).headers["Location"] == "/iam/groups/"
    mapping = GroupMapping.objects.get(group="lookers")
    again = head.post("/iam/groups/add/", form)
    assert again.status_code == 422
    assert "already" in text(again)
    assert 'value="lookers"' in text(again)
    for change, words in (({"role": "administrator"}, "you lack"), ({"unit": "tax"}, "valid choice")):
        refused = head.post("/iam/groups/add/", {**form, **change})
        assert refused.status_code == 422
        assert words in text(refused)
    path = f"/iam/groups/{mapping.pk}/remove/"
    assert as_("head-tax").post(path).status_code == 404
    assert as_("eva").post(path).status_code == 403
    assert head.post(path).status_code == 302
    assert not GroupMapping.objects.filter(group="lookers").exists()
    assert LedgerEntry.objects.filter(actor="head-pricing", action__startswith="group.").count() == 2


def test_a_group_is_not_unmapped_by_who_could_not_grant_its_role() -> None:
    mapping = GroupMapping.objects.get()
    GroupMapping.objects.update(role=User.objects.get(username="root").bindings.get().role)
    refused = as_("head-pricing").post(f"/iam/groups/{mapping.pk}/remove/")
    assert refused.status_code == 422
    assert "you lack" in text(refused)
    assert GroupMapping.objects.exists()


# --- what was done under emergency access ------------------------------------------------------------------


def test_acts_of_emergency_access_are_listed_to_who_sees_everybody_and_counted_for_others() -> None:
    head, root = User.objects.get(username="head-pricing"), User.objects.get(username="root")
    binding = make_binding(
        head, "administrator", unit("pricing"), granted_by=root, source="break-glass",
        expires_at=timezone.now() + timedelta(hours=1),
    )  # fmt: skip
    emergency = EmergencyAccess.objects.create(
        user=head, role=binding.role, unit=unit("pricing"), minutes=60, reason="x", state="active", decided_by=root,
        binding=binding,
    )  # fmt: skip
    form = {"group": "lookers", "role": "viewer", "unit": "pricing"}
    assert as_("head-pricing").post("/iam/groups/add/", form).status_code == 302
    path = f"/iam/emergency/{emergency.pk}/"
    assert "group.map" in text(as_("root").get(path))
    page = text(as_("head-pricing").get(path))
    assert "group.map" not in page
    assert "1 act in the ledger" in page
