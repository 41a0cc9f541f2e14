"""The embedded servers: durable, private, and back with their data after kill -9."""

import asyncio
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis as redis_client

from bus.credentials import KeyStore, Logins, push
from claytom_agent.client import Bus
from deployment.embedded import postgres as postgres_module
from deployment.embedded.environment import REPOSITORY
from deployment.embedded.errors import EmbeddedError
from deployment.embedded.nats import Nats, find_binary
from deployment.embedded.ports import LOOPBACK, reserve, reserve_exactly
from deployment.embedded.postgres import Postgres, choose_identity
from deployment.embedded.process import Identity, is_alive
from deployment.embedded.secrets import Credentials
from deployment.embedded.server import Server
from deployment.embedded.stack import Stack

DEEP = "a-directory-whose-path-is-longer-than-a-unix-socket-may-be/" * 2


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Durable servers, as an installation has them, on a path of more than 107 bytes."""
    directory = tmp_path_factory.mktemp("stack") / DEEP
    directory.mkdir(parents=True)
    stack = Stack(directory=directory, credentials=Credentials(), logs=directory / "logs", usual_ports=False)
    stack.start()
    yield stack
    stack.stop()


def embedded_postgres(stack: Stack) -> Postgres:
    assert stack.postgres is not None
    return stack.postgres


def kill_and_start(server: Server) -> None:
    assert server.process is not None
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    server.prepare()
    server.start()
    server.wait_ready()


def query(url: str, statement: str) -> str:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        row = cursor.fetchone() if cursor.description else None
    return str(row[0]) if row else ""


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes", "synchronous_commit"])
def test_postgresql_is_durable(stack: Stack, setting: str) -> None:
    assert query(embedded_postgres(stack).superuser_url(), f"show {setting}") == "on"


def test_postgresql_listens_on_the_loopback_only(stack: Stack) -> None:
    superuser = embedded_postgres(stack).superuser_url()
    assert query(superuser, "show listen_addresses") == LOOPBACK
    assert query(superuser, "show unix_socket_directories") == ""


@pytest.mark.parametrize(
    ("variable", "user", "bypasses"),
    [
        ("DATABASE_URL", "claytom_app", "false"),
        ("DATABASE_INGEST_URL", "claytom_ingest", "true"),
        ("DATABASE_OWNER_URL", "claytom_owner", "false"),
    ],
)
def test_each_role_is_what_it_should_be(stack: Stack, variable: str, user: str, bypasses: str) -> None:
    url = stack.urls()[variable]
    assert query(url, "select current_user") == user
    rights = "select rolsuper::text || rolbypassrls::text from pg_roles where rolname = current_user"
    assert query(url, rights) == f"false{bypasses}"


def test_what_the_owner_creates_the_application_may_use_but_not_change(stack: Stack) -> None:
    urls = stack.urls()
    query(urls["DATABASE_OWNER_URL"], "create table thing (n int)")
    query(urls["DATABASE_URL"], "insert into thing values (1) returning n")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        query(urls["DATABASE_URL"], "truncate thing")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        query(urls["DATABASE_URL"], "create table other (n int)")


def test_bootstrap_can_be_repeated(stack: Stack) -> None:
    embedded_postgres(stack).bootstrap()
    assert query(stack.urls()["DATABASE_URL"], "select 1") == "1"


def test_postgresql_keeps_its_data_through_kill_9(stack: Stack) -> None:
    superuser = embedded_postgres(stack).superuser_url()
    query(superuser, "create table kept as select 42 as n")
    kill_and_start(embedded_postgres(stack))
    assert query(superuser, "select n from kept") == "42"


def test_a_lock_file_that_names_another_program_does_not_keep_postgresql_down(stack: Stack) -> None:
    server = embedded_postgres(stack)
    server.stop()
    lock = server.data / "postmaster.pid"
    lock.write_text(f"{os.getpid()}\n{server.data}\n{int(time.time())}\n{server.port}\n\n\n")
    server.prepare()
    server.start()
    server.wait_ready()
    assert query(server.superuser_url(), "select 1") == "1"


def test_a_postgresql_that_outlived_its_supervisor_is_ended_first(stack: Stack) -> None:
    server = embedded_postgres(stack)
    leftover, server.process = server.process, None
    assert leftover is not None
    server.prepare()
    assert not is_alive(leftover.pid)
    leftover.wait()
    server.start()
    server.wait_ready()


def test_redis_keeps_a_queued_task_through_kill_9(stack: Stack) -> None:
    url = stack.urls()["REDIS_URL"]
    with redis_client.Redis.from_url(url) as client:
        client.rpush("queue", "task")
    kill_and_start(stack.servers["redis"])
    with redis_client.Redis.from_url(url) as client:
        assert client.lrange("queue", 0, -1) == [b"task"]
        assert client.config_get("appendfsync")["appendfsync"] == "always"
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"


def test_redis_refuses_a_client_without_password(stack: Stack) -> None:
    with (
        redis_client.Redis(port=stack.servers["redis"].port) as client,
        pytest.raises(redis_client.AuthenticationError),
    ):
        client.ping()


async def test_jetstream_keeps_an_acknowledged_message_through_kill_9(stack: Stack) -> None:
    url = stack.urls()["NATS_URL"]
    client = (await Bus.connect(url, name="test", timeout_s=10))._client
    stream = client.jetstream()
    await stream.add_stream(name="KEPT", subjects=["kept"])
    await stream.publish("kept", b"1")
    await client.close()
    kill_and_start(stack.servers["nats"])
    client = (await Bus.connect(url, name="test", timeout_s=10))._client
    assert (await client.jetstream().stream_info("KEPT")).state.messages == 1
    await client.close()


async def test_a_host_may_not_give_commands(stack: Stack) -> None:
    refused: asyncio.Queue[str] = asyncio.Queue()

    async def note(error: Exception) -> None:
        refused.put_nowait(str(error).lower())

    server = stack.servers["nats"]
    assert isinstance(server, Nats)
    store = KeyStore.load(server.keys)
    store.ensure_scopes(["pricing"])
    push(store, stack.urls()["NATS_URL"])
    Logins(store).renew()
    bus = await Bus.connect(stack.urls()["NATS_HOST_URL"] + "/pricing.creds", name="test", timeout_s=10)
    client = bus._client
    client._error_cb = note
    await client.publish("org.claytom.pricing.metrics.presence", b"{}")
    await client.publish("org.claytom.pricing.command.pause", b"{}")
    await client.flush()
    assert "org.claytom.pricing.command.pause" in await asyncio.wait_for(refused.get(), 10)
    await client.close()
    assert refused.empty()


def test_an_installation_from_before_operator_mode_keeps_its_streams(tmp_path: Path) -> None:
    """Its streams lie under the account's name, and operator mode looks for them under the account's key."""
    port = reserve()
    old = tmp_path / "old.conf"
    directory = tmp_path / "nats"
    directory.mkdir()
    old.write_text(
        f'listen: "{LOOPBACK}:{port.port}"\njetstream {{ store_dir: "{directory}", sync_interval: always }}\n'
        "accounts { CLAYTOM { jetstream: enabled, users: [ { user: portal, password: portal } ] } }\n"
    )
    port.release()
    before = subprocess.Popen([str(find_binary()), "-c", str(old), "-l", str(tmp_path / "old.log")])
    try:
        asyncio.run(_fill(f"nats://portal:portal@{LOOPBACK}:{port.port}"))
    finally:
        before.kill()
        before.wait()
    stack = Stack(
        directory=tmp_path,
        credentials=Credentials(),
        logs=tmp_path / "logs",
        usual_ports=False,
        without=["postgresql", "redis"],
    )
    stack.start()
    try:
        info = asyncio.run(_state(stack.urls()["NATS_URL"]))
    finally:
        stack.stop()
    assert (info["config"]["name"], info["state"]["messages"], info["state"]["last_seq"]) == ("KEPT", 20, 20)
    assert info["state"]["consumer_count"] == 1


async def _fill(url: str) -> None:
    bus = await Bus.connect(url, name="test", inbox_prefix="_INBOX", timeout_s=10)
    stream = bus._client.jetstream()
    await stream.add_stream(name="KEPT", subjects=["kept"])
    await stream.pull_subscribe("kept", durable="reader")
    for number in range(20):
        await stream.publish("kept", str(number).encode())
    await bus.close()


async def _state(url: str) -> dict[str, Any]:
    bus = await Bus.connect(url, name="test", timeout_s=10)
    info: dict[str, Any] = json.loads((await bus.request("$JS.API.STREAM.INFO.KEPT")).data)
    await bus.close()
    return info


def test_nats_synchronises_before_it_acknowledges(stack: Stack) -> None:
    assert "sync_interval: always" in (stack.servers["nats"].directory / "nats.conf").read_text()


def test_what_holds_a_password_is_readable_by_its_owner_only(stack: Stack, tmp_path: Path) -> None:
    Credentials.load(tmp_path / "secrets.json")
    files = [
        tmp_path / "secrets.json",
        stack.servers["nats"].directory / "nats.conf",
        stack.servers["redis"].directory / "redis.conf",
    ]
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600] * 3
    for server in stack.servers.values():
        assert stat.S_IMODE(server.directory.stat().st_mode) == 0o700


def test_secrets_are_made_once(tmp_path: Path) -> None:
    first = Credentials.load(tmp_path / "secrets.json")
    assert Credentials.load(tmp_path / "secrets.json") == first
    assert Credentials() != first


def test_other_secrets_than_those_of_the_data_are_named_as_the_cause(stack: Stack) -> None:
    server = embedded_postgres(stack)
    right, server.credentials = server.credentials, Credentials()
    with pytest.raises(EmbeddedError, match=r"secrets\.json"):
        server.is_ready()
    server.credentials = right


def test_a_taken_port_gives_another_one() -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        taken = listener.getsockname()[1]
        reservation = reserve(taken)
        assert reservation.port != taken
        reservation.release()
        with pytest.raises(EmbeddedError, match=f"Port {taken} is taken"):
            reserve_exactly(taken)


def test_a_server_whose_port_was_taken_at_the_last_moment_moves(tmp_path: Path) -> None:
    stack = Stack(
        directory=tmp_path,
        credentials=Credentials(),
        logs=tmp_path,
        usual_ports=False,
        without=["postgresql", "nats"],
    )
    server = stack.servers["redis"]
    server.reservation.release()
    with socket.create_server((LOOPBACK, server.port)) as thief:
        stack.start()
        assert server.port != thief.getsockname()[1]
        assert str(server.port) in stack.urls()["REDIS_URL"]
    stack.stop()


def test_two_reservations_never_share_a_port() -> None:
    reservations = [reserve() for _ in range(50)]
    assert len({reservation.port for reservation in reservations}) == 50
    for reservation in reservations:
        reservation.release()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another identity")
def test_root_runs_postgresql_in_a_user_namespace() -> None:
    assert choose_identity() is Identity.NAMESPACE


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_root_without_user_namespaces_runs_postgresql_as_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = Path("/tmp") / f"claytom-nobody-{os.getpid()}"  # noqa: S108 - tmp_path is closed to nobody
    monkeypatch.setattr(postgres_module, "NOBODY_DATA", outside)
    monkeypatch.setattr(postgres_module, "choose_identity", lambda: Identity.NOBODY)
    stack = Stack(
        directory=tmp_path, credentials=Credentials(), logs=tmp_path, usual_ports=False, without=["redis", "nats"]
    )
    try:
        stack.start()
        kill_and_start(embedded_postgres(stack))
        assert query(stack.urls()["DATABASE_URL"], "select 1") == "1"
        assert embedded_postgres(stack).data.stat().st_uid == 65534
    finally:
        stack.stop()
        shutil.rmtree(outside)


ORDINARY = """
import sys, pathlib
from deployment.embedded.stack import Stack
from deployment.embedded.secrets import Credentials
directory = pathlib.Path(sys.argv[1])
stack = Stack(directory=directory, credentials=Credentials(), logs=directory / "logs", usual_ports=False)
stack.start()
print(stack.postgres.identity, all(server.is_ready() for server in stack.servers.values()))
stack.stop()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests run as an ordinary user already")
def test_an_ordinary_user_starts_all_servers() -> None:
    python = shutil.which(f"python3.{sys.version_info.minor}", path="/usr/bin:/usr/local/bin")
    if not python or not shutil.which("setpriv"):
        pytest.skip("no interpreter outside root's home, or no setpriv")
    directory = Path("/tmp") / f"claytom-ordinary-{os.getpid()}"  # noqa: S108 - tmp_path is closed to others
    directory.mkdir(mode=0o700)
    shutil.chown(directory, 65534, 65534)
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    try:
        done = subprocess.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", python, "-c", ORDINARY, str(directory)],
            env={"PYTHONPATH": f"{REPOSITORY}:{packages}", "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout == "self True\n", done.stderr
    finally:
        shutil.rmtree(directory)
