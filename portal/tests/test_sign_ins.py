"""What the ledger and a person are told of sign-ins, sign-outs and names that were locked."""

import json
import re
import time
from typing import Any

import pytest
from allauth.mfa.totp.internal import auth as totp
from allauth.usersessions.models import UserSession
from django.conf import LazySettings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from audit.models import LedgerEntry
from iam.access import mfa
from iam.access.models import User
from iam.access.tests.factories import PASSWORD, make_person
from portal import attempts
from portal.tests.worker import work

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis_clean")]
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


@pytest.fixture(autouse=True)
def quick_hashes(settings: LazySettings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def client() -> Client:
    return Client(headers={"Accept-Language": "en"})


def code(steps: int) -> str:
    return str(totp.format_hotp_value(totp.hotp_value(SECRET, int(time.time()) // 30 + steps)))


def attempt(client: Client, name: str = "ana", password: str = PASSWORD) -> Any:
    return client.post("/sign-in/", {"username": name, "password": password})


def entries(*actions: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Actor, object and details of the entries of these actions."""
    rows = LedgerEntry.objects.filter(action__in=actions).order_by("id")
    return [(row.actor, row.object, json.loads(bytes(row.body))["details"]) for row in rows]


def test_a_sign_in_is_one_entry_that_says_how(client: Client) -> None:
    ana = make_person()
    attempt(client)
    told = ("ana", f"person/{ana.pk}", {"way": "password", "second_step": "", "address": "127.0.0.1"})
    assert entries("session.begin") == [told]
    attempt(client, password="wrong")
    assert entries("session.begin") == [told]


def test_the_second_step_is_told_and_a_first_step_alone_is_no_sign_in(client: Client) -> None:
    ana = make_person()
    recovery = mfa.add_app(user=ana, secret=SECRET, code=code(-1))
    attempt(client)
    assert entries("session.begin") == []
    client.post("/sign-in/second-step/", {"code": code(0)})
    attempt(client)
    client.post("/sign-in/second-step/", {"code": recovery[0]})
    assert [details["second_step"] for _actor, _object, details in entries("session.begin")] == [
        "totp", "recovery_codes",
    ]  # fmt: skip
    mfa.forget(user=ana, actor="operator")
    attempt(client)  # with what the session remembers of the others
    assert entries("session.begin")[-1][2]["second_step"] == ""
    page = str(client.get("/account/sessions/").content, "utf-8")
    assert "code of the app" in page
    assert "recovery code" in page


def test_sign_out_is_told_and_takes_the_session_off_the_list(client: Client) -> None:
    ana = make_person()
    attempt(client)
    client.post("/sign-out/")
    assert entries("session.end") == [("ana", f"person/{ana.pk}", {"sessions": 1, "why": "sign-out"})]
    assert not UserSession.objects.exists()
    assert client.post("/sign-out/").status_code == 302  # a stranger ends nothing
    assert len(entries("session.end")) == 1


def test_the_page_of_sessions_shows_the_last_ten_sign_ins_of_oneself(client: Client) -> None:
    make_person()
    make_person("eva")
    for _ in range(11):
        attempt(Client(REMOTE_ADDR="192.0.2.7"))
    attempt(Client(REMOTE_ADDR="192.0.2.9"), "eva")
    client.force_login(User.objects.get(username="ana"))
    client.get("/theme/")
    page = str(client.get("/account/sessions/").content, "utf-8")
    table = page.rsplit("sign-ins-title", maxsplit=1)[-1]
    assert table.count("192.0.2.7") == 10
    assert "192.0.2.9" not in page


def test_who_never_signed_in_by_the_page_sees_that_nothing_is_recorded(client: Client) -> None:
    client.force_login(make_person())
    assert "None is recorded yet." in str(client.get("/account/sessions/").content, "utf-8")


def lock(client: Client, name: str) -> list[str]:
    """Fail until the name is locked; return the statements that the failure which locks it has made."""
    for _ in range(attempts.MOST_PER_NAME - 1):
        assert attempt(client, name, "wrong").status_code == 422
    with CaptureQueriesContext(
        connection,
    ) as made:
        assert attempt(client, name, "wrong").status_code == 422
    assert attempt(client, name, "wrong").status_code == 429
    return [re.sub(r"'[^']*'", "?", query["sql"]) for query in made.captured_queries]


def test_a_locked_name_is_told_of_a_person_and_costs_a_stranger_as_much(client: Client) -> None:
    ana = make_person()
    assert lock(client, "Ana") == lock(client, "nobody")  # the request does the same for both
    assert entries("session.lock-out") == []
    assert work() == 2  # one task for each: only here it is looked whose name it is
    assert entries("session.lock-out") == [
        ("ana", f"person/{ana.pk}", {"step": "sign-in", "address": "127.0.0.1"}),
    ]


def test_a_locked_second_step_and_a_locked_confirmation_are_told(client: Client) -> None:
    ana = make_person()
    eva = make_person("eva")
    mfa.add_app(user=eva, secret=SECRET, code=code(-1))
    attempt(client)
    for _ in range(attempts.MOST_PER_NAME + 1):
        client.post("/account/confirm/", {"password": "wrong"})
    other = Client()
    attempt(other, "eva")
    for _ in range(attempts.MOST_PER_NAME + 1):
        other.post("/sign-in/second-step/", {"code": "000000"})
    assert [(object_, details["step"]) for _actor, object_, details in entries("session.lock-out")] == [
        (f"person/{ana.pk}", "confirmation"), (f"person/{eva.pk}", "second-step"),
    ]  # fmt: skip
