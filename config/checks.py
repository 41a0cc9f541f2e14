"""A system check for each way to misconfigure the portal: what is wrong, and how to mend it.

`manage.py check` asks what the environment says; `manage.py check --database default` also asks the servers.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections

from holding import files

HOLDING_FILE = Path(files.__file__).parent / "data" / "holding.yaml"
SECRET_KEY_LENGTH = 50
OLDEST_POSTGRESQL = 160_000
DURABLE = ("fsync", "full_page_writes", "synchronous_commit")
# Each server: the setting, the schemes its URL may have, an example.
SERVERS = {
    "DATABASE_APP_URL": ("DATABASE_URL", {"postgres", "postgresql"}, "postgres://claytom_app:…@db:5432/claytom"),
    "REDIS_URL": ("REDIS_URL", {"redis", "rediss", "unix"}, "redis://:…@redis:6379/0"),
    "NATS_URL": ("NATS_URL", {"nats", "tls"}, "nats://portal:…@nats:4222"),
}
Messages = Iterator[CheckMessage]


def is_loopback(url: str) -> bool:
    """Return whether only this machine can reach the address of `url`."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def secrets(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Check SECRET_KEY."""
    remedy = "Set SECRET_KEY: python -c 'import secrets; print(secrets.token_urlsafe(64))'"
    try:
        key: str = settings.SECRET_KEY
    except ImproperlyConfigured:
        return [Error("SECRET_KEY is not set: sessions could be forged.", remedy, id="claytom.E001")]
    if len(key) < SECRET_KEY_LENGTH:
        cause = f"SECRET_KEY has {len(key)} characters, fewer than {SECRET_KEY_LENGTH}: it could be guessed."
        return [Error(cause, remedy, id="claytom.E002")]
    return []


