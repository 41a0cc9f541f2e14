"""Each way to misconfigure the portal is told with its cause and its remedy."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import LazySettings
from django.core.checks import CheckMessage

from config import checks

ROOT = Path(checks.__file__).resolve().parent.parent
KEY = "k7-Qw3_zX9pLm2Vb8Nc4Rt6Yh1Jd5Fg0SaUiOeTrPlKjHgFdMnB"
PUBLIC = {"PORTAL_URL": "https://portal.example.com", "ALLOWED_HOSTS": ["portal.example.com"]}
Check = Callable[..., list[CheckMessage]]


def ids(found: list[CheckMessage]) -> list[str]:
    assert all(message.hint for message in found), "each cause has its remedy"
    return [str(message.id) for message in found]


def set_all(settings: LazySettings, values: dict[str, Any]) -> None:
    for name, value in values.items():
        setattr(settings, name, value)


@pytest.mark.parametrize(
    "check", [checks.address, checks.servers, checks.numbers, checks.tasks, checks.secrets, checks.people]
)
def test_the_settings_of_the_tests_are_in_order(check: Check, settings: LazySettings) -> None:
    settings.SECRET_KEY = KEY
    assert ids(check(None)) == []


@pytest.mark.parametrize(("key", "expected"), [("", "claytom.E001"), ("short", "claytom.E002")])
def test_secret_key(key: str, expected: str, settings: LazySettings) -> None:
    settings.SECRET_KEY = key
    assert ids(checks.secrets(None)) == [expected]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"PORTAL_URL": "portal"}, "claytom.E010"),
        ({"PORTAL_URL": "ftp://portal.example.com"}, "claytom.E010"),
        ({"PORTAL_URL": "https://portal.example.com/path"}, "claytom.E010"),
        ({"PORTAL_URL": "http://portal.example.com"}, "claytom.E011"),
        ({"PORTAL_URL": "http://10.0.0.7:8000", "ALLOWED_HOSTS": ["10.0.0.7"]}, "claytom.E011"),
        ({"DEBUG": True}, "claytom.E012"),
        ({"CHAOS_ENABLED": True}, "claytom.W013"),
        ({"ALLOWED_HOSTS": ["*"]}, "claytom.E014"),
        ({"ALLOWED_HOSTS": ["other.example.com"]}, "claytom.E015"),
        ({"LIVE_URL": "https://live.example.com/live"}, "claytom.E016"),
        ({"LIVE_URL": "live"}, "claytom.E016"),
    ],
)
def test_address(values: dict[str, Any], expected: str, settings: LazySettings) -> None:
    set_all(settings, {**PUBLIC, "CHAOS_ENABLED": False, **values})
    assert ids(checks.address(None)) == [expected]


@pytest.mark.parametrize("host", [".example.com", "portal.example.com"])
def test_a_public_address_with_tls_is_in_order(host: str, settings: LazySettings) -> None:
    set_all(settings, {**PUBLIC, "ALLOWED_HOSTS": [host], "CHAOS_ENABLED": False})
    assert ids(checks.address(None)) == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"DATABASE_APP_URL": ""}, ["claytom.E020"]),
        ({"DATABASE_APP_URL": "mysql://app:x@db/claytom"}, ["claytom.E020"]),
        ({"REDIS_URL": ""}, ["claytom.E021"]),
        ({"REDIS_URL": "redis://redis.example.com:6379/0"}, ["claytom.W031"]),
        ({"NATS_URL": ""}, ["claytom.E022"]),
        ({"NATS_URL": "http://nats:4222"}, ["claytom.E022"]),
        ({"NATS_URL": "nats://nats.example.com:4222"}, ["claytom.W032"]),
        ({"DATABASE_OWNER_URL": "postgres://claytom_app:x@127.0.0.1/claytom"}, ["claytom.E040"]),
        ({"DATABASE_ROLE": "owner"}, ["claytom.E041"]),
    ],
)
def test_servers(values: dict[str, Any], expected: list[str], settings: LazySettings) -> None:
    set_all(settings, values)
    assert ids(checks.servers(None)) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"CLOCK_SPEED": 0.0}, "claytom.E050"),
        ({"CLOCK_SPEED": -1.0}, "claytom.E050"),
        ({"CLOCK_SPEED": float("inf")}, "claytom.E050"),
        ({"CLOCK_SPEED": float("nan")}, "claytom.E050"),
        ({"KPI_RETENTION_HOURS": 0}, "claytom.E051"),
        ({"AGENTS_PER_SUBSIDIARY": 34}, "claytom.E052"),
        ({"AGENTS_PER_SUBSIDIARY": 101}, "claytom.E052"),
        ({"AGENTS_PER_SUBSIDIARY": -5}, "claytom.E052"),
    ],
)
def test_numbers(values: dict[str, Any], expected: str, settings: LazySettings) -> None:
    set_all(settings, values)
    assert ids(checks.numbers(None)) == [expected]


OIDC = {
    "OIDC_NAME": "Example",
    "OIDC_ISSUER": "https://login.example.com",
    "OIDC_CLIENT_ID": "portal",
    "OIDC_CLIENT_SECRET": "secret",
}
PEOPLE = {"MFA_REQUIRED": "staff", "EMAIL_URL": "smtp://mail.example.com", **PUBLIC}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, []),
        (OIDC, []),
        ({"MFA_REQUIRED": "sometimes"}, ["claytom.E090"]),
        ({"MFA_REQUIRED": "none"}, ["claytom.W091"]),
        ({**OIDC, "OIDC_CLIENT_SECRET": ""}, ["claytom.E092"]),
        ({"OIDC_ISSUER": "https://login.example.com"}, ["claytom.E092"]),
        ({**OIDC, "OIDC_ISSUER": "login.example.com"}, ["claytom.E093"]),
        ({**OIDC, "OIDC_ISSUER": "http://login.example.com"}, ["claytom.E093"]),
        ({**OIDC, "OIDC_ISSUER": "http://localhost:9000"}, []),
        ({"EMAIL_URL": "mail.example.com"}, ["claytom.E094"]),
        ({"EMAIL_URL": "smtp://portal:secret@mail.example.com"}, ["claytom.E095"]),
        ({"EMAIL_URL": ""}, ["claytom.W096"]),
    ],
)
def test_people(values: dict[str, Any], expected: list[str], settings: LazySettings) -> None:
    set_all(settings, {**PEOPLE, **values})
    assert ids(checks.people(None)) == expected


@pytest.mark.parametrize("agents", [35, 100, 1500])
def test_counts_that_close_in_divisions_are_in_order(agents: int, settings: LazySettings) -> None:
    settings.AGENTS_PER_SUBSIDIARY = agents
    assert ids(checks.numbers(None)) == []


@pytest.mark.parametrize(
    "values",
    [
        {"CELERY_TASK_ACKS_LATE": False},
        {"CELERY_TASK_REJECT_ON_WORKER_LOST": False},
        {"CELERY_WORKER_PREFETCH_MULTIPLIER": 4},
        {"CELERY_TASK_TIME_LIMIT": 60},
        {"CELERY_TASK_TIME_LIMIT": None},
        {"CELERY_ACCEPT_CONTENT": ["json", "pickle"]},
        {"CELERY_BROKER_TRANSPORT_OPTIONS": {"visibility_timeout": 120}},
        {
            "CELERY_BROKER_TRANSPORT_OPTIONS": {
                "visibility_timeout": 3600,
                "unacked_restore_interval": 2,
                "unacked_restore_throttle": 1,
            }
        },
    ],
)
def test_weakened_tasks(values: dict[str, Any], settings: LazySettings) -> None:
    set_all(settings, values)
    assert ids(checks.tasks(None)) == ["claytom.E060"]


# --- what the servers say ----------------------------------------------------------------------------------


def test_servers_are_asked_only_when_wanted() -> None:
    assert checks.database(None, databases=None) == []
    assert checks.broker(None, databases=["owner"]) == []


@pytest.mark.django_db
def test_the_database_of_the_tests_is_only_not_durable() -> None:
    assert set(ids(checks.database(None, databases=["default"]))) == {"claytom.E073"}


def found_with(role: str, postgres_superuser_dsn: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what the checks find when the application's role has more than it should."""
    with psycopg.connect(postgres_superuser_dsn) as connection:

        class Alias:
            def __getitem__(self, _alias: str) -> psycopg.Connection:
                connection.execute(f"set local role {role}")
                return connection

        monkeypatch.setattr(checks, "connections", Alias())
        found = ids(checks.database(None, databases=["default"]))
        connection.rollback()
    return found


