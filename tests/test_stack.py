"""The whole holding, started as a user starts it: 52,550 agents, faults, and nothing left behind."""

import json
import random
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from urllib.error import HTTPError
from urllib.request import urlopen

import psutil
import pytest

from tests.stack import ROOT, RunningHolding, turn

pytestmark = pytest.mark.stack
TOTAL = 52_550
PAUSED: list[str] = []
"""What hosts said of paused divisions while the holding started: later, tests kill NATS, and a pause is right."""


@pytest.fixture(scope="module")
def holding() -> Iterator[RunningHolding]:
    with turn(alone=True), RunningHolding(hosts=2) as running:
        PAUSED[:] = _logged(running, "no renewal of")
        yield running


def test_every_agent_is_live_and_the_overview_says_so(holding: RunningHolding) -> None:
    overview = holding.get("/api/v1/overview/")
    assert (overview["live"], overview["seats"], overview["below_floor"]) == (TOTAL, TOTAL, 0)
    assert len(overview["units"]) == 36


def test_ready_json_tells_only_its_owner_how_to_sign_in(holding: RunningHolding) -> None:
    for name in ("ready.json", "env", "secrets.json"):
        assert stat.S_IMODE((holding.data / name).stat().st_mode) == 0o600
    ready = holding.ready
    assert set(ready["sign_in"]) == {"username", "password"}
    assert {"web", "live", "worker", "beat", "bus", "ingest", "host-1", "host-2"} <= set(ready["processes"])
    assert all(psutil.pid_exists(pid) for pid in ready["processes"].values())


def test_the_api_is_closed_without_a_token(holding: RunningHolding) -> None:
    with pytest.raises(HTTPError) as refusal:
        urlopen(holding.ready["url"] + "/api/v1/overview/", timeout=10)  # noqa: S310 - our own address
    assert refusal.value.code == 401


def test_a_second_start_on_the_same_data_is_refused(holding: RunningHolding) -> None:
    second = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "up", "--data-dir", str(holding.data)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert second.returncode != 0
    assert holding.process is not None
    assert str(holding.process.pid) in second.stdout + second.stderr
    assert "Traceback" not in second.stdout + second.stderr


def test_each_agent_answers_for_itself_and_only_once(holding: RunningHolding) -> None:
    subjects = holding.agents()
    assert len(subjects) == TOTAL
    asked = random.Random(7).sample(subjects, 2000) + [s for s in subjects if ".corporate." in s]
    answers = holding.answers(list(dict.fromkeys(asked)))
    assert set(answers.values()) == {1}
    assert len(answers) == len(set(asked))


def test_kpi_samples_arrive_and_are_summed(holding: RunningHolding) -> None:
    holding.until(lambda: holding.samples()[1] > 30_000, seconds=90, step=1)
    rows, summed = holding.rows(
        "select (select count(*) from performance_kpisample where not stale),"
        " (select sum(n) from performance_kpiminute)"
    )[0]
    assert abs(rows - summed) < 20_000  # two reads while samples come in
    assert holding.value("select count(*) from bus_quarantinedmessage") == 0


def test_two_hundred_failed_agents_are_replaced_within_thirty_seconds(holding: RunningHolding) -> None:
    at = holding.value("select now()")
    failed = holding.fail("pricing", 200)
    restored = "select count(live_at) from replacement_replacement where decided_at > %s"
    assert holding.until(lambda: holding.value(restored, at) == 200, seconds=30) < 30
    by_role = dict(
        holding.rows(
            "select role, sum(live) from replacement_census c join holding_unit u on u.id = c.unit_id"
            " where u.slug = 'pricing' group by role"
        )
    )
    assert by_role == {"director": 5, "coordinator": 10, "specialist": 10, "innovator": 5, "operator": 1470}
    recorded = "select count(*) from audit_ledgerentry where action = 'seat.appoint' and at > %s"
    assert holding.value(recorded, at) == 200
    successors = [_successor(subject) for subject in failed]
    assert set(holding.answers(successors).values()) == {1}
    assert holding.answers(failed) == {}
    result = holding.manage("verify_ledger", "--json")
    assert json.loads(result.stdout)["ok"], result.stdout + result.stderr