def address(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Check PORTAL_URL, LIVE_URL, ALLOWED_HOSTS and what must not be reachable from outside."""
    return list(_address())


def _address() -> Messages:
    portal = urlsplit(settings.PORTAL_URL)
    if portal.scheme not in {"http", "https"} or not portal.hostname or portal.path.strip("/"):
        cause = f"PORTAL_URL is “{settings.PORTAL_URL}”, which is no origin."
        yield Error(cause, "Write it as https://portal.example.com", id="claytom.E010")
        return
    public = not is_loopback(settings.PORTAL_URL)
    if public and portal.scheme == "http":
        cause = f"{settings.PORTAL_URL} is plain http: passwords and tokens would travel in clear."
        remedy = "Put TLS before the portal, set PORTAL_URL to https:// and BEHIND_TLS_PROXY=1."
        yield Error(cause, remedy, id="claytom.E011")
    if public and settings.DEBUG:
        cause = f"DEBUG is on at {settings.PORTAL_URL}: error pages would show settings and queries."
        yield Error(cause, "Set DEBUG=0.", id="claytom.E012")
    if public and settings.CHAOS_ENABLED:
        cause = f"CHAOS_ENABLED is on at {settings.PORTAL_URL}: agents can be made to fail on purpose."
        yield Warning(cause, "Set CHAOS_ENABLED=0 except in drills.", id="claytom.W013")
    if "*" in settings.ALLOWED_HOSTS:
        cause = "ALLOWED_HOSTS takes any host: links in pages could be made to lead elsewhere."
        yield Error(cause, f"Set ALLOWED_HOSTS={portal.hostname}", id="claytom.E014")
    elif not _is_allowed(portal.hostname):
        cause = f"PORTAL_URL names {portal.hostname}, which ALLOWED_HOSTS does not: every page would answer 400."
        yield Error(cause, f"Add {portal.hostname} to ALLOWED_HOSTS.", id="claytom.E015")
    if settings.LIVE_URL and not _is_origin(settings.LIVE_URL):
        cause = f"LIVE_URL is “{settings.LIVE_URL}”, which is no origin: browsers would refuse the live stream."
        yield Error(cause, "Write https://live.example.com or :8001, or leave it empty.", id="claytom.E016")


def _is_origin(url: str) -> bool:
    """Whether `url` is an origin, or the own host's under another port (`:8001`)."""
    if url.startswith(":"):
        return url[1:].isdigit()
    return bool(urlsplit(url).hostname) and not urlsplit(url).path


def _is_allowed(host: str) -> bool:
    for allowed in settings.ALLOWED_HOSTS:
        name = allowed.strip("[]").lower()
        if host == name or (name.startswith(".") and (host.endswith(name) or host == name[1:])):
            return True
    return False


def servers(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Check that each server is named, by a URL of its kind, with credentials."""
    return [*_server_urls(), *_database_roles()]


def _server_urls() -> Messages:
    for number, (setting, (variable, schemes, example)) in enumerate(SERVERS.items(), start=20):
        url: str = getattr(settings, setting)
        scheme = urlsplit(url).scheme
        if not url:
            cause = f"{variable} is not set."
            remedy = f"Run `manage.py up`, which starts the servers, or set {variable}={example}"
            yield Error(cause, remedy, id=f"claytom.E{number:03}")
        elif scheme not in schemes:
            cause = f"{variable} begins with “{scheme}:”, not with {' or '.join(sorted(schemes))}."
            yield Error(cause, f"Write it as {example}", id=f"claytom.E{number:03}")
        elif not urlsplit(url).password and not is_loopback(url) and scheme != "unix":
            cause = f"{variable} has no password, and its server is not on this machine."
            yield Warning(cause, f"Write it as {example}", id=f"claytom.W{number + 10:03}")


def _database_roles() -> Messages:
    app, owner = urlsplit(settings.DATABASE_APP_URL), urlsplit(settings.DATABASE_OWNER_URL)
    if settings.DATABASE_APP_URL and app.username == owner.username:
        cause = f"The application connects as {app.username}, the role that owns the tables: nothing binds it."
        remedy = "Set DATABASE_OWNER_URL to the migrations' role, and DATABASE_URL to one that owns nothing."
        yield Error(cause, remedy, id="claytom.E040")
    if settings.DATABASE_ROLE not in {"app", "ingest"}:
        cause = f"DATABASE_ROLE is “{settings.DATABASE_ROLE}”."
        yield Error(cause, "Set it to app (default) or ingest.", id="claytom.E041")


def numbers(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Check CLOCK_SPEED, AGENTS_PER_SUBSIDIARY and KPI_RETENTION_HOURS."""
    return list(_numbers())


def _numbers() -> Messages:
    if not (math.isfinite(settings.CLOCK_SPEED) and settings.CLOCK_SPEED > 0):
        cause = f"CLOCK_SPEED is {settings.CLOCK_SPEED}: time would stand still or run backwards."
        yield Error(cause, "Set it above 0; 1 is real time.", id="claytom.E050")
    if settings.KPI_RETENTION_HOURS < 1:
        cause = f"KPI_RETENTION_HOURS is {settings.KPI_RETENTION_HOURS}: samples would be dropped as they come."
        yield Error(cause, "Set it to 1 or more.", id="claytom.E051")
    if agents := settings.AGENTS_PER_SUBSIDIARY:
        try:
            files.scale(files.read(HOLDING_FILE), agents)
        except ValueError as error:
            cause = f"AGENTS_PER_SUBSIDIARY does not close in divisions. {error}"
            yield Error(cause, "Set it to one of these, or leave it empty for all.", id="claytom.E052")


def tasks(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Check that a task whose worker was killed runs again within seconds, and that only JSON is taken."""
    options = settings.CELERY_BROKER_TRANSPORT_OPTIONS
    timeout = options.get("visibility_timeout", 3600)
    rules = [
        (settings.CELERY_TASK_ACKS_LATE, "CELERY_TASK_ACKS_LATE is off: a killed worker's task is lost"),
        (
            settings.CELERY_TASK_REJECT_ON_WORKER_LOST,
            "CELERY_TASK_REJECT_ON_WORKER_LOST is off: a killed child's task is lost",
        ),
        (
            settings.CELERY_WORKER_PREFETCH_MULTIPLIER == 1,
            "CELERY_WORKER_PREFETCH_MULTIPLIER is not 1: a busy worker holds tasks that another could run",
        ),
        (timeout <= 600, f"visibility_timeout is {timeout} s: a killed worker's task waits that long"),
        (
            settings.CELERY_TASK_TIME_LIMIT and timeout > settings.CELERY_TASK_TIME_LIMIT * 2,
            "CELERY_TASK_TIME_LIMIT is not below half of visibility_timeout: a slow task would run twice",
        ),
        (
            options.get("unacked_restore_interval", 10) * options.get("unacked_restore_throttle", 10) <= 10,
            "unacked_restore_interval x unacked_restore_throttle is over 10 s: lost tasks are found late",
        ),
        (
            settings.CELERY_ACCEPT_CONTENT == ["json"],
            "CELERY_ACCEPT_CONTENT takes more than json: a message could run code",
        ),
    ]
    remedy = "Take the value that config/settings.py has."
    return [Error(f"{cause}.", remedy, id="claytom.E060") for kept, cause in rules if not kept]


def database(app_configs: Any, databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Check the server behind DATABASE_URL and what the application's role may do there."""
    if "default" not in (databases or ()):
        return []
    try:
        return list(_database())
    except DatabaseError as error:
        cause = f"PostgreSQL does not answer at DATABASE_URL: {error}".strip()
        return [Error(cause, "Start it, or correct DATABASE_URL.", id="claytom.E070")]


def _database() -> Messages:
    with connections["default"].cursor() as cursor:
        cursor.execute("select current_setting('server_version_num')::int, current_setting('server_version')")
        number, version = cursor.fetchone()
        cursor.execute("select rolname, rolsuper, rolbypassrls from pg_roles where rolname = current_user")
        role, superuser, bypasses = cursor.fetchone()
        cursor.execute("select count(*) from pg_tables where schemaname = 'public' and tableowner = current_user")
        (owned,) = cursor.fetchone()
        cursor.execute("select name from pg_settings where name = any(%s) and setting = 'off'", [list(DURABLE)])
        off = [name for (name,) in cursor.fetchall()]
    if number < OLDEST_POSTGRESQL:
        yield Error(f"PostgreSQL is {version}.", "Use PostgreSQL 16 or later.", id="claytom.E071")
    app = settings.DATABASE_ROLE == "app"
    if superuser or owned or (bypasses and app):
        what = "is a superuser" if superuser else f"owns {owned} tables" if owned else "bypasses row-level security"
        cause = f"The application's role {role} {what}: neither the ledger nor row-level security binds it."
        remedy = "Connect as a role like claytom_app of deployment/embedded/roles.sql."
        yield Error(cause, remedy, id="claytom.E072")
    for name in off:
        cause = f"PostgreSQL has {name} off: a power cut loses or destroys what was committed."
        yield Error(cause, f"Set {name} = on in postgresql.conf.", id="claytom.E073")


def broker(app_configs: Any, databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Check that the Redis behind REDIS_URL keeps the tasks it was given."""
    if "default" not in (databases or ()) or not settings.REDIS_URL:
        return []
    try:
        with redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=5, socket_timeout=5) as client:
            told = client.config_get("appendonly", "maxmemory-policy")
    except redis.ResponseError:  # a managed server does not tell its settings
        return []
    except (redis.RedisError, ValueError) as error:
        cause = f"Redis does not answer at REDIS_URL: {error}"
        return [Error(cause, "Start it, or correct REDIS_URL.", id="claytom.E080")]
    return list(_broker({str(name): str(value) for name, value in told.items()}))


def _broker(told: dict[str, str]) -> Messages:
    if told.get("appendonly", "yes") != "yes":
        cause = "Redis keeps no append-only file: when it is killed, every waiting task is lost."
        yield Error(cause, "Set appendonly yes (and appendfsync everysec or always).", id="claytom.E081")
    policy = told.get("maxmemory-policy", "noeviction")
    if policy != "noeviction":
        cause = f"Redis evicts keys when its memory is full ({policy}): waiting tasks would vanish."
        yield Error(cause, "Set maxmemory-policy noeviction.", id="claytom.E082")


def people(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Check MFA_REQUIRED, the identity provider and the mail server."""
    return [*_second_steps(), *_provider(), *_mail()]


def _second_steps() -> Messages:
    if settings.MFA_REQUIRED not in {"staff", "all", "none"}:
        cause = f"MFA_REQUIRED is “{settings.MFA_REQUIRED}”: nobody would be asked for a second step."
        yield Error(cause, "Set it to staff, all or none.", id="claytom.E090")
    elif settings.MFA_REQUIRED == "none" and not is_loopback(settings.PORTAL_URL):
        cause = "MFA_REQUIRED is none: a stolen password alone opens the administration."
        yield Warning(cause, "Set MFA_REQUIRED=staff, or all.", id="claytom.W091")


def _provider() -> Messages:
    names = ("OIDC_NAME", "OIDC_ISSUER", "OIDC_CLIENT_ID", "OIDC_CLIENT_SECRET")
    missing = [name for name in names if not getattr(settings, name)]
    if missing and len(missing) < len(names):
        cause = f"The identity provider is half configured: {', '.join(missing)} not set."
        yield Error(cause, f"Set {', '.join(missing)}, or none of {', '.join(names)}.", id="claytom.E092")
    issuer = settings.OIDC_ISSUER
    if issuer and (
        not _is_url(issuer) or (urlsplit(issuer).scheme == "http" and not is_loopback(settings.OIDC_ISSUER))
    ):
        cause = f"OIDC_ISSUER is “{issuer}”: who can change its answers could sign in as anybody."
        yield Error(cause, "Write it as https://login.example.com/realm", id="claytom.E093")


def _mail() -> Messages:
    url = urlsplit(settings.EMAIL_URL)
    if settings.EMAIL_URL and (url.scheme not in {"smtp", "smtps"} or not url.hostname):
        cause = f"EMAIL_URL begins with “{url.scheme}:”, not with smtp: or smtps:."
        remedy = "Write it as smtp://portal:…@mail.example.com:587/?tls=1"
        yield Error(cause, remedy, id="claytom.E094")
    elif settings.EMAIL_URL and url.password and not settings.EMAIL_USE_TLS and not settings.EMAIL_USE_SSL:
        if not is_loopback(settings.EMAIL_URL):
            cause = "EMAIL_URL has a password and no TLS: it would travel in clear."
            yield Error(cause, "Add ?tls=1, or write smtps://", id="claytom.E095")
    elif not settings.EMAIL_URL and not is_loopback(settings.PORTAL_URL):
        cause = "EMAIL_URL is not set: invitations and new passwords stay in files of this machine."
        yield Warning(cause, "Set EMAIL_URL=smtp://portal:…@mail.example.com:587/?tls=1", id="claytom.W096")


def _is_url(text: str) -> bool:
    return urlsplit(text).scheme in {"http", "https"} and bool(urlsplit(text).hostname)


CHECKS: tuple[tuple[Callable[..., list[CheckMessage]], str], ...] = (
    (secrets, checks.Tags.security),
    (address, checks.Tags.security),
    (servers, checks.Tags.compatibility),
    (numbers, checks.Tags.compatibility),
    (tasks, checks.Tags.async_support),
    (people, checks.Tags.security),
    (database, checks.Tags.database),
    (broker, checks.Tags.database),
)


def register() -> None:
    """Register the checks with Django; as often as you like."""
    for check, tag in CHECKS:
        checks.register(check, tag)
