"""Mail to people about what was changed in their accounts."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from allauth.mfa.totp.internal import auth as totp
from celery import Celery
from django.conf import LazySettings
from django.core.management import call_command
from django.test import Client
from django.utils import translation

from audit.models import LedgerEntry
from config.celery import app
from iam.access import mail, mfa, notices, services, tasks
from iam.access.models import User
from iam.access.tests.factories import PASSWORD, make_person
from portal.tests.test_accounts import link
from portal.tests.worker import work

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis_clean")]
NEW = "another long enough secret"
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
Committed = Callable[..., AbstractContextManager[Any]]


@pytest.fixture(autouse=True)
def folder(settings: LazySettings, tmp_path: Path) -> None:
    """Mail in a folder of the test, and hashes that are quick."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.EMAIL_BACKEND = "iam.access.mail.FolderBackend"
    settings.MAIL_DIR = tmp_path / "mail"


@pytest.fixture
def committed(django_capture_on_commit_callbacks: Callable[..., Any]) -> Committed:
    """What happens after a commit happens at the end of the block."""
    return lambda: django_capture_on_commit_callbacks(execute=True)


@pytest.fixture
def ana() -> User:
    return make_person(email="ana@example.com", language="en", first_name="Ana")


@pytest.fixture
def root() -> User:
    return make_person("root", is_staff=True, is_superuser=True)


def sign_in(name: str = "ana") -> Client:
    client = Client(headers={"Accept-Language": "en"})
    client.post("/sign-in/", {"username": name, "password": PASSWORD})
    return client


def code(steps: int = 0) -> str:
    return str(totp.format_hotp_value(totp.hotp_value(SECRET, int(time.time()) // 30 + steps)))


def told() -> list[tuple[str, str]]:
    """Receiver and subject of the mail that the tasks have sent, oldest first."""
    work()
    return [(message.to, message.subject) for message in reversed(mail.kept())]


@pytest.mark.usefixtures("ana")
def test_a_changed_password_is_told_by_a_task_after_the_change_is_committed(committed: Committed) -> None:
    client = sign_in()
    with committed():
        client.post("/account/password/", {"password": NEW, "again": NEW})
        assert work() == 0  # a change that is rolled back is not told
    assert mail.kept() == []  # the page does not wait
    assert told() == [("ana@example.com", "Your password was changed")]
    text = mail.kept()[0].text
    assert "Ana, on 20" in text
    assert "in your account ana:" in text
    assert "http://localhost:8000/account/password/" in text
    assert NEW not in text


@pytest.mark.usefixtures("ana")
def test_a_password_by_a_link_is_told(committed: Committed) -> None:
    client = Client(headers={"Accept-Language": "en"})
    client.post("/sign-in/reset/", {"email": "ANA@example.com"})
    work()
    client.get(link())
    with committed():
        client.post("/sign-in/reset/new/", {"password": NEW, "again": NEW})
    assert told()[1:] == [("ana@example.com", "Your password was changed")]


def test_what_an_administrator_changes_is_told(ana: User, root: User, committed: Committed) -> None:
    sign_in()
    with committed():
        services.update_person(user_id=ana.pk, actor=root.username, password=NEW, email="new@example.com")
    assert sorted(told()) == [
        ("ana@example.com", "Your e-mail address was changed"),
        ("new@example.com", "Your e-mail address was changed"),
        ("new@example.com", "Your password was changed"),
        ("new@example.com", "Your sessions were ended by somebody else"),
    ]


def test_who_is_made_inactive_learns_that_their_sessions_ended(ana: User, root: User, committed: Committed) -> None:
    sign_in()
    with committed():
        services.update_person(user_id=ana.pk, actor=root.username, is_active=False)
    assert told() == [("ana@example.com", "Your sessions were ended by somebody else")]


@pytest.mark.usefixtures("ana")
def test_ending_ones_own_sessions_is_not_told(committed: Committed) -> None:
    here = sign_in()
    sign_in()
    with committed():
        here.post("/account/sessions/", {"session": "all"})
    assert LedgerEntry.objects.filter(action="session.end").count() == 1
    assert told() == []


def test_second_steps_and_recovery_codes_are_told(ana: User, committed: Committed) -> None:
    client = sign_in()
    with committed():
        mfa.add_app(user=ana, secret=SECRET, code=code())
    with committed():
        client.post("/account/second-step/codes/")
    with committed():
        client.post(f"/account/second-step/{mfa.second_steps(ana).get().pk}/remove/")
    assert [subject for _to, subject in told()] == [
        "A second step was added to your account",
        "Your recovery codes were made anew",
        "A second step was removed from your account",
    ]


def test_second_steps_that_the_operator_forgets_are_told(ana: User, committed: Committed) -> None:
    mfa.add_app(user=ana, secret=SECRET, code=code())
    with committed():
        call_command("forget_second_steps", "ana", stdout=StringIO())
    assert told() == [("ana@example.com", "A second step was removed from your account")]


@pytest.mark.usefixtures("ana")
def test_another_address_is_told_to_both(committed: Committed) -> None:
    client = sign_in()
    client.post("/account/email/", {"email": "new@example.com"})
    path = link()
    with committed():
        client.post(path)
    assert told()[1:] == [
        ("ana@example.com", "Your e-mail address was changed"),
        ("new@example.com", "Your e-mail address was changed"),
    ]
    assert "Your e-mail address was changed: new@example.com" in mail.kept()[0].text


@pytest.mark.usefixtures("ana")
def test_a_token_is_told_by_its_name_alone(committed: Committed) -> None:
    with committed():
        page = sign_in().post("/account/tokens/", {"name": "script <b>", "days": "3"})
    assert told() == [("ana@example.com", "An API token was issued for your account")]
    text = mail.kept()[0].text
    assert "An API token was issued for your account: script <b>" in text
    secret = str(page.content, "utf-8").split("<code data-token>")[1].split("<")[0]
    assert secret not in text


def test_who_has_no_address_is_not_told_and_a_service_neither(root: User, committed: Committed) -> None:
    robot = make_person("robot", kind="service", owner=root, email="robot@example.com")
    with committed():
        services.update_person(user_id=root.pk, actor="root", password=NEW)
        notices.tell(robot, "token")
    assert work() == 0


def test_a_notice_is_in_the_language_of_its_reader(ana: User) -> None:
    given = {"to": "x@example.com", "name": "x", "username": "x", "at": "now", "detail": ""}
    for language in ("en", "es", ""):
        tasks.send_notice(what="password", language=language, **given)
    assert [message.subject for message in mail.kept()][2] == "Your password was changed"
    for what in notices.SUBJECTS:
        tasks.send_notice(what=what, language="en", **given)
        with translation.override("en"):
            assert mail.kept()[0].subject == notices.SUBJECTS[what]


@pytest.fixture
def broker_away() -> Iterator[None]:
    """Tasks are sent to a port where nobody answers."""
    Celery("away", broker="redis://127.0.0.1:1/0", set_as_current=True)
    yield
    app.set_current()


@pytest.mark.usefixtures("broker_away")
def test_a_change_stands_when_the_broker_is_away(
    ana: User, committed: Committed, caplog: pytest.LogCaptureFixture
) -> None:
    client = sign_in()
    with committed():
        assert client.post("/account/password/", {"password": NEW, "again": NEW}).status_code == 302
    ana.refresh_from_db()
    assert ana.check_password(NEW)
    assert work() == 0
    assert "No notice was sent" in caplog.text
