"""A NATS server of its own for each test that asks, and small makers of manifests and hosts."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from bus.credentials import KeyStore, Logins
from bus.credentials.permissions import CONSOLE
from bus.credentials.shared_host import HOST_PUBLISH, HOST_SUBSCRIBE
from bus.streams import STREAMS
from claytom_agent import workers
from claytom_agent.agents import RestartPolicy
from claytom_agent.client import Bus
from claytom_agent.division import DivisionTimes
from claytom_agent.host import Host, HostOptions
from claytom_agent.leases import LeaseTimes
from claytom_agent.login import with_credentials
from deployment.embedded.nats import find_binary, trust

REPOSITORY = Path(__file__).resolve().parents[2]
BUCKET_TTL_S = 4
SETTINGS = {"kpi_interval_s": 3600, "presence_interval_s": 0.3, "presence_full_s": 2}
UNITS = ("pricing", "sales", "tax")
ORDER = {"ce-type": "org.claytom.test.order.v1", "ce-source": "portal/test"}
"""Headers of a command; what has none is not obeyed."""
CONFIGURATION = """
listen: "127.0.0.1:{port}"
jetstream {{ store_dir: "{store}", sync_interval: always }}
"""
PASSWORDS = """
accounts {{
  CLAYTOM {{ jetstream: enabled, users: [
    {{ user: portal, password: portal }}
    {{ user: host, password: host, permissions: {{
      publish: {publish}, subscribe: {subscribe}, allow_responses: true }} }} ] }}
  SYS {{ users: [ {{ user: sys, password: sys }} ] }}
}}
system_account: SYS
"""


class NatsServer:
    """A server that a test may kill and start again on the same port and files.

    It runs in operator mode as an installation does, or knows two passwords as a server of somebody else's may.
    """

    def __init__(self, directory: Path, *, passwords: bool = False, units: Iterable[str] = UNITS) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._passwords = passwords
        if not passwords:
            self.store = KeyStore.create(directory / "keys", units=units)
            self.logins = Logins(self.store)
            self.logins.renew()
        self.write_configuration()

    def write_configuration(self) -> None:
        text = CONFIGURATION.format(port=self.port, store=self.directory / "js")
        if self._passwords:
            text += PASSWORDS.format(publish=json.dumps(HOST_PUBLISH), subscribe=json.dumps(HOST_SUBSCRIBE))
        else:
            text += trust(self.store, self.directory / "claims")
        (self.directory / "nats.conf").write_text(text)

    @property
    def address(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def url(self, user: str = "host", password: str | None = None) -> str:
        """The server and a login: of a host, or of `portal`, who may do everything."""
        if self._passwords:
            return f"nats://{user}:{password or user}@127.0.0.1:{self.port}"
        login = self.logins.host if user == "host" else self.logins.portal(CONSOLE)
        return with_credentials(self.address, login)

    def start(self) -> None:
        log = self.directory / "nats.log"
        self._process = subprocess.Popen(
            [str(find_binary()), "-c", str(self.directory / "nats.conf"), "-l", str(log)]
        )

    def terminate(self) -> None:
        """End the server as its supervisor would."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def signal(self, number: int) -> None:
        """Send the server a signal: SIGSTOP lets it stand still."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def nats_with_passwords(tmp_path: Path) -> Iterator[NatsServer]:
    """A server without operator mode."""
    server = NatsServer(tmp_path, passwords=True)
    server.start()
    yield server
    server.kill()


async def make_streams(bus: Bus, bucket_ttl_s: float = BUCKET_TTL_S) -> None:
    """Create the protocol's streams, with a shorter life for leases."""
    for stream in STREAMS:
        config = dict(stream)
        if config["name"] == "KV_CT_LEASES":
            life = int(bucket_ttl_s * 1e9)
            config.update(max_age=life, subject_delete_marker_ttl=life, duplicate_window=life)
        reply = await bus.request(f"$JS.API.STREAM.CREATE.{config['name']}", json.dumps(config).encode())
        assert "error" not in json.loads(reply.data)


@pytest_asyncio.fixture
async def portal(nats: NatsServer) -> AsyncIterator[Bus]:
    """A connection that may do everything, with the streams in place."""
    bus = await Bus.connect(nats.url("portal"), name="test", inbox_prefix="_INBOX", timeout_s=10)
    await make_streams(bus)
    yield bus
    await bus.close()


