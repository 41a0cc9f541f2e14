"""Which processes a drill may kill: hosts that the supervisor of the directory started, and no others."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployment.embedded import hosts
from deployment.embedded.directory import DataDirectory
from deployment.embedded.errors import EmbeddedError
from deployment.embedded.process import is_alive

SLEEP = "import time; time.sleep(60)"


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[DataDirectory]:
    """A directory that this process holds, as a supervisor does."""
    made = DataDirectory(tmp_path / "data")
    made.create()
    made.acquire()
    yield made
    made.close()


@pytest.fixture
def processes() -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """A process that looks like a host, and one that does not; both are this process's children."""
    found = {
        "host-1": subprocess.Popen([sys.executable, "-c", SLEEP, "claytom_agent", "host", "--chaos"]),
        "host-2": subprocess.Popen([sys.executable, "-c", SLEEP, "something", "else"]),
    }
    yield found
    for process in found.values():
        process.kill()
        process.wait()


def announce(directory: DataDirectory, processes: dict[str, int]) -> None:
    directory.ready.write_text(json.dumps({"processes": processes}))


def test_a_host_is_found_and_killed(
    directory: DataDirectory, processes: dict[str, subprocess.Popen[bytes]]
) -> None:
    announce(directory, {"web": os.getpid(), **{name: process.pid for name, process in processes.items()}})
    found = hosts.hosts(directory)
    assert found == {"host-1": processes["host-1"].pid}  # the other is no host, whatever it is called
    hosts.kill(found["host-1"])
    processes["host-1"].wait(timeout=10)
    assert not is_alive(found["host-1"])
    assert hosts.hosts(directory) == {}


def test_a_process_of_somebody_else_is_no_host_of_ours(directory: DataDirectory) -> None:
    announce(directory, {"host-1": 1, "host-2": os.getppid()})
    assert hosts.hosts(directory) == {}


def test_where_no_supervisor_runs_nothing_is_found(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedError, match="No holding of ours runs"):
        hosts.hosts(DataDirectory(tmp_path))
