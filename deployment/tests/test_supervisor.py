"""The supervisor: everything runs, what dies comes back, nothing stays behind."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest

from deployment.embedded import __main__ as command_line
from deployment.embedded import environment
from deployment.embedded.directory import DataDirectory
from deployment.embedded.environment import REPOSITORY
from deployment.embedded.errors import EmbeddedError
from deployment.embedded.ports import LOOPBACK
from deployment.embedded.supervisor import Backoff, rotate
from deployment.tests.conftest import mark_environment, marked

SECONDS = 30.0
T = TypeVar("T")


def wait_for(condition: Callable[[], T], what: str, seconds: float = SECONDS) -> T:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)
    return value


class Running:
    """One supervisor with stand-ins for the portal's processes."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.directory = directory
        self.output = directory.with_name(f"{uuid.uuid4()}.out")
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "deployment.tests.stand_in", "--data-dir", str(directory), *arguments],
                cwd=REPOSITORY,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def ready(self) -> dict[str, Any]:
        path = self.directory / "ready.json"
        wait_for(lambda: path.exists() or self.process.poll() is not None, "ready.json")
        assert self.process.poll() is None, self.output.read_text()
        content: dict[str, Any] = json.loads(path.read_text())
        return content

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(SECONDS)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One stack for the tests that leave it as it was."""
    with pytest.MonkeyPatch.context() as patch:
        mark = mark_environment(patch)
        running = Running(tmp_path_factory.mktemp("shared") / "data")
    yield running
    running.stop()
    wait_for(lambda: not marked(mark, running.directory), "no process is left")


@pytest.fixture
def running(mark: str, tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path / "data")
    yield running
    running.stop()
    wait_for(lambda: not marked(mark, running.directory), "no process is left")


@pytest.fixture
def light(mark: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Running]:
    """A stack whose PostgreSQL is somebody else's, which starts faster."""
    monkeypatch.setenv("DATABASE_URL", "postgres://elsewhere/claytom")
    running = Running(tmp_path / "data")
    yield running
    running.stop()
    wait_for(lambda: not marked(mark, running.directory), "no process is left")


