"""What is told in several places says the same: compose.yaml, .env.example, nats.conf, the supervisor."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bus.credentials import shared_host
from deployment.embedded import nats
from deployment.embedded.environment import REPOSITORY
from deployment.embedded.ports import reserve
from deployment.embedded.programs import PROCESSES, Program, programs
from deployment.embedded.up import PASSED_ON


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())
    return content["services"]  # type: ignore[no-any-return]


def started_with(hosts: int, logs: Path = Path()) -> dict[str, Program]:
    web, live = reserve(), reserve()
    env = {"SECRET_KEY": "x", "DATABASE_URL": "x", "REDIS_URL": "x", "NATS_URL": "x", "NATS_HOST_URL": "y"}
    found = programs(env=env, logs=logs, web=web, live=live, hosts=hosts, chaos=False)
    web.release()
    live.release()
    return {program.name: program for program in found}


@pytest.fixture(scope="module")
def started() -> dict[str, Program]:
    return started_with(hosts=1)


def test_the_supervisor_starts_the_process_list(started: dict[str, Program]) -> None:
    assert set(started) == set(PROCESSES)


def test_a_host_that_dies_leaves_the_processor_to_those_that_take_over(started: dict[str, Program]) -> None:
    both = started_with(hosts=2)
    assert [both[name].pause_s for name in ("host-1", "host-2", "bus")] == [2.0, 2.0, 0.5]
    assert started["host"].pause_s == 0.5  # nobody takes over from a single one


def test_what_may_wait_gives_way_to_others(started: dict[str, Program], tmp_path: Path) -> None:
    assert {name for name, program in started.items() if program.niceness} == {"worker"}
    worker = started_with(1, tmp_path)["worker"]
    worker.command = [sys.executable, "-c", "import os; print(os.nice(0))"]
    assert worker.start().wait(timeout=10) == 0
    assert int(worker.log.read_text()) == min(19, os.nice(0) + worker.niceness)


def test_compose_has_the_same_process_list(services: dict[str, Any]) -> None:
    ours = {name for name, service in services.items() if service.get("image") == "claytomsystems-holding"}
    assert ours - {"prepare"} == set(PROCESSES)


@pytest.mark.parametrize("name", PROCESSES)
def test_compose_runs_the_same_command(name: str, services: dict[str, Any], started: dict[str, Program]) -> None:
    assert _words(services[name]["command"]) == _words(started[name].command)


def _words(command: Any) -> list[str]:
    """Without what differs by place: interpreter, path, addresses, the number of workers, the host's name."""
    words = [word.replace(sys.executable, "python").replace(f"{REPOSITORY}/", "") for word in command]
    for option in ("--host", "--port", "--workers", "--id"):
        if option in words:
            place = words.index(option)
            del words[place : place + 2]
    return words


def test_a_host_knows_nats_only(services: dict[str, Any], started: dict[str, Program]) -> None:
    assert started["host"].env == {"NATS_HOST_URL": "y"}
    assert set(services["host"]["environment"]) == {"NATS_HOST_URL"}


def test_env_example_lists_every_variable() -> None:
    listed = set(re.findall(r"^([A-Z_]+)=", (REPOSITORY / ".env.example").read_text(), re.MULTILINE))
    settings = (REPOSITORY / "config/settings.py").read_text()
    read = set(re.findall(r"\benv(?:_bool|_list)?\(\s*\"([A-Z_]+)\"", settings))
    compose = set(re.findall(r"\$\{([A-Z_]+)", (REPOSITORY / "compose.yaml").read_text()))
    assert read
    assert (read | compose | set(PASSED_ON)) - listed == set()


def test_nats_of_compose_permits_hosts_the_same() -> None:
    text = (REPOSITORY / "deploy/compose/nats.conf").read_text()
    allowed = [json.loads(found) for found in re.findall(r"allow: (\[.*?\])", text, re.DOTALL)]
    assert allowed == [shared_host.HOST_PUBLISH, shared_host.HOST_SUBSCRIBE]


def test_nats_of_compose_is_a_configuration_that_nats_accepts() -> None:
    passwords = {f"NATS_{user}_PASSWORD": "x" for user in ("PORTAL", "HOST", "SYS")}
    checked = subprocess.run(
        [nats.find_binary(), "-t", "-c", REPOSITORY / "deploy/compose/nats.conf"],
        env=passwords,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
