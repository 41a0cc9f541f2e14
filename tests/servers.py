"""Real PostgreSQL, Redis and NATS for the tests: own ports, own directory, gone at the end.

`conftest.py` names them in the environment before Django reads its settings; each one starts when the first
test asks for it. They are children of pytest with a parent-death signal: they end even when pytest is
killed. Only their directory stays then, and the next run removes it.
"""

import asyncio
import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis as redis_client
from django.db import connection

from bus.credentials.permissions import BUS, INGEST
from claytom_agent.client import Bus
from deployment.embedded.nats import Nats
from deployment.embedded.postgres import Postgres
from deployment.embedded.process import is_alive
from deployment.embedded.secrets import Credentials
from deployment.embedded.stack import Stack

PREFIX = f"claytom-tests-{os.getuid()}-"
UNITS = ("pricing", "sales")
"""The units whose hosts have logins at the tests' NATS."""
REPLACED = ("DATABASE_URL", "DATABASE_OWNER_URL", "DATABASE_INGEST_URL", "REDIS_URL", "NATS_URL")


class TestServers:
    """The servers of this run; nothing is started or written before `enter_environment`."""

    __test__ = False

    def __init__(self) -> None:
        self.ignored: list[str] = []
        self.console = ""
        """NATS with a login that may do everything in the account."""
        self._stack: Stack | None = None
        self._directory: Path | None = None
        self._running: set[str] = set()

    def enter_environment(self) -> None:
        """Reserve ports, make passwords, and name both in the environment of this process."""
        self.ignored = [name for name in REPLACED if name in os.environ]
        _remove_leftovers()
        self._directory = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        credentials = Credentials()
        self._stack = Stack(
            directory=self._directory,
            credentials=credentials,
            logs=self._directory / "logs",
            usual_ports=False,
            durable=False,
        )
        nats_server = self._stack.servers["nats"]
        assert isinstance(nats_server, Nats)
        nats_server.units = UNITS
        urls = self._stack.urls()
        self.console = urls["NATS_URL"]
        os.environ.update(
            urls,
            NATS_URL=nats_server.url_of(BUS),  # so that a permission which the bus lacks fails a test
            NATS_CREDS="",
            NATS_SYS_CREDS="",
            NATS_HOST_CREDS="",
            SECRET_KEY=credentials.secret_key,
            DATA_DIR=str(self._directory),
            DEBUG="0",
            ALLOWED_HOSTS="testserver,localhost,127.0.0.1",
            PORTAL_URL="http://localhost:8000",
            LIVE_URL="",
            CHAOS_ENABLED="1",
            AGENTS_PER_SUBSIDIARY="",
            CLOCK_SPEED="1",
            MFA_REQUIRED="none",
            OIDC_NAME="",
            OIDC_ISSUER="",
            OIDC_CLIENT_ID="",
            OIDC_CLIENT_SECRET="",
            EMAIL_URL="",
        )

    @property
    def stack(self) -> Stack:
        """The servers, started or not."""
        assert self._stack is not None, "enter_environment() comes first"
        return self._stack

    def start(self, *names: str) -> None:
        """Start the named servers that do not run yet."""
        wanted = [self.stack.servers[name] for name in names if name not in self._running]
        for server in wanted:
            server.prepare()
        for server in reversed(wanted):
            server.start()
        for server in wanted:
            server.wait_ready()
            if isinstance(server, Postgres):
                server.bootstrap()
            self._running.add(server.name)

    def stop(self) -> None:
        """Stop what runs and remove the directory."""
        if self._stack is not None:
            self._stack.stop()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)


SERVERS = TestServers()


def _remove_leftovers() -> None:
    """Remove the directories of runs that were killed."""
    for directory in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        pid = directory.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdigit() and not is_alive(int(pid)):
            shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_superuser_dsn() -> str:
    """PostgreSQL's superuser, for what the roles of the portal may not do."""
    SERVERS.start("postgresql")
    assert SERVERS.stack.postgres is not None
    return SERVERS.stack.postgres.superuser_url()


@pytest.fixture
def ingest_role(postgres_superuser_dsn: str) -> Iterator[Callable[[], None]]:
    """Lets a test go on as the ingest's role, which alone may copy into tables under row-level security."""
    with psycopg.connect(postgres_superuser_dsn, autocommit=True) as superuser:
        superuser.execute("grant claytom_ingest to claytom_app with inherit false, set true")

        def become() -> None:
            with connection.cursor() as cursor:
                cursor.execute("set local role claytom_ingest")  # until the test is rolled back

        try:
            yield become
        finally:
            superuser.execute("revoke claytom_ingest from claytom_app")


@pytest.fixture(scope="session")
def redis_url() -> str:
    """A Redis that runs."""
    SERVERS.start("redis")
    return os.environ["REDIS_URL"]


@pytest.fixture
def redis_clean(redis_url: str) -> str:
    """A Redis without keys."""
    with contextlib.closing(redis_client.Redis.from_url(redis_url)) as client:
        client.flushall()
    return redis_url


@pytest.fixture(scope="session")
def nats_url() -> str:
    """A NATS that runs, with a login that may do everything in the account."""
    SERVERS.start("nats")
    return SERVERS.console


@pytest.fixture(scope="session")
def nats_bus_url(nats_url: str) -> str:
    """The same server as the bus process, with what that may do and no more."""
    return os.environ["NATS_URL"]


@pytest.fixture(scope="session")
def nats_ingest_url(nats_url: str) -> str:
    """The same server as the ingest process."""
    return login_of(INGEST)


def login_of(kind: str) -> str:
    """Return the URL of the tests' NATS with the login of a process of the portal."""
    server = SERVERS.stack.servers["nats"]
    assert isinstance(server, Nats)
    return server.url_of(kind)


@pytest.fixture(scope="session")
def nats_host_url(nats_url: str) -> str:
    """The same server with the directory of logins of an agent host."""
    return os.environ["NATS_HOST_URL"]


@pytest.fixture(scope="session")
def nats_sys_url(nats_url: str) -> str:
    """The same server as a user of the system account."""
    return os.environ["NATS_SYS_URL"]


@pytest.fixture
def nats_clean(nats_url: str) -> str:
    """A NATS whose streams exist as before but are empty and have no consumers."""
    _run(_empty_streams(nats_url))
    return nats_url


def _run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run in a thread of its own: the test that asked may have an event loop already."""
    with ThreadPoolExecutor(1) as executor:
        executor.submit(asyncio.run, coroutine).result()


async def _empty_streams(url: str) -> None:
    """Delete and create each stream: a purge is refused by some, and consumers would remember."""
    client = await Bus.connect(url, name="test", timeout_s=10)
    try:

        async def ask(subject: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
            reply = await client.request(f"$JS.API.{subject}", json.dumps(body or {}).encode(), timeout_s=10)
            answer: dict[str, Any] = json.loads(reply.data)
            if "error" in answer:
                raise RuntimeError(f"{subject}: {answer['error']}")
            return answer

        for stream in (await ask("STREAM.LIST"))["streams"] or []:
            config = stream["config"]
            await ask(f"STREAM.DELETE.{config['name']}")
            await ask(f"STREAM.CREATE.{config['name']}", config)
    finally:
        await client.close()