@pytest.mark.django_db
@pytest.mark.parametrize("role", ["postgres", "claytom_owner", "claytom_ingest"])
def test_an_application_role_that_may_too_much(
    role: str, postgres_superuser_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "claytom.E072" in found_with(role, postgres_superuser_dsn, monkeypatch)


@pytest.mark.django_db
def test_the_ingest_may_see_all_rows(
    postgres_superuser_dsn: str, monkeypatch: pytest.MonkeyPatch, settings: LazySettings
) -> None:
    settings.DATABASE_ROLE = "ingest"
    assert "claytom.E072" not in found_with("claytom_ingest", postgres_superuser_dsn, monkeypatch)


@pytest.mark.django_db
def test_an_old_postgresql(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "OLDEST_POSTGRESQL", 990_000)
    assert "claytom.E071" in ids(checks.database(None, databases=["default"]))


def test_a_redis_that_forgets(redis_url: str, settings: LazySettings) -> None:
    assert checks._broker({"appendonly": "yes", "maxmemory-policy": "noeviction"}.copy()) is not None
    assert ids(list(checks._broker({"appendonly": "no", "maxmemory-policy": "allkeys-lru"}))) == [
        "claytom.E081",
        "claytom.E082",
    ]
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    assert ids(checks.broker(None, databases=["default"])) == ["claytom.E080"]
    settings.REDIS_URL = redis_url
    assert "claytom.E080" not in ids(checks.broker(None, databases=["default"]))


# --- as an operator sees it --------------------------------------------------------------------------------


def run_check(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "django", "check", *arguments],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


PRODUCTION = {
    "SECRET_KEY": KEY,
    "PORTAL_URL": "https://portal.example.com",
    "ALLOWED_HOSTS": "portal.example.com",
    "BEHIND_TLS_PROXY": "1",
    "CHAOS_ENABLED": "0",
    "MFA_REQUIRED": "staff",
    "EMAIL_URL": "smtp://portal:secret@mail.example.com:587/?tls=1",
}


def test_a_production_environment_passes_the_deployment_checks(tmp_path: Path) -> None:
    (tmp_path / "static").mkdir()
    result = run_check("--deploy", "--fail-level", "WARNING", DATA_DIR=str(tmp_path), **PRODUCTION)
    assert result.returncode == 0, result.stderr


def test_numbers_that_are_none_are_told_plainly() -> None:
    result = run_check(CLOCK_SPEED="fast")
    assert result.returncode != 0
    assert "CLOCK_SPEED is “fast”, which is no number" in result.stderr.splitlines()[-1]
    assert "DATABASE_URL" in run_check(DATABASE_URL="nonsense").stderr.splitlines()[-1]


def test_a_wrong_environment_is_refused_with_the_remedy() -> None:
    result = run_check(PORTAL_URL="http://portal.example.com")
    assert result.returncode != 0
    assert "plain http" in result.stderr
    assert "HINT: Put TLS before the portal" in result.stderr
