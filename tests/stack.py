"""A whole holding, run as a user runs it, for tests and benchmarks: `manage.py up` in its own directory."""

import asyncio
import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.request import Request, urlopen

import psycopg
from nats.aio.msg import Msg

from claytom_agent.client import Bus

ROOT = Path(__file__).resolve().parents[1]
T = TypeVar("T")
TURNS = "CLAYTOM_TEST_TURNS"
"""The environment's name for the directory in which the processes of a test run take turns."""
REPLACED = ("DATABASE_", "REDIS_URL", "NATS_", "DATA_DIR", "SECRET_KEY", "AGENTS_PER_SUBSIDIARY", "DJANGO_SETTINGS")


@contextlib.contextmanager
def turn(*, alone: bool) -> Iterator[None]:
    """Wait for a turn on this machine among the processes of one test run: together with others, or alone.

    Tests of a whole holding ask how long something takes; beside another test the answer is about that one. Who
    waits to be alone goes first, so nobody is kept waiting by those who come and go.
    """
    directory = Path(os.environ[TURNS])
    with (directory / "gate").open("w") as gate, (directory / "room").open("w") as room:
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(gate, fcntl.LOCK_UN)
        yield


class RunningHolding:
    """Starts on entering, stops on leaving; the directory is removed unless it was given."""

    def __init__(self, *, hosts: int = 1, arguments: Sequence[str] = (), directory: Path | None = None) -> None:
        self._own = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="claytom-stack-"))
        self.directory.chmod(0o700)
        self.data = self.directory / "data"
        self._command = [
            *(sys.executable, str(ROOT / "manage.py"), "up", "--data-dir", str(self.data)),
            *("--port", str(_free_port()), "--hosts", str(hosts), "--chaos", "--free-ports", *arguments),
        ]
        self.process: subprocess.Popen[bytes] | None = None
        self.seconds = 0.0
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
        if self._own:
            shutil.rmtree(self.directory, ignore_errors=True)

    def start(self, *, patience: float = 240) -> None:
        """Start and wait until every agent is live; `seconds` says how long it took."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(REPLACED)}
        log = (self.directory / "up.log").open("ab")
        began = time.monotonic()
        with log:
            self.process = subprocess.Popen(
                self._command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        while not (self.data / "ready.json").exists():
            if self.process.poll() is not None or time.monotonic() - began > patience:
                raise AssertionError("the holding did not come up:\n" + self.log())
            time.sleep(0.1)
        self.seconds = time.monotonic() - began

    def stop(self) -> float:
        """Stop as Ctrl-C does; return the seconds that it took."""
        if self._connection is not None:
            self._connection.close()
        if self.process is None or self.process.poll() is not None:
            return 0.0
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return time.monotonic() - began

    def log(self, name: str = "") -> str:
        """Return what a process (or, without a name, the supervisor) wrote."""
        path = self.data / "logs" / f"{name}.log" if name else self.directory / "up.log"
        return path.read_text(errors="replace")

    @property
    def ready(self) -> dict[str, Any]:
        """What `ready.json` says now."""
        content: dict[str, Any] = json.loads((self.data / "ready.json").read_text())
        return content

    @property
    def env(self) -> dict[str, str]:
        """The variables of `DATA_DIR/env`."""
        lines = re.findall(r"^export (\w+)='(.*)'$", (self.data / "env").read_text(), re.MULTILINE)
        return dict(lines)

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another `manage.py` command against this holding."""
        return subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), *arguments],
            cwd=ROOT,
            env={**os.environ, **self.env, "DATA_DIR": str(self.data)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask the database (as the ingest's role, which sees every row).

        Over one connection, made anew when the database was away: twenty a second would be a load of their own.
        """
        if self._connection is not None and not self._connection.closed:
            with contextlib.suppress(psycopg.OperationalError):
                return self._connection.execute(query, values).fetchall()
            self._connection.close()
        self._connection = psycopg.connect(self.env["DATABASE_INGEST_URL"], autocommit=True)
        return self._connection.execute(query, values).fetchall()

    def value(self, query: str, *values: Any) -> Any:
        """Ask the database for one value."""
        return self.rows(query, *values)[0][0]

    def get(self, path: str) -> Any:
        """Ask the API with the administrator's token."""
        request = Request(self.ready["url"] + path, headers={"Authorization": f"Bearer {self.ready['api_token']}"})  # noqa: S310
        with urlopen(request, timeout=20) as response:  # noqa: S310 - our own address
            return json.loads(response.read())

    def until(self, condition: Callable[[], T], seconds: float, step: float = 0.05) -> float:
        """Wait until the condition is true; return the seconds that it took. Raises AssertionError after that."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > seconds:
                raise AssertionError(f"not true after {seconds} s\n{self.log()[-2000:]}")
            time.sleep(step)
        return time.monotonic() - began

    def kill(self, name: str) -> int:
        """End a process with SIGKILL; return the id that it had."""
        pid = int(self.ready["processes"][name])
        os.kill(pid, signal.SIGKILL)
        return pid

    # -- what the checks ask again and again -----------------------------------------------------------------

    def live(self) -> int:
        """Agents live, as the database knows, in divisions heard of within 15 s."""
        return int(
            self.value(
                "select coalesce(sum(c.live), 0) from replacement_census c"
                " join replacement_divisionstate d using (division_id) where d.seen_at > now() - interval '15 s'"
            )
        )

    def duplicates(self) -> int:
        """Seats with more than one agent in office, as the database knows. Expected: 0."""
        return int(
            self.value(
                "select count(*) from (select seat_id from holding_agent where retired_at is null"
                " group by seat_id having count(*) > 1) twice"
            )
        )

    def with_bus(self, act: Callable[[Bus], Awaitable[T]]) -> T:
        """Run a coroutine with a connection of the portal's."""

        async def run() -> T:
            bus = await Bus.connect(self.env["NATS_URL"], name="test", inbox_prefix="_INBOX", timeout_s=10)
            try:
                return await act(bus)
            finally:
                await bus.close()

        return asyncio.run(run())

    def answers(self, subjects: Sequence[str]) -> Counter[str]:
        """Ping agents over NATS; return how many answered for each subject (expected: one)."""
        return self.with_bus(lambda bus: _ping(bus, subjects))

    def agents(self, unit: str = "", limit: int = 100_000) -> list[str]:
        """Return the subjects of agents in office."""
        rows = self.rows(
            "select a.subject from holding_agent a join holding_unit u on u.id = a.unit_id"
            " where a.retired_at is null and (%s = '' or u.slug = %s) order by a.id limit %s",
            unit,
            unit,
            limit,
        )
        return [subject for (subject,) in rows]

    def fail(self, unit: str, count: int) -> list[str]:
        """Let operators of a unit crash at every run until they are replaced; return their subjects."""
        operators = [subject for subject in self.agents(unit) if ".operator." in subject][:count]

        async def send(bus: Bus) -> None:
            headers = {"ce-type": "org.claytom.host.config.v1", "ce-source": "portal/test"}
            body = json.dumps({"fail": operators}).encode()
            await bus.publish(f"org.claytom.{unit}.command.config", body, headers)
            await bus.flush()

        self.with_bus(send)
        return operators

    def samples(self) -> tuple[int, int]:
        """Return KPI samples that JetStream has acknowledged, and those in the database."""

        async def stored(bus: Bus) -> int:
            reply = await bus.request("$JS.API.STREAM.INFO.CT_KPI")
            return int(json.loads(reply.data)["state"]["last_seq"])

        return self.with_bus(stored), int(self.value("select count(*) from performance_kpisample"))


async def _ping(bus: Bus, subjects: Sequence[str]) -> Counter[str]:
    counted: Counter[str] = Counter()
    inbox = bus.new_inbox()

    async def arrived(message: Msg) -> None:
        if b'"state"' in message.data:
            counted[subjects[int(message.subject.rpartition(".")[2])]] += 1

    await bus.subscribe(f"{inbox}.*", arrived)
    headers = {"ce-type": "org.claytom.agent.ping.v1", "ce-source": "portal/test"}
    for number, subject in enumerate(subjects):
        await bus._client.publish(subject, b"{}", reply=f"{inbox}.{number}", headers=headers)
        if number % 500 == 499:
            await bus.flush()
            await asyncio.sleep(0.05)
    for _ in range(100):
        await asyncio.sleep(0.1)
        if sum(counted.values()) >= len(subjects):
            break
    await asyncio.sleep(0.3)  # a second answer would come now
    return counted


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