def test_no_process_is_refused_what_it_asks_the_bus_for(holding: RunningHolding) -> None:
    assert _logged(holding, "permissions violation") == []


def test_no_division_is_paused_because_others_start(holding: RunningHolding) -> None:
    assert PAUSED == []


def _logged(holding: RunningHolding, words: str) -> list[str]:
    return [
        f"{log.name}: {line}"
        for log in (holding.data / "logs").glob("*.log")
        for line in log.read_text(errors="replace").splitlines()
        if words in line.lower()
    ]


def _successor(subject: str) -> str:
    name, _, generation = subject.rpartition("-g")
    return f"{name}-g{int(generation) + 1}"


def test_a_dead_host_is_relocated_and_nobody_is_replaced(holding: RunningHolding) -> None:
    before = holding.value("select count(*) from replacement_replacement")
    host = holding.value("select host from replacement_divisionstate group by host order by count(*) desc limit 1")
    divisions = [
        division
        for (division,) in holding.rows("select division_id from replacement_divisionstate where host = %s", host)
    ]
    assert len(divisions) > 50
    # What the dead host said last may be on its way yet: only a later epoch is another host's.
    epoch = holding.value("select max(epoch) from replacement_divisionstate")
    holding.kill(host)
    back = "select count(*) from replacement_divisionstate where division_id = any(%s) and epoch > %s"
    seconds = holding.until(
        lambda: holding.value(f"{back} and full_at is not null", divisions, epoch) == len(divisions),
        seconds=15,
    )
    assert seconds <= 10
    assert holding.live() == TOTAL
    assert holding.duplicates() == 0
    assert holding.value("select count(*) from replacement_replacement") == before
    answers = holding.answers(holding.agents())  # every one: the index in the database cannot see a zombie
    assert len(answers) == TOTAL
    assert set(answers.values()) == {1}


@pytest.mark.parametrize("server", ["nats", "postgresql", "redis"])
def test_a_server_killed_under_load_comes_back_and_loses_nothing(holding: RunningHolding, server: str) -> None:
    holding.kill(server)
    time.sleep(3)
    holding.until(lambda: _answers(holding), seconds=60, step=0.5)
    at = holding.value("select now()")
    holding.until(
        lambda: holding.value("select min(seen_at) > %s from replacement_divisionstate", at), seconds=60, step=0.5
    )
    holding.until(lambda: holding.live() == TOTAL, seconds=60, step=0.5)
    holding.until(lambda: _all_stored(holding), seconds=90, step=1)
    assert holding.duplicates() == 0


def test_processes_that_die_are_started_again(holding: RunningHolding) -> None:
    killed = {name: holding.kill(name) for name in ("ingest", "bus", "worker", "beat", "web", "live")}
    holding.until(
        lambda: all(
            holding.ready["processes"][name] != pid and psutil.pid_exists(holding.ready["processes"][name])
            for name, pid in killed.items()
        ),
        seconds=60,
        step=0.5,
    )
    holding.until(lambda: _answers(holding), seconds=60, step=0.5)
    holding.until(lambda: holding.live() == TOTAL, seconds=60, step=0.5)
    holding.until(lambda: _all_stored(holding), seconds=90, step=1)


def test_it_stops_without_a_trace_and_starts_again_as_it_was(holding: RunningHolding) -> None:
    processes = [psutil.Process(pid) for pid in holding.ready["processes"].values() if psutil.pid_exists(pid)]
    family = {child for process in processes for child in [process, *process.children(recursive=True)]}
    generations = holding.value("select sum(generation) from holding_seat")
    assert holding.stop() <= 10
    assert [process for process in family if process.is_running() and process.status() != "zombie"] == []
    assert not (holding.data / "ready.json").exists()
    holding.start()
    assert holding.get("/api/v1/overview/")["live"] == TOTAL
    assert holding.value("select sum(generation) from holding_seat") == generations


def _answers(holding: RunningHolding) -> bool:
    try:
        return int(holding.get("/api/v1/overview/")["seats"]) == TOTAL
    except OSError:  # refused, or 503 while a server is away
        return False


def _all_stored(holding: RunningHolding) -> bool:
    """Whether what JetStream acknowledged by now is in the database soon after."""
    acknowledged, _ = holding.samples()
    time.sleep(2)
    return holding.samples()[1] >= acknowledged
