"""The admin: every model can be looked at, nothing is written past the services, and lists stay cheap."""

import os
import re
import shutil
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from playwright.sync_api import sync_playwright
from pytest_django.live_server_helper import LiveServer

from audit.models import LedgerEntry
from audit.services import seal
from bus.models import OutboxMessage
from holding.models import Agent, Seat
from holding.tests.factories import make_holding
from iam.access.models import AccessRole, ApiToken, GroupMapping, User
from iam.access.site import COUNTED
from iam.access.tests.factories import PASSWORD, make_person
from subsidiaries.replacement.observing import ensure_states

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox"] if os.geteuid() == 0 else []

pytestmark = pytest.mark.django_db
OWN = ("audit", "bus", "holding", "access", "authority", "performance", "replacement")
WRITABLE = {User, ApiToken, GroupMapping}
MODELS = [model for model in admin.site._registry if model._meta.app_label in OWN]


@pytest.fixture
def administrator() -> User:
    return make_person("root", is_staff=True, is_superuser=True)


@pytest.fixture
def staff(client: Client, administrator: User) -> Client:
    client.force_login(administrator)
    return client


@pytest.fixture
def holding() -> None:
    make_holding(subsidiaries=("pricing", "tax"))
    ensure_states()
    seal()


def url(model: Any, page: str, *arguments: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=arguments)


# --- who may enter -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"is_staff": True, "is_superuser": True}, 200),
        ({"is_staff": True, "role": "administrator"}, 200),
        ({"is_staff": True}, 302),
        ({"role": "administrator"}, 302),
        ({"is_superuser": True}, 302),
        ({"is_staff": True, "is_superuser": True, "cleared": False}, 302),
    ],
)
def test_only_cleared_staff_with_the_permission_enter(client: Client, fields: dict[str, Any], status: int) -> None:
    client.force_login(make_person(**fields))
    response = client.get("/admin/")
    assert response.status_code == status
    if status == 302:
        assert client.get(response.headers["Location"]).status_code == 403


def test_the_admin_has_no_sign_in_of_its_own(client: Client) -> None:
    response = client.get("/admin/holding/seat/?q=op", follow=True)
    assert response.redirect_chain[-1][0].startswith("/sign-in/?next=/admin/")
    tried = client.post("/admin/login/", {"username": "root", "password": PASSWORD})
    assert tried.status_code == 302
    assert "_auth_user_id" not in client.session


def test_staff_without_rights_see_no_model(client: Client) -> None:
    AccessRole.objects.create(slug="door", name_es="P", name_en="D", permissions=["admin.use"])
    client.force_login(make_person(is_staff=True, role="door"))
    assert client.get("/admin/").status_code == 200
    for model in MODELS:
        assert client.get(url(model, "changelist")).status_code == 403, model


def test_staff_change_only_people_who_hold_no_more_than_they(client: Client) -> None:
    codes = ["admin.use", "people.view", "people.manage", "tokens.manage"]
    AccessRole.objects.create(slug="desk", name_es="M", name_en="D", permissions=codes)
    client.force_login(make_person("desk", is_staff=True, role="desk"))
    for name, fields in (("root", {"is_superuser": True, "role": ""}), ("boss", {"role": "administrator"})):
        other = make_person(name, **fields)
        form = person_form(username=name, password="a long enough phrase")
        assert client.post(url(User, "change", other.pk), form).status_code == 403
        form = {"user": other.pk, "name": "mine"}
        page = client.post("/admin/access/apitoken/add/", form, follow=True, headers={"Accept-Language": "en"})
        assert b"nobody acts in the name" in page.content
    assert not ApiToken.objects.exists()
    plain = make_person("plain", role="")
    assert client.post(url(User, "change", plain.pk), person_form(username="plain")).status_code == 302


def test_nobody_reads_the_hash_of_a_password(client: Client, administrator: User) -> None:
    """Neither on the page, to whoever may only look, nor by asking the list for what it begins with."""
    AccessRole.objects.create(slug="desk", name_es="M", name_en="D", permissions=["admin.use", "people.view"])
    client.force_login(make_person("desk", is_staff=True, role="desk"))
    page = client.get(url(User, "change", administrator.pk))
    assert page.status_code == 200
    assert administrator.password.partition("$")[0].encode() + b"$" not in page.content
    for query in ("password__startswith=a", "password=x", "email__contains=@", "last_login__gt=2020-01-01"):
        assert client.get(f"{url(User, 'changelist')}?{query}").status_code == 400, query
    assert client.get(f"{url(User, 'changelist')}?cleared__exact=1").status_code == 200