def guards(running: Running) -> list[int]:
    """The guards of a supervisor that lives."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command, status = (entry / "cmdline").read_bytes(), (entry / "status").read_text()
        except OSError:
            continue
        if b"guard.py" in command and f"PPid:\t{running.process.pid}\n" in status:
            found.append(int(entry.name))
    return found


def test_ready_json_names_everything_and_is_private(shared: Running) -> None:
    ready = shared.ready()
    assert set(ready["processes"]) == {"supervisor", "postgresql", "redis", "nats", "parent", "crasher"}
    assert set(ready["servers"]) == {"postgresql", "redis", "nats"}
    assert ready["sign_in"]["username"] == "admin"
    assert ready["sign_in"]["password"] in shared.output.read_text()
    assert ready["url"].startswith("http://localhost:")
    for name in ("ready.json", "env", "secrets.json", "lock"):
        assert stat.S_IMODE((shared.directory / name).stat().st_mode) == 0o600, name
    assert stat.S_IMODE(shared.directory.stat().st_mode) == 0o700


def test_the_environment_file_can_be_sourced(shared: Running) -> None:
    ready = shared.ready()
    shell = subprocess.run(
        ["sh", "-c", f". {shared.directory}/env && echo $DATABASE_URL"],
        env={},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shell.stdout.strip() == ready["servers"]["postgresql"]


def test_a_second_start_on_the_same_data_is_refused(shared: Running) -> None:
    url = shared.ready()["url"]
    second = Running(shared.directory)
    assert second.process.wait(SECONDS) == 1
    said = second.output.read_text()
    assert f"process {shared.process.pid} at {url}" in said
    assert "make stop" in said


def test_a_second_stack_on_other_data_gets_other_ports(running: Running, tmp_path: Path) -> None:
    first = running.ready()
    second = Running(tmp_path / "second")
    try:
        assert not set(first["servers"].values()) & set(second.ready()["servers"].values())
        assert first["url"] != second.ready()["url"]
    finally:
        second.stop()


def test_sigterm_stops_all_within_ten_seconds_and_leaves_nothing(
    mark: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STAND_IN_STUBBORN", "1")
    running = Running(tmp_path / "data")
    running.ready()
    began = time.monotonic()
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(SECONDS) == 0
    assert time.monotonic() - began < 10
    assert marked(mark, running.directory) == []
    assert not (running.directory / "ready.json").exists()


def test_kill_9_of_the_supervisor_leaves_nothing_and_the_next_start_works(mark: str, running: Running) -> None:
    before = running.ready()
    assert set(before["processes"].values()) - {before["processes"]["crasher"]} <= set(
        marked(mark, running.directory)
    )
    running.process.kill()
    running.process.wait()
    wait_for(lambda: not (running.directory / "ready.json").exists(), "ready.json is gone")
    following = Running(running.directory)
    try:
        after = following.ready()
        assert after["sign_in"] == before["sign_in"]
        old = {pid for name, pid in before["processes"].items() if name != "crasher"}
        assert not old & set(marked(mark, running.directory))
    finally:
        following.stop()


def test_kill_9_of_supervisor_and_guard_leaves_no_direct_child(mark: str, running: Running) -> None:
    before = running.ready()
    (guard,) = guards(running)
    os.kill(running.process.pid, signal.SIGSTOP)  # or it would start another guard
    os.kill(guard, signal.SIGKILL)
    running.process.kill()
    running.process.wait()
    direct = set(before["processes"].values())
    wait_for(lambda: not direct & set(marked(mark, running.directory)), "the direct children end")
    for pid in marked(mark):  # the child of a child, which only the guard reaches
        os.kill(pid, signal.SIGKILL)


def test_a_guard_that_dies_is_replaced(light: Running) -> None:
    light.ready()
    (first,) = guards(light)
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: guards(light) not in ([], [first]), "another guard")


@pytest.mark.parametrize("name", ["postgresql", "redis", "nats", "parent"])
def test_what_is_killed_comes_back_at_the_same_place(shared: Running, name: str) -> None:
    before = shared.ready()
    os.kill(before["processes"][name], signal.SIGKILL)

    def restarted() -> bool:
        now = json.loads((shared.directory / "ready.json").read_text())
        return bool(now["processes"][name] != before["processes"][name])

    wait_for(restarted, f"{name} comes back")
    after = shared.ready()
    assert after["servers"] == before["servers"]
    if name in after["servers"]:
        port = urlsplit(after["servers"][name]).port or 0
        wait_for(lambda: _listens(port), f"{name} listens again")


def _listens(port: int) -> bool:
    try:
        socket.create_connection((LOOPBACK, port), timeout=1).close()
    except OSError:
        return False
    return True


def test_a_process_that_keeps_dying_is_started_ever_more_slowly(light: Running) -> None:
    light.ready()
    wait_for(lambda: "crasher ended (exit 3), starts again in 2 s" in light.output.read_text(), "back-off")
    assert "starts again in 0.5 s" in light.output.read_text()
    assert len((light.directory / "starts").read_text()) == 3


def test_back_off_doubles_to_thirty_seconds_and_forgets_after_a_minute_of_health() -> None:
    backoff = Backoff(0.5)
    assert [backoff.after(0) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert backoff.after(61) == 0.5


def test_a_preparation_that_fails_ends_the_start_and_quotes_its_log(
    mark: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STAND_IN_FAILS", "1")
    running = Running(tmp_path / "data")
    assert running.process.wait(SECONDS) == 1
    assert "the holding file is broken" in running.output.read_text()
    assert marked(mark) == []


def test_a_given_port_that_is_taken_is_an_error(mark: str, tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
        running = Running(tmp_path / "data", "--port", str(port))
        assert running.process.wait(SECONDS) == 1
    assert f"Port {port} is taken" in running.output.read_text()


def test_a_url_of_the_environment_replaces_the_server(light: Running) -> None:
    ready = light.ready()
    assert ready["servers"]["postgresql"] == "postgres://elsewhere/claytom"
    assert "postgresql" not in ready["processes"]


def test_the_environment_of_an_earlier_start_does_not_replace_its_own_servers(
    mark: str, monkeypatch: pytest.MonkeyPatch, light: Running
) -> None:
    redis = light.ready()["servers"]["redis"]
    light.stop()
    monkeypatch.setenv("REDIS_URL", redis)
    again = Running(light.directory)
    try:
        assert "redis" in again.ready()["processes"]
    finally:
        again.stop()


def test_stop_and_reset_end_it_and_delete_its_data(light: Running, capsys: pytest.CaptureFixture[str]) -> None:
    light.ready()
    assert command_line.main(["stop", "--data-dir", str(light.directory)]) == 0
    assert light.process.wait(SECONDS) == 0
    assert command_line.main(["reset", "--data-dir", str(light.directory)]) == 0
    assert not light.directory.exists()
    assert f"Stopped process {light.process.pid}." in capsys.readouterr().out


def test_a_directory_of_somebody_else_is_neither_used_nor_deleted(tmp_path: Path) -> None:
    (tmp_path / "diary.txt").write_text("mine")
    with pytest.raises(EmbeddedError, match="was not made by this program"):
        DataDirectory(tmp_path).create()
    with pytest.raises(EmbeddedError, match="is not deleted"):
        DataDirectory(tmp_path).delete()


def test_a_log_stays_bounded(tmp_path: Path) -> None:
    log = tmp_path / "web.log"
    with log.open("ab") as writer:
        writer.write(b"x" * 1001)
        writer.flush()
        rotate(log, limit=1000)
        writer.write(b"y")
    assert log.read_bytes() == b"y"
    assert (tmp_path / "web.log.1").read_bytes() == b"x" * 1001


def test_variables_survive_the_environment_file(tmp_path: Path) -> None:
    variables = {"SECRET_KEY": 'it\'s $HOME \\ `x` "y"', "DATA_DIR": "/a b"}
    environment.write(tmp_path / "env", variables)
    assert environment.read(tmp_path / "env") == variables
    assert environment.read(tmp_path / "absent") == {}


def test_other_commands_find_the_stack_unless_told_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment.write(tmp_path / "env", {"DATABASE_URL": "postgres://ours", "REDIS_URL": "redis://ours"})
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", "postgres://other")
    monkeypatch.setenv("REDIS_URL", "redis://other")
    environment.adopt()
    assert os.environ["REDIS_URL"] == "redis://other"
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.delenv("REDIS_URL")
    environment.adopt()
    assert os.environ["DATABASE_URL"] == "postgres://ours"
    monkeypatch.setenv("DATABASE_URL", "")  # so that monkeypatch restores what adopt() has set
    monkeypatch.setenv("REDIS_URL", "")
