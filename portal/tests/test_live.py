"""The live stream through a real ASGI process: who may listen, and what is heard."""

import http.client
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY

from iam.access.models import User
from iam.access.session_store import SessionStore
from iam.access.tests.factories import make_person
from portal.live import Listener as Hearing
from portal.live import allowed_origin, find_listener, session_key
from portal.tests.factories import make_replacements
from portal.tests.processes import Portal


def make_session(person: User, *, seconds: int = 600) -> str:
    session = SessionStore()
    session[SESSION_KEY] = str(person.pk)
    session[BACKEND_SESSION_KEY] = "iam.access.backends.PeopleBackend"
    session[HASH_SESSION_KEY] = person.get_session_auth_hash()
    session.set_expiry(seconds)
    session.save()
    return str(session.session_key)


class Listener:
    """One client of the stream."""

    def __init__(self, portal: Portal, key: str, origin: str = "") -> None:
        self.connection = http.client.HTTPConnection("localhost", portal.live_port, timeout=20)
        headers = {"Cookie": f"session={key}", **({"Origin": origin} if origin else {})}
        self.connection.request("GET", "/live/", headers=headers)
        self.response = self.connection.getresponse()

    def events(self) -> Iterator[tuple[str, dict[str, str]]]:
        name = ""
        while line := self.response.readline().decode():
            if line.startswith("event: "):
                name = line.removeprefix("event: ").strip()
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))

    def until(self, wanted: str) -> dict[str, str]:
        for name, data in self.events():
            if name == wanted:
                return data
        raise AssertionError(f"the stream ended without {wanted}")

    def close(self) -> None:
        self.connection.close()


@pytest.fixture
def listeners() -> Iterator[list[Listener]]:
    opened: list[Listener] = []
    yield opened
    for listener in opened:
        listener.close()


def test_listeners_hear_of_a_change_within_seconds(portal: Portal, listeners: list[Listener]) -> None:
    key = make_session(User.objects.get(username="ana"))
    listeners += [Listener(portal, key, origin=portal.url) for _ in range(3)]
    for listener in listeners:
        headers = listener.response.headers
        assert listener.response.status == 200
        assert headers["Content-Type"].startswith("text/event-stream")
        assert headers["X-Accel-Buffering"] == "no"
        assert headers["Access-Control-Allow-Origin"] == portal.url
        assert headers["Access-Control-Allow-Credentials"] == "true"
        assert "Content-Encoding" not in headers
        known = set(listener.until("state"))  # as of the last poll, which may be of the test before
        while not {"overview", "arp", "activity", "org", "unit:pricing"} <= known:
            known |= set(listener.until("change"))
    started = time.monotonic()
    make_replacements("pricing", count=2)
    for listener in listeners:
        changed = listener.until("change")
        while "arp" not in changed:  # KPIs are signalled by the clock
            changed = listener.until("change")
        assert {"unit:pricing", "overview", "activity", "org"} <= set(changed)
    assert time.monotonic() - started < 10


def test_the_stream_is_closed_to_strangers_the_uncleared_and_other_sites(
    portal: Portal, listeners: list[Listener]
) -> None:
    key = make_session(User.objects.get(username="ana"))
    uncleared = make_session(make_person("bob", cleared=False))
    for session, origin, status in (
        ("", portal.url, 401),
        ("made-up", portal.url, 401),
        (uncleared, portal.url, 401),
        (key, "https://evil.example", 403),
        (key, "http://evil.localhost:80", 403),
        (key, "", 200),
    ):
        listeners.append(Listener(portal, session, origin))
        assert listeners[-1].response.status == status, (origin, session)


def test_the_stream_ends_with_the_session(portal: Portal, listeners: list[Listener]) -> None:
    listeners.append(Listener(portal, make_session(User.objects.get(username="ana"), seconds=3)))
    listeners[0].until("state")
    assert listeners[0].until("end") == {}
    assert listeners[0].response.read().strip() == b""


@pytest.mark.django_db(transaction=True)
def test_a_stream_leaves_a_session_under_a_former_secret_as_it_is(settings: Any, redis_clean: str) -> None:
    """It cannot tell the browser a new key, so it must not make one."""
    ana = make_person("ana")
    key = make_session(ana)
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "another one, of any length"
    for _ in range(2):
        listener = find_listener(key)
        assert listener is not None
    settings.SECRET_KEY_FALLBACKS = []
    assert find_listener(key) is None


def test_who_may_not_read_the_ledger_does_not_notice_its_entries() -> None:
    known = {"overview": "u.1", "arp": "u", "org": "u.2", "unit:tax": "f.1"}
    before, after = ({**known, "activity": f"u.{entry}"} for entry in (7, 8))
    everything = Hearing(ends=0.0, slugs=None, ledger=False)
    assert everything.hears(before) == everything.hears(after)
    assert Hearing(ends=0.0).hears(before) != Hearing(ends=0.0).hears(after)


def test_the_live_process_serves_nothing_else(portal: Portal) -> None:
    for path, status in (("/healthz", 200), ("/", 404), ("/sign-in/", 404), ("/live", 404), ("/admin/", 404)):
        connection = http.client.HTTPConnection("localhost", portal.live_port, timeout=5)
        connection.request("GET", path)
        assert connection.getresponse().status == status
        connection.close()
    connection = http.client.HTTPConnection("localhost", portal.live_port, timeout=5)
    connection.request("POST", "/live/")
    assert connection.getresponse().status == 405
    connection.close()


def test_origins_of_the_same_host_may_listen_under_any_port(settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["localhost", "portal.example"]
    settings.PORTAL_URL = "https://portal.example"
    assert dict(allowed_origin({"host": "localhost:8001", "origin": "http://localhost:8000"}))
    assert dict(allowed_origin({"host": "localhost:8001", "origin": "https://portal.example"}))
    assert allowed_origin({"host": "localhost:8001"}) == []
    for headers in (
        {"host": "evil.example"},
        {"host": ""},
        {"host": "localhost", "origin": "null"},
        {"host": "localhost", "origin": "http://localhost.evil.example"},
        {"host": "localhost", "origin": "file://localhost"},
    ):
        with pytest.raises(PermissionError):
            allowed_origin(headers)


def test_a_broken_cookie_is_no_session() -> None:
    assert session_key({"cookie": "session=abc; other=1"}) == "abc"
    assert session_key({"cookie": '\x00;;="'}) == ""
    assert session_key({}) == ""