def test_a_password_is_changed_on_the_portals_own_page(staff: Client) -> None:
    for page, target in (("password_change", "password"), ("password_change_done", "account")):
        for answer in (staff.get(reverse(f"admin:{page}")), staff.post(reverse(f"admin:{page}"), {})):
            assert (answer.status_code, answer.headers["Location"]) == (302, reverse(target))


def test_groups_of_the_identity_provider_are_mapped_by_the_service(staff: Client) -> None:
    viewer = AccessRole.objects.get(slug="viewer")
    form = {"group": "readers", "role": viewer.pk, "unit": ""}
    assert staff.post("/admin/access/groupmapping/add/", form).status_code == 302
    mapping = GroupMapping.objects.get()
    assert staff.post(url(GroupMapping, "change", mapping.pk), form).status_code == 403
    staff.post(url(GroupMapping, "delete", mapping.pk), {"post": "yes"})
    assert not GroupMapping.objects.exists()
    assert LedgerEntry.objects.filter(action__in=["group.map", "group.unmap"], actor="root").count() == 2


# --- every model -------------------------------------------------------------------------------------------


def test_every_model_of_ours_is_there() -> None:
    ours = {model for label in OWN for model in apps.get_app_config(label).get_models()}
    assert ours == set(MODELS)


@pytest.mark.usefixtures("holding")
def test_every_list_and_row_can_be_looked_at(staff: Client) -> None:
    for model in MODELS:
        with CaptureQueriesContext(connection) as queries:
            response = staff.get(url(model, "changelist"))
        assert response.status_code == 200, model
        assert len(queries) <= 14, (model, [query["sql"] for query in queries])
        for query in queries.captured_queries:
            assert not query["sql"].startswith('SELECT COUNT(*) AS "__count" FROM'), f"{model}: a count of all rows"
        row = model._default_manager.first()
        if row is not None:
            assert staff.get(url(model, "change", row.pk)).status_code == 200, model
        if getattr(admin.site._registry[model], "search_fields", ()):
            assert staff.get(url(model, "changelist"), {"q": "op-0031"}).status_code == 200, model
            assert staff.get(url(model, "changelist"), {"q": "\x00"}).status_code in {200, 302}, model


@pytest.mark.usefixtures("holding")
def test_what_has_no_service_is_read_only(staff: Client) -> None:
    for model in set(MODELS) - WRITABLE:
        assert staff.get(url(model, "add")).status_code == 403, model
        row, rows = model._default_manager.first(), model._default_manager.count()
        if row is not None:
            assert staff.post(url(model, "change", row.pk), {"name": "x"}).status_code == 403, model
            assert staff.post(url(model, "delete", row.pk), {"post": "yes"}).status_code == 403, model
        action = {"action": "delete_selected", "_selected_action": [getattr(row, "pk", 1)]}
        staff.post(url(model, "changelist"), action)
        assert model._default_manager.count() == rows, model


@pytest.mark.usefixtures("holding")
def test_searching_finds_a_seat_and_an_agent_by_code(staff: Client) -> None:
    seat = Seat.objects.get(unit__slug="tax", code="op-0031")
    assert url(Seat, "change", seat.pk) in staff.get("/admin/holding/seat/", {"q": "op-0031"}).content.decode()
    agent = Agent.objects.get(seat=seat)
    page = staff.get("/admin/holding/agent/", {"q": "org.claytom.tax.operator.op-0031"}).content.decode()
    assert url(Agent, "change", agent.pk) in page
    assert page.count("/admin/holding/agent/") < 30


def test_long_lists_are_counted_so_far_and_no_further(staff: Client) -> None:
    OutboxMessage.objects.bulk_create(
        [OutboxMessage(subject="s", payload=b"{}", dedup=str(number)) for number in range(COUNTED + 50)],
        batch_size=5000,
    )
    response = staff.get("/admin/bus/outboxmessage/")
    assert response.context["cl"].result_count == COUNTED + 1


# --- people and tokens -------------------------------------------------------------------------------------


def person_form(**changes: Any) -> dict[str, Any]:
    return {
        "username": "eva", "first_name": "Eva", "last_name": "", "email": "", "language": "es", "password": "",
        "is_active": "on", "cleared": "on", **changes,
    }  # fmt: skip


def test_a_person_is_made_by_the_service(staff: Client) -> None:
    response = staff.post("/admin/access/user/add/", person_form(password="a long enough phrase"))
    assert response.status_code == 302, response.context["errors"]
    person = User.objects.get(username="eva")
    assert (person.cleared, person.is_staff, person.is_superuser) == (True, False, False)
    assert person.check_password("a long enough phrase")
    entry = LedgerEntry.objects.get(action="person.create")
    assert (entry.actor, entry.object) == ("root", f"person/{person.pk}")
    assert b"long enough" not in bytes(entry.body)


