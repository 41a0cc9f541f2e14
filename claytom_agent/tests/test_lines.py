"""The connections of a host: what it has stays, whatever becomes of the directory of its credentials."""

import asyncio
import logging
import shutil
from pathlib import Path

import pytest

from claytom_agent import lines
from claytom_agent.lines import Lines
from claytom_agent.login import split_url, with_credentials
from claytom_agent.tests.conftest import NatsServer, wait_until


async def test_a_disk_that_fails_for_a_moment_costs_no_line(
    nats: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server, given = split_url(nats.url("host"))
    assert given is not None
    directory = tmp_path / "logins"
    directory.mkdir()
    for name in ("_host", "pricing"):
        shutil.copy(given / f"{name}.creds", directory)
    monkeypatch.setattr(lines, "LOOK_EVERY_S", 0.02)
    mine = Lines(with_credentials(server, directory), host="h")
    await mine.open(timeout_s=10)
    looking = asyncio.create_task(mine.run())
    try:
        with monkeypatch.context() as broken, caplog.at_level(logging.WARNING):
            broken.setattr(Path, "glob", _input_output_error)
            await wait_until(lambda: "cannot be looked for" in caplog.text)
        assert mine.up("pricing")
        shutil.copy(given / "sales.creds", directory)
        await wait_until(lambda: mine.up("sales"))
        assert not looking.done()
    finally:
        looking.cancel()
        await mine.close()


def _input_output_error(*_: object) -> None:
    raise OSError(5, "Input/output error")
