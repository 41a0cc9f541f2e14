"""Each example runs as a user would start it, against a real server, and is checked for the level it claims."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from claytom_agent.check import CheckOptions, Report, check_agent
from claytom_agent.client import Bus
from claytom_agent.login import split_url
from claytom_agent.tests.conftest import REPOSITORY, NatsServer, nats, portal, wait_until
from claytom_agent.tests.single import SUBJECT, Desk, Ear, login, make_queue, put_work, queue_emptied

__all__ = ["nats", "portal"]
EXAMPLES = REPOSITORY / "examples"
TIMES = CheckOptions(kpi_s=1.0, presence_s=0.3, work_s=5.0, inbox_prefix="_INBOX")


class Program:
    """An example as a process of its own."""

    def __init__(self, command: list[str], directory: Path, server: NatsServer) -> None:
        url = login(server)
        environment = {**os.environ, "NATS_URL": url, "CLAYTOM_SUBJECT": SUBJECT}
        environment["CLAYTOM_CREDS"] = str(split_url(url)[1])
        environment["PYTHONPATH"] = str(REPOSITORY)
        self.process = subprocess.Popen(
            command, cwd=directory, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    async def end(self) -> str:
        """Stop it as a user would; return what it said."""
        self.process.send_signal(signal.SIGTERM)
        _, text = await asyncio.to_thread(self.process.communicate, timeout=10)
        return text


@pytest_asyncio.fixture
async def desk(portal: Bus) -> Desk:
    await make_queue(portal)
    return await Desk(portal).open()


@pytest.fixture(scope="module")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The Node example in a directory of its own, with the official client installed."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("node and npm are not on this machine: the Node example is not run")
    directory = tmp_path_factory.mktemp("node")
    for name in ("agent.mjs", "package.json"):
        shutil.copy(EXAMPLES / "node" / name, directory)
    command = ["npm", "install", "--no-audit", "--no-fund", "--silent"]
    result = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120, check=False)
    if result.returncode:
        pytest.skip(f"npm cannot install the official client here: {result.stderr.strip()[-200:]}")
    yield directory
    shutil.rmtree(directory)


async def checked(program: Program, desk: Desk, server: NatsServer) -> Report:
    await wait_until(lambda: bool(desk.epochs) or program.process.poll() is not None, 15)
    assert program.process.poll() is None, program.process.communicate()[1]
    await asyncio.sleep(0.5)
    return await check_agent(SUBJECT, server.url("portal"), "L1", TIMES)


async def conforms(program: Program, desk: Desk, server: NatsServer, portal: Bus) -> None:
    """Let the example be checked, do an item, and be stopped."""
    ear = await Ear().on(portal)
    report = await checked(program, desk, server)
    assert report.conforms("L1"), report.table()
    assert report.reached == "L1"
    tried = {line.what for line in report.findings if line.verdict == "passed"}
    assert tried >= {"KPI sample", "ping", "presence", "presence body", "work", "result", "acknowledgement"}
    await put_work(portal, "w-test-000001", {"n": 7})
    await wait_until(lambda: any(body["work_id"] == "w-test-000001" for body in ear.bodies("result")))
    result = next(body for body in ear.bodies("result") if body["work_id"] == "w-test-000001")
    assert result["output"] == {"echo": {"n": 7}}
    assert result["agent"] == SUBJECT
    await queue_emptied(portal)
    said = await program.end()
    assert desk.goodbyes, said
    assert desk.goodbyes[0]["agent"] == SUBJECT


async def test_node_with_the_official_client(node_modules: Path, nats: NatsServer, portal: Bus, desk: Desk) -> None:
    await conforms(Program(["node", "agent.mjs"], node_modules, nats), desk, nats, portal)


async def test_python_with_the_sdk(nats: NatsServer, portal: Bus, desk: Desk) -> None:
    program = Program([sys.executable, "agent.py"], EXAMPLES / "python", nats)
    await conforms(program, desk, nats, portal)


async def test_a_plain_socket(nats: NatsServer, portal: Bus, desk: Desk) -> None:
    """With nothing but the standard library: `-I -S` shows it no installed package."""
    await conforms(Program([sys.executable, "-I", "-S", "agent.py"], EXAMPLES / "raw", nats), desk, nats, portal)


def test_the_python_example_has_twenty_lines() -> None:
    lines = (EXAMPLES / "python" / "agent.py").read_text().splitlines()
    assert sum(bool(line.strip()) for line in lines) <= 20