def test_a_change_is_in_the_ledger_with_what_changed(staff: Client) -> None:
    person = make_person("eva")
    digest = person.password
    staff.post(url(User, "change", person.pk), person_form(is_staff="on", cleared=""))
    person.refresh_from_db()
    assert (person.is_staff, person.cleared, person.password) == (True, False, digest)
    entry = LedgerEntry.objects.get(action="person.update")
    assert entry.actor == "root"
    assert b'"details":{"cleared":false,"first_name":"Eva","is_staff":true,"language":"es"}' in bytes(entry.body)
    assert entry.before != entry.after
    staff.post(url(User, "change", person.pk), person_form(is_staff="on", cleared=""))
    assert LedgerEntry.objects.filter(action="person.update").count() == 1


def test_a_password_is_changed_and_never_told(staff: Client) -> None:
    person = make_person("eva")
    staff.post(url(User, "change", person.pk), person_form(password="quite another phrase"))
    person.refresh_from_db()
    assert person.check_password("quite another phrase")
    assert b"quite another" not in bytes(LedgerEntry.objects.get(action="person.update").body)
    weak = staff.post(url(User, "change", person.pk), person_form(password="short"))
    assert weak.status_code == 200
    assert b"short" not in weak.content


def test_nobody_gets_the_superuser_mark_by_a_form(staff: Client) -> None:
    person = make_person("eva")
    staff.post(url(User, "change", person.pk), person_form(is_superuser="on"))
    person.refresh_from_db()
    assert not person.is_superuser
    assert staff.post(url(User, "delete", person.pk), {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("lost", ["is_active", "is_staff", "cleared"])
def test_the_last_administrator_stays_one(staff: Client, administrator: User, lost: str) -> None:
    form = person_form(username="root", is_staff="on") | {lost: ""}
    response = staff.post(url(User, "change", administrator.pk), form)
    assert response.status_code == 200
    administrator.refresh_from_db()
    assert getattr(administrator, lost)
    make_person("second", is_staff=True, is_superuser=True)
    assert staff.post(url(User, "change", administrator.pk), form).status_code == 302


def test_a_token_is_shown_once_and_works(staff: Client, administrator: User) -> None:
    form = {"user": administrator.pk, "name": "erp", "expires_at_0": "", "expires_at_1": ""}
    page = staff.post("/admin/access/apitoken/add/", form, follow=True).content.decode()
    found = re.search(r"[A-Za-z0-9_-]{43}", re.sub(r'value="[^"]*"', "", page))
    assert found is not None
    token = found.group()
    assert Client().get("/api/v1/units/", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    issued = ApiToken.objects.get()
    for address in (url(ApiToken, "changelist"), url(ApiToken, "change", issued.pk)):
        assert token not in staff.get(address).content.decode()
    assert not LogEntry.objects.filter(change_message__contains=token).exists()
    assert LedgerEntry.objects.get(action="token.issue").actor == "root"
    assert staff.post(url(ApiToken, "change", issued.pk), form).status_code == 403
    staff.post(url(ApiToken, "delete", issued.pk), {"post": "yes"})
    assert not ApiToken.objects.exists()
    assert LedgerEntry.objects.get(action="token.revoke").actor == "root"


# --- under the policy --------------------------------------------------------------------------------------


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
@pytest.mark.django_db(transaction=True)
def test_the_admin_keeps_to_the_content_security_policy(live_server: LiveServer, administrator: User) -> None:
    make_holding(subsidiaries=("tax",))
    client = Client()
    client.force_login(administrator)
    cookie = {"name": "session", "value": client.cookies["session"].value, "url": live_server.url}
    seat = f"/admin/holding/seat/{Seat.objects.all()[0].pk}/change/"
    told: list[str] = []
    # Playwright's loop lives in its `with` only: Django refuses the database to a thread that runs one.
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS) as chromium,
    ):
        context = chromium.new_context()
        context.add_cookies([cookie])  # type: ignore[list-item]
        page = context.new_page()
        page.on("console", lambda message: told.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: told.append(str(error)))
        for address in (
            "/admin/", seat, "/admin/holding/seat/?q=op-0031", "/admin/audit/ledgerentry/",
            "/admin/access/user/add/", "/admin/access/apitoken/add/",
        ):  # fmt: skip
            response = page.goto(live_server.url + address)
            assert response is not None
            assert response.status == 200, address
            assert "unsafe" not in response.headers["content-security-policy"]
    assert told == []
