"""The conformance check: a good agent passes, and each wrong one fails the line that is about its fault."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from claytom_agent.agent import Agent
from claytom_agent.check import CheckOptions, Level, Report, check_agent
from claytom_agent.client import Bus
from claytom_agent.tests.broken import FAULTS, SmallAgent
from claytom_agent.tests.conftest import (
    REPOSITORY,
    NatsServer,
    StartHost,
    make_streams,
    put_manifest,
    wait_until,
)
from claytom_agent.tests.single import SUBJECT, Desk, login, make_queue, queue_emptied
from claytom_agent.tests.test_agent import KPIS, Run, echo

QUICK = CheckOptions(kpi_s=1.0, presence_s=0.3, work_s=2.0, inbox_prefix="_INBOX")


@pytest_asyncio.fixture
async def desk(portal: Bus) -> Desk:
    await make_queue(portal)
    return await Desk(portal).open()


@pytest_asyncio.fixture
async def good(nats: NatsServer, desk: Desk) -> AsyncIterator[Run]:
    """An agent on the SDK."""
    run = Run(Agent(SUBJECT, echo, url=login(nats), measures=lambda: (KPIS, {})))
    await wait_until(lambda: run.agent.condition.state == "idle")
    yield run
    run.agent.stop()
    await asyncio.gather(run.task, return_exceptions=True)


async def check(nats: NatsServer, level: Level, *faults: str) -> Report:
    agent = await SmallAgent(login(nats), *faults).start()
    try:
        return await check_agent(SUBJECT, nats.url("portal"), level, QUICK)
    finally:
        await agent.stop()


def failed(report: Report) -> set[str]:
    return {line.what for line in report.findings if line.verdict == "failed"}


async def test_an_agent_on_the_sdk_is_a_managed_one(nats: NatsServer, portal: Bus, good: Run) -> None:
    report = await check_agent(SUBJECT, nats.url("portal"), "L3", QUICK)
    assert failed(report) == set(), report.table()
    assert report.reached == "L2"
    passed = {line.what for line in report.findings if line.verdict == "passed"}
    assert passed >= {"KPI sample", "ping", "presence", "presence body", "nonsense", "work", "result"}
    assert passed >= {"acknowledgement", "pause", "paused agent", "resume", "offer", "cancel"}
    await queue_emptied(portal)  # nothing is left behind
    await wait_until(lambda: good.agent.condition.state == "idle")


async def test_a_small_agent_written_from_the_protocol_passes(nats: NatsServer, desk: Desk) -> None:
    report = await check(nats, "L2")
    assert failed(report) == set(), report.table()
    assert "conforms to L2" in report.table()


LINES = {
    "no-pong": "ping",
    "wrong-pong": "ping",
    "late-presence": "presence",
    "no-presence": "presence",
    "presence-epoch": "presence body",
    "presence-source": "presence body",
    "no-hello": "hello",
    "kpi-source": "KPI sample",
    "kpi-extra": "KPI sample",
    "kpi-range": "KPI sample",
    "no-kpi": "KPI sample",
    "no-work": "work",
    "ack-first": "acknowledgement",
    "no-ack": "acknowledgement",
    "result-id": "result",
    "result-source": "result",
    "result-epoch": "result",
    "result-unacknowledged": "result",
    "dies-of-nonsense": "nonsense",
    "deaf-to-orders": "pause",
    "lies-about-pause": "pause",
    "works-while-paused": "paused agent",
    "rejects-cancel": "cancel",
}


@pytest.mark.parametrize("fault", LINES)
async def test_a_wrong_agent_fails_the_line_of_its_fault(nats: NatsServer, desk: Desk, fault: str) -> None:
    line = LINES[fault]
    managed = line in ("pause", "paused agent", "cancel")
    report = await check(nats, "L2" if managed else "L1", fault)
    assert line in failed(report), report.table()
    others = failed(report) - {line}
    allowed = {"nonsense": {"work", "acknowledgement", "result"}, "work": set()}.get(line, set())
    assert others <= allowed, report.table()
    remedies = [one.remedy for one in report.findings if one.verdict == "failed"]
    assert all(remedies)
    assert not report.conforms("L2" if managed else "L1")


def test_every_fault_has_its_line() -> None:
    assert set(FAULTS) == {*LINES, "hello-protocol", "slow"}


async def test_a_wrong_hello_is_seen_when_it_is_said_during_the_check(nats: NatsServer, desk: Desk) -> None:
    async def late() -> SmallAgent:
        await asyncio.sleep(0.6)
        await agent._hello()
        return agent

    agent = await SmallAgent(login(nats), "hello-protocol").start()
    again = asyncio.create_task(late())
    report = await check_agent(SUBJECT, nats.url("portal"), "L1", QUICK)
    await again
    await agent.stop()
    assert failed(report) == {"hello"}
    assert "claytom/0" in report.table()


async def test_nobody_at_the_address_is_said_at_once(nats: NatsServer, desk: Desk) -> None:
    report = await check_agent(SUBJECT, nats.url("portal"), "L1", QUICK)
    assert failed(report) == {"KPI sample", "ping"}
    assert "nobody has subscribed to the address" in report.table()
    assert report.reached is None


async def test_what_the_login_may_not_see_is_not_judged(tmp_path: Path) -> None:
    """The host user of a server with passwords sees what agents publish, and no acknowledgements."""
    server = NatsServer(tmp_path, passwords=True)
    server.start()
    try:
        portal = await Bus.connect(server.url("portal"), name="test", inbox_prefix="_INBOX", timeout_s=10)
        await make_streams(portal)
        await make_queue(portal)
        await Desk(portal).open()
        agent = await SmallAgent(server.url()).start()
        options = CheckOptions(kpi_s=1.0, presence_s=0.3, work_s=2.0)
        report = await check_agent(SUBJECT, server.url("host"), "L1", options)
        await agent.stop()
        await portal.close()
    finally:
        server.kill()
    assert failed(report) == set(), report.table()
    line = next(line for line in report.findings if line.what == "acknowledgement")
    assert line.verdict == "not applicable"
    assert "$JS.ACK" in line.why


async def test_a_faster_colleague_is_no_fault(nats: NatsServer, desk: Desk) -> None:
    """Agents of a role share the queue: the check goes on until the one that it checks has got an item."""
    other = SUBJECT.replace("0042", "0043")
    colleague = Run(Agent(other, echo, url=login(nats, other), capacity=20))
    agent = await SmallAgent(login(nats), "slow").start()
    report = await check_agent(SUBJECT, nats.url("portal"), "L1", QUICK)
    await agent.stop()
    colleague.agent.stop()
    assert await colleague.ended() is None
    assert failed(report) == set(), report.table()
    line = next(line for line in report.findings if line.what == "work")
    assert line.verdict == "not applicable"
    assert "other agents of the role" in line.why


async def test_a_hosted_agent_is_checked_with_its_host(
    nats: NatsServer, portal: Bus, start_host: StartHost
) -> None:
    await put_manifest(portal, "pricing.1")
    host = await start_host()
    await wait_until(lambda: host.status()["live"] == 5)
    report = await check_agent("org.claytom.pricing.director.di-0001-g1", nats.url("portal"), "L3", QUICK)
    verdicts = {line.what: line.verdict for line in report.findings}
    assert verdicts["ping"] == "passed"
    assert verdicts["lease"] == verdicts["manifest"] == verdicts["many agents"] == "passed"


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "claytom_agent", "check", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)


async def test_the_command_prints_a_table_and_ends_by_the_level(nats: NatsServer, good: Run) -> None:
    arguments = ("--kpi-interval", "1", "--presence-interval", "0.3", "--work-timeout", "2")
    result = await asyncio.to_thread(run, SUBJECT, "--nats", nats.url("portal"), "--inbox", "_INBOX", *arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "L1  acknowledgement" in result.stdout
    assert result.stdout.rstrip().endswith("conforms to L1 (agent)")
    other = SUBJECT.replace("0042", "0043")
    result = await asyncio.to_thread(run, other, "--nats", nats.url("portal"), "--inbox", "_INBOX", *arguments)
    assert result.returncode == 1
    assert "Remedy: subscribe to" in result.stdout
    result = await asyncio.to_thread(run, "org.claytom.corporate.c-suite.ceo", "--nats", nats.url("portal"))
    assert result.returncode == 2
    assert "only seats of subsidiaries are given out" in result.stderr
