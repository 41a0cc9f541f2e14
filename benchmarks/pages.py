"""Pages and API at 52,550 agents, through granian, against a view that does nothing in the same server.

Measured: the overview (95th percentile, queries), a page of the API's agents (100 rows against the same rows
as `values()` and JSON; 5 rows against 100), and page 500 of the list of agents against page 1. Processor time
is that of the server's worker, from the kernel.
"""

import http.client
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import connections

from benchmarks.measuring import median, report, servers

ROUNDS = 7
OVERVIEWS = 15  # per round
EMPTY = 300
PAGES = 30
TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Sample:
    """What requests of one kind took: each on the wall, and the worker's processor time per request (ms)."""

    walls: list[float]
    cpu: float

    @property
    def p95(self) -> float:
        """The 95th percentile on the wall, in ms."""
        return statistics.quantiles(self.walls, n=20)[-1] if len(self.walls) > 1 else self.walls[0]


class Server:
    """One granian worker with the portal, and a client that has signed in."""

    def __init__(self, port: int, worker: int, headers: dict[str, str]) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._worker, self._headers = worker, headers

    def get(self, path: str) -> bytes:
        """Return the body at `path`. Raises RuntimeError unless it is 200."""
        self._connection.request("GET", path, headers=self._headers)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status}")
        return body

    def sample(self, path: str, times: int) -> Sample:
        """Ask `times` for `path`, one after the other."""
        walls = []
        cpu = self._cpu()
        for _ in range(times):
            start = time.perf_counter()
            self.get(path)
            walls.append((time.perf_counter() - start) * 1000)
        return Sample(walls, (self._cpu() - cpu) / times)

    def _cpu(self) -> float:
        fields = Path(f"/proc/{self._worker}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * TICK_MS


@contextmanager
def granian() -> Iterator[tuple[int, int]]:
    """Start the process `web` on a free port; yield the port and the worker's process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    subprocess.run([sys.executable, "-m", "django", "collectstatic", "--no-input", "-v0"], check=True)
    command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--port", str(port), "--workers", "1"]
    process = subprocess.Popen(
        [*command, "config.wsgi:application"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait(port)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield port, int(children[-1])
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError("The server does not start.")


def measure(server: Server, load: Any) -> Iterator[dict[str, float]]:
    """Yield the figures of each round (ms); `load` is `benchmarks.page_load`."""
    late = load.late_page()
    for path in ("/healthz", "/", "/agents/", late, "/api/v1/agents/?limit=100", "/s/pricing/"):
        server.sample(path, 3)
    for _ in range(ROUNDS):
        load.hear()
        overview, empty = server.sample("/", OVERVIEWS), server.sample("/healthz", EMPTY)
        first, last = server.sample("/agents/", PAGES), server.sample(late, PAGES)
        hundred = server.sample("/api/v1/agents/?limit=100", PAGES)
        five = server.sample("/api/v1/agents/?limit=5", PAGES)
        unit = server.sample("/s/pricing/", OVERVIEWS)
        yield {
            "overview_p95_ms": overview.p95,
            "overview_cpu_ms": overview.cpu,
            "empty_ms": median(empty.walls),
            "empty_cpu_ms": empty.cpu,
            "unit_p95_ms": unit.p95,
            "page_1_ms": median(first.walls),
            "page_500_ms": median(last.walls),
            "api_100_cpu_ms": hundred.cpu,
            "api_100_ms": median(hundred.walls),
            "api_5_ms": median(five.walls),
            "values_json_100_cpu_ms": load.values_and_json(),
        }


def summary(rounds: Sequence[dict[str, float]], queries: int) -> dict[str, Any]:
    """Return the medians of the rounds, and whether each target is met."""
    middle = {name: round(median([one[name] for one in rounds]), 3) for name in rounds[0]}
    page_500 = round(median([one["page_500_ms"] / one["page_1_ms"] for one in rounds]), 3)
    api = round(median([one["api_100_cpu_ms"] / one["values_json_100_cpu_ms"] for one in rounds]), 3)
    return {
        **middle,
        "overview_queries": queries,
        "page_500_to_page_1": page_500,
        "api_100_to_values_json": api,
        "met": {
            "overview p95 <= 200 ms": middle["overview_p95_ms"] <= 200,
            "overview <= 12 queries": queries <= 12,
            "page 500 <= 1.15x page 1": page_500 <= 1.15,
            "API page of 100 <= 4x values() and JSON": api <= 4,
            "limit=5 not slower than limit=100": middle["api_5_ms"] <= middle["api_100_ms"],
        },
    }


def main() -> None:
    """Run it."""
    with servers() as postgres:
        from benchmarks import page_load as load

        headers = load.prepare(postgres.superuser_url())
        with granian() as (port, worker):
            rounds = list(measure(Server(port, worker, headers), load))
        result = summary(rounds, load.count_queries("/", headers))
        connections.close_all()
        for name, value in result.items():
            print(f"{name}: {value}")
        report(
            name="pages",
            unit="ms, overview p95; reference: an empty view",
            pairs=[(one["overview_p95_ms"], one["empty_ms"]) for one in rounds],
            target="overview p95 <= 200 ms, <= 12 queries; page 500 as page 1; API 100 <= 4x values() and JSON",
            met=lambda _ours, _reference, _ratio: all(result["met"].values()),
            runs=[{name: round(value, 3) for name, value in one.items()} for one in rounds],
        )


if __name__ == "__main__":
    main()
