"""Sessions: their limits, their list, and what ends them."""

import time
from typing import Any

import pytest
from allauth.usersessions.models import UserSession
from django.conf import LazySettings
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.test import Client

from iam.access import services, sessions
from iam.access.models import User
from iam.access.tests.factories import PASSWORD, make_person

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis_clean")]


@pytest.fixture(autouse=True)
def quick_hashes(settings: LazySettings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def signed_in(browser: str = "Firefox") -> Client:
    client = Client(headers={"Accept-Language": "en", "User-Agent": browser})
    assert client.post("/sign-in/", {"username": "ana", "password": PASSWORD}).status_code == 302
    return client


def is_in(client: Client) -> bool:
    return client.get("/account/").status_code == 200


def change(client: Client, **values: int) -> None:
    session = client.session
    for name, value in values.items():
        session[name] += value
    session.save()


def test_the_key_changes_at_sign_in() -> None:
    make_person()
    client = Client()
    client.get("/sign-in/passkey/")
    before = client.session.session_key
    client.post("/sign-in/", {"username": "ana", "password": PASSWORD})
    assert client.session.session_key not in (None, before)
    assert not Session.objects.filter(session_key=before).exists()


def test_a_session_goes_on_when_the_secret_key_is_changed(settings: LazySettings) -> None:
    make_person()
    client = signed_in()
    before = client.session.session_key
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another key, as long as it has to be, for the signatures of tests"
    assert is_in(client)
    assert client.session.session_key != before
    change(client, touched_at=-61)
    assert is_in(client)
    assert [row.session_key for row in UserSession.objects.all()] == [client.session.session_key]


def test_a_session_ends_two_hours_after_the_last_page(monkeypatch: pytest.MonkeyPatch) -> None:
    make_person()
    client = signed_in()
    assert abs(client.session.get_expiry_age() - sessions.IDLE_SECONDS) < 5
    monkeypatch.setattr(sessions, "IDLE_SECONDS", 1)
    change(client, touched_at=-61)
    assert is_in(client)  # this page counts from now, and for a second
    time.sleep(1.5)
    assert not is_in(client)


def test_a_session_ends_twelve_hours_after_sign_in_however_busy_it_is() -> None:
    make_person()
    client = signed_in()
    change(client, signed_in_at=60 - sessions.LIMIT_SECONDS, touched_at=-61)
    assert is_in(client)
    assert client.session.get_expiry_age() <= 60
    change(client, signed_in_at=-60)
    assert not is_in(client)
    assert not is_in(client)


def test_a_page_that_asks_by_itself_keeps_no_session_alive() -> None:
    make_person()
    client = signed_in()
    change(client, touched_at=-100)
    before = client.session["touched_at"]
    client.get("/account/", headers={"HX-Request": "true"})
    assert client.session["touched_at"] == before
    client.get("/account/")
    assert client.session["touched_at"] > before


def test_the_list_shows_this_and_the_others_and_ends_them() -> None:
    make_person()
    here, there, elsewhere = signed_in("Firefox"), signed_in("Safari"), signed_in("Chrome")
    page = str(here.get("/account/sessions/").content, "utf-8")
    assert all(name in page for name in ("Firefox", "Safari", "Chrome", "127.0.0.1", "this one"))
    there_row = UserSession.objects.get(user_agent="Safari")
    here.post("/account/sessions/", {"session": str(there_row.pk)})
    assert [is_in(client) for client in (here, there, elsewhere)] == [True, False, True]
    here.post("/account/sessions/", {"session": "all"})
    assert [is_in(client) for client in (here, there, elsewhere)] == [True, False, False]
    assert UserSession.objects.count() == 1


def test_nobody_ends_the_session_of_another_nor_by_nonsense() -> None:
    make_person()
    client = signed_in()
    row = UserSession.objects.get()
    other = Client()
    other.force_login(make_person("eva"))
    for number in (str(row.pk), "x", "", "-1", "9" * 30):
        assert other.post("/account/sessions/", {"session": number}).status_code == 302
    assert is_in(client)
    own = UserSession.objects.get(user__username="ana")
    client.post("/account/sessions/", {"session": str(own.pk)})  # signing out is for that
    assert is_in(client)


def test_a_list_forgets_who_signed_out() -> None:
    make_person()
    here, there = signed_in(), signed_in("Safari")
    there.post("/sign-out/")
    assert "Safari" not in str(here.get("/account/sessions/").content, "utf-8")


def test_all_sessions_end_when_a_person_leaves() -> None:
    ana = make_person()
    make_person("root", is_staff=True, is_superuser=True)
    clients = [signed_in(), signed_in()]
    services.update_person(user_id=ana.pk, actor="root", is_active=False)
    assert not any(is_in(client) for client in clients)
    assert not UserSession.objects.exists()
    User.objects.filter(pk=ana.pk).update(is_active=True)
    assert not any(is_in(client) for client in clients)  # and do not come back


def test_the_other_sessions_end_when_the_password_changes() -> None:
    make_person()
    here, there = signed_in(), signed_in()
    new = "another long enough secret"
    assert here.post("/account/password/", {"password": new, "again": "x"}).status_code == 422
    assert here.post("/account/password/", {"password": "short", "again": "short"}).status_code == 422
    key = here.session.session_key
    assert here.post("/account/password/", {"password": new, "again": new}).status_code == 302
    assert [is_in(here), is_in(there)] == [True, False]
    assert here.session.session_key != key
    assert UserSession.objects.get().session_key == here.session.session_key
    change(here, touched_at=-61)
    assert is_in(here)


def test_all_sessions_end_when_an_administrator_changes_the_password() -> None:
    ana = make_person()
    make_person("root", is_staff=True, is_superuser=True)
    client = signed_in()
    services.update_person(user_id=ana.pk, actor="root", password="another long enough secret")
    assert not is_in(client)
    assert not UserSession.objects.exists()


def test_a_session_that_only_the_cache_still_knows_ends_within_a_minute() -> None:
    make_person()
    client = signed_in()
    UserSession.objects.all().delete()
    assert is_in(client)
    change(client, touched_at=-61)
    assert not is_in(client)


def test_sign_in_and_pages_work_while_the_cache_does_not_answer(settings: LazySettings) -> None:
    make_person()
    away: Any = {**settings.CACHES["default"], "LOCATION": "redis://127.0.0.1:1/0"}
    settings.CACHES = {"default": away}
    try:
        client = signed_in()
        assert is_in(client)
        assert client.post("/sign-out/").status_code == 302
        assert not is_in(client)
    finally:
        cache.close()


def test_times_are_shown_in_the_time_zone_of_the_person() -> None:
    ana = make_person()
    client = signed_in()
    row = UserSession.objects.get()
    UserSession.objects.update(created_at=row.created_at.replace(hour=12, minute=34, second=56))
    assert "12:34:56</time>" in str(client.get("/account/sessions/").content, "utf-8")
    client.post("/account/", {"first_name": "", "last_name": "", "language": "en", "time_zone": "Asia/Kolkata"})
    ana.refresh_from_db()
    assert ana.time_zone == "Asia/Kolkata"
    assert "18:04:56</time>" in str(client.get("/account/sessions/").content, "utf-8")
