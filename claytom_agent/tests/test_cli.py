import json
import subprocess
import sys
from pathlib import Path

import pytest

from bus.credentials import KeyStore, Logins
from claytom_agent.client import Bus
from claytom_agent.tests.conftest import REPOSITORY, NatsServer, StartHost, put_manifest, wait_until


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "claytom_agent", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=20, check=False)


async def test_ping_prints_the_answer(portal: Bus, nats: NatsServer, start_host: StartHost) -> None:
    import asyncio

    await put_manifest(portal, "pricing.1")
    host = await start_host()
    await wait_until(lambda: host.status()["live"] == 5)
    arguments = ("ping", "org.claytom.pricing.director.di-0001-g1", "--nats", nats.url())
    result = await asyncio.to_thread(run, *arguments)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["state"] == "idle"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("host", "--id", "no.dots"), "host id 'no.dots'"),
        (("host", "--subsidiary", "operator"), "reserved word"),
        (("ping", "org.claytom.pricing"), "not five"),
    ],
)
def test_wrong_arguments_are_refused_with_a_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    result = run(*arguments, "--nats", "nats://127.0.0.1:1")
    assert result.returncode == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("command", "missing", "used"),
    [
        ("host", "NATS_HOST_URL", "NATS_HOST_URL"),
        ("ping", "NATS_URL or NATS_HOST_URL", "NATS_URL"),
        ("check", "NATS_URL or NATS_HOST_URL", "NATS_URL"),
    ],
)
def test_the_server_is_that_of_the_environment_of_who_asks(
    command: str, missing: str, used: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`var/env` names two: a host has a directory of logins, and an operator a file."""
    arguments = (command,) if command == "host" else (command, "org.claytom.pricing.operator.op-0042-g1")
    for name in ("NATS_URL", "NATS_HOST_URL"):
        monkeypatch.delenv(name, raising=False)
    assert f"give --nats URL or set {missing}\n" in run(*arguments).stderr
    for name in ("NATS_URL", "NATS_HOST_URL"):
        monkeypatch.setenv(name, f"nats://127.0.0.1:1?creds={tmp_path / name}")
    result = run(*arguments)
    assert result.returncode == 2
    assert f"{tmp_path / used}" in result.stderr


def test_a_refused_password_ends_the_host_with_a_sentence(nats_with_passwords: NatsServer) -> None:
    result = run("host", "--nats", nats_with_passwords.url("host", "wrong"))
    assert result.returncode == 2
    assert "refuses the user or password" in result.stderr


def test_a_refused_credential_ends_the_host_with_a_sentence(nats: NatsServer, tmp_path: Path) -> None:
    foreign = Logins(KeyStore.create(tmp_path / "foreign", units=["pricing"]))
    foreign.renew()
    result = run("host", "--nats", nats.address, "--creds", str(foreign.host))
    assert result.returncode == 2
    assert f"NATS refuses the credential {foreign.host / '_host.creds'}" in result.stderr


def test_a_missing_credential_ends_the_host_with_a_sentence(nats: NatsServer, tmp_path: Path) -> None:
    result = run("host", "--nats", nats.address, "--creds", str(tmp_path / "nowhere"))
    assert result.returncode == 2
    assert "_host.creds cannot be used: No such file or directory" in result.stderr
    assert "Traceback" not in result.stderr
