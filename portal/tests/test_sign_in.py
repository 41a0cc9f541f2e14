"""Signing in: clear errors that tell nobody's name, and a limit of attempts."""

import statistics
import threading
import time
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client

from iam.access.tests.factories import PASSWORD, make_person
from portal import attempts

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis_clean")]


@pytest.fixture(autouse=True)
def quick_hashes(settings: Any) -> None:
    """Argon2 is slow on purpose; that is not what these tests are about."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def client() -> Client:
    return Client(headers={"Accept-Language": "en"})


def attempt(client: Client, name: str = "ana", password: str = PASSWORD, **extra: str) -> Any:
    return client.post("/sign-in/", {"username": name, "password": password, **extra})


def test_the_right_password_leads_where_the_person_was_headed(client: Client) -> None:
    make_person()
    assert client.get("/sign-in/").status_code == 200
    response = attempt(client, next="/agents/?unit=pricing")
    assert response.status_code == 302
    assert response.headers["Location"] == "/agents/?unit=pricing"
    assert client.get("/sign-in/").status_code == 302


def test_a_foreign_destination_is_not_followed(client: Client) -> None:
    make_person()
    assert attempt(client, next="//evil.example/").headers["Location"] == "/"


def test_a_wrong_name_a_wrong_password_and_a_locked_person_look_the_same(client: Client) -> None:
    make_person("ana")
    make_person("locked", is_active=False)
    pages = {
        attempt(client, name, password).content.replace(name.encode(), b"")
        for name, password in (("ana", "wrong"), ("nobody", "wrong"), ("locked", PASSWORD))
    }
    stripped = {page.split(b"csrfmiddlewaretoken")[0] for page in pages}
    assert len(stripped) == 1
    assert b"Name or password is wrong." in pages.pop()


def test_a_name_is_locked_after_five_failures_and_says_for_how_long(client: Client) -> None:
    make_person()
    for _ in range(attempts.MOST_PER_NAME):
        assert attempt(client, password="wrong").status_code == 422
    refused = attempt(client)
    assert refused.status_code == 429
    assert 0 < int(refused.headers["Retry-After"]) <= attempts.WINDOW_SECONDS
    assert b"Too many attempts. Try again in" in refused.content
    assert attempt(client, "another", "wrong").status_code == 422


def test_an_address_is_locked_whatever_names_it_tries(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "MOST_PER_ADDRESS", 3)
    for number in range(3):
        attempt(client, f"name-{number}", "wrong")
    assert attempt(client, "name-9", "wrong").status_code == 429


def test_success_forgets_the_failures_of_the_name(client: Client) -> None:
    make_person()
    for _ in range(attempts.MOST_PER_NAME - 1):
        attempt(client, password="wrong")
    assert attempt(client).status_code == 302
    client.post("/sign-out/")
    assert attempt(client, password="wrong").status_code == 422


@pytest.mark.django_db(transaction=True)
def test_of_many_attempts_at_once_no_more_are_looked_at_than_in_a_row(transactional_db: None) -> None:
    make_person()
    start, came = threading.Barrier(16), list[int]()

    def guess() -> None:
        start.wait(10)
        came.append(attempt(Client(), password="wrong").status_code)
        connection.close()

    threads = [threading.Thread(target=guess) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(came) == [422] * attempts.MOST_PER_NAME + [429] * (16 - attempts.MOST_PER_NAME)


def test_what_does_not_fail_counts_for_no_address(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "MOST_PER_ADDRESS", 3)
    make_person()
    for _ in range(4):
        assert attempt(client).status_code == 302
        client.post("/sign-out/")
    for name in ("one", "two", "two"):
        assert attempt(client, name, "wrong").status_code == 422
    for _ in range(4):
        assert attempt(client).status_code == 429


def rank_sum(first: list[float], second: list[float]) -> float:
    """How far apart two samples are, in standard deviations of their rank sum (Mann and Whitney)."""
    ranked = sorted([(value, 0) for value in first] + [(value, 1) for value in second])
    ranks = sum(place for place, (_value, which) in enumerate(ranked, start=1) if which == 0)
    n, m = len(first), len(second)
    expected, spread = n * (n + m + 1) / 2, (n * m * (n + m + 1) / 12) ** 0.5
    return float(abs(ranks - expected) / spread)


def test_an_unknown_name_takes_as_long_as_a_wrong_password(client: Client, settings: Any) -> None:
    """With the real hash; the bound is wide, since an answer without a hash takes a tenth of the time."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
    make_person()
    robot = make_person("robot", kind="service", owner=make_person("boss"))
    robot.set_unusable_password()
    robot.save()
    spans: dict[str, list[float]] = {"ana": [], "nobody": [], "robot": []}
    for _ in range(12):
        for name, found in spans.items():
            attempts.forget(name=name)
            cache.clear()
            begun = time.perf_counter()
            assert attempt(client, name, "wrong").status_code == 422
            found.append(time.perf_counter() - begun)
    for name in ("nobody", "robot"):
        apart = rank_sum(spans["ana"], spans[name])
        close = 0.6 < statistics.median(spans[name]) / statistics.median(spans["ana"]) < 1.7
        assert apart < 4 or close, (name, apart, spans)


def test_sign_out_ends_the_session(client: Client) -> None:
    make_person()
    attempt(client)
    assert client.get("/sign-out/").status_code == 405
    client.post("/sign-out/")
    assert client.get("/").status_code == 302