def make_manifest(key: str, generation: int = 1, *, operators: int = 4, **changes: Any) -> dict[str, Any]:
    """A division with a director and a few operators, or a body with two seats."""
    unit, _, division = key.partition(".")
    manifest: dict[str, Any] = {
        "v": 1,
        "subsidiary": unit,
        "division": division,
        "generation": generation,
        "settings": SETTINGS,
    }
    if unit == "corporate":
        duties = {"ceo": "publishes the daily brief", "coo": "owns ARP"}
        seats: list[dict[str, Any]] = [{"role": division, "names": ["ceo", "coo"], "duties": duties}]
    else:
        number = int(division)
        first = 31 + (number - 1) * operators
        seats = [
            {"role": "director", "code": "di", "ordinals": [[number, number]]},
            {"role": "operator", "code": "op", "ordinals": [[first, first + operators - 1]]},
        ]
    return {**manifest, "seats": seats, **changes}


async def put_manifest(portal: Bus, key: str, generation: int = 1, **changes: Any) -> None:
    body = make_manifest(key, generation, **changes)
    await portal.kv_put("CT_SEATS", key, json.dumps(body).encode())


def keys_of(*units: str) -> list[str]:
    return [f"{unit}.{number}" for unit in units for number in range(1, 6)]


async def wait_until(condition: Callable[[], Any], within_s: float = 10.0) -> float:
    """Wait for the condition; return the seconds that it took."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > within_s:
            raise AssertionError(f"not within {within_s} s")
        await asyncio.sleep(0.02)
    return time.monotonic() - start


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Register worker kinds for the test alone: what a host has, and says that it has, is the same elsewhere."""
    for table in ("_KINDS", "_BOUNDS"):
        monkeypatch.setattr(workers, table, {**getattr(workers, table)})
    return workers.register


StartHost = Callable[..., Awaitable[Host]]


@pytest_asyncio.fixture
async def start_host(nats: NatsServer, tmp_path: Path) -> AsyncIterator[StartHost]:
    """Start hosts in this process; they are stopped at the end."""
    running: list[tuple[Host, asyncio.Task[None]]] = []

    async def start(name: str = "h1", **options: Any) -> Host:
        defaults: dict[str, Any] = {
            "policy": RestartPolicy(base=0.02, window=5.0),
            "division_times": DivisionTimes(manifest=1.0, soon=0.05, report=0.2, hello=0.05, hello_ceiling=0.5),
            "lease_times": LeaseTimes(settle=0.4, grace=0.6, claim_delay=0.05, cool=3.0),
            "spool_dir": tmp_path / "spool",
        }
        host = Host(HostOptions(url=nats.url(), id=name, **{**defaults, **options}))
        task = asyncio.create_task(host.run())
        running.append((host, task))
        await wait_until(lambda: hasattr(host, "keeper") or task.done())
        return host

    yield start
    for host, _ in running:
        host.stop()
    await asyncio.gather(*(task for _, task in running), return_exceptions=True)


def spawn_host(nats: NatsServer, name: str, *arguments: str) -> "subprocess.Popen[bytes]":
    """Start a host as a process of its own, to be killed."""
    command = [sys.executable, "-m", "claytom_agent", "host", "--nats", nats.url(), "--id", name]
    command += ["--spool-dir", str(nats.directory / "spool")]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen([*command, "--log-level", "warning", *arguments], cwd=REPOSITORY, env=environment)


class Presences:
    """What presence says: the last holder and epoch of each division, and all that was listed."""

    def __init__(self) -> None:
        self.last: dict[str, dict[str, Any]] = {}
        self.all: list[dict[str, Any]] = []

    async def follow(self, portal: Bus) -> "Presences":
        async def on_message(message: Any) -> None:
            body = json.loads(message.data)
            self.all.append(body)
            if body["epoch"] >= self.last.get(body["division"], {"epoch": 0})["epoch"]:
                self.last[body["division"]] = body

        await portal.subscribe("org.claytom.*.metrics.presence", on_message)
        return self

    def holders(self) -> dict[str, str]:
        return {key: body["host"] for key, body in self.last.items()}

    def epochs(self) -> dict[str, int]:
        return {key: body["epoch"] for key, body in self.last.items()}
