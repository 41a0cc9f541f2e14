import asyncio
import json
import os
import signal
import stat
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from claytom_agent.client import Bus, NoAnswerError
from claytom_agent.host import Host, HostOptions
from claytom_agent.leases import LeaseTimes
from claytom_agent.lines import NoLineError
from claytom_agent.tests.conftest import (
    ORDER,
    NatsServer,
    Presences,
    StartHost,
    keys_of,
    make_streams,
    put_manifest,
    spawn_host,
    wait_until,
)

PING = {"ce-type": "org.claytom.agent.ping.v1"}


async def ask(portal: Bus, subject: str, kind: str = "agent.ping") -> Any:
    reply = await portal.request(
        f"org.claytom.{subject}", b"{}", headers={"ce-type": f"org.claytom.{kind}.v1"}, timeout_s=2.0
    )
    return json.loads(reply.data)


async def collect(portal: Bus, subject: str) -> list[Any]:
    found: list[Any] = []

    async def on_message(message: Any) -> None:
        found.append((message.subject, dict(message.headers or {}), json.loads(message.data)))

    await portal.subscribe(subject, on_message)
    return found


async def test_agents_answer_and_unknown_ones_do_not_exist(portal: Bus, start_host: StartHost) -> None:
    for key in keys_of("pricing"):
        await put_manifest(portal, key)
    host = await start_host()
    await wait_until(lambda: host.status()["live"] == 25)
    pong = await ask(portal, "pricing.operator.op-0035-g1")
    epoch = host.keeper.owned["pricing.2"].epoch
    assert pong == {
        "agent": "org.claytom.pricing.operator.op-0035-g1",
        "state": "idle",
        "epoch": epoch,
        "host": "h1",
    }
    for unknown in ("operator.op-0035-g2", "director.op-0035-g1", "operator.op-9999-g1"):
        assert await ask(portal, f"pricing.{unknown}") == {"error": "404 no-such-agent"}
    assert await ask(portal, "pricing.operator.op-0035-g1", "kpi.sample") == {"error": "400 unknown-type"}


async def test_a_division_of_another_host_is_met_with_silence(portal: Bus, start_host: StartHost) -> None:
    await put_manifest(portal, "pricing.1")
    await put_manifest(portal, "pricing.2")
    host = await start_host(capacity=1)
    await wait_until(lambda: host.status()["live"] == 5)
    held = next(iter(host.divisions))
    other = "op-0035-g1" if held == "pricing.1" else "op-0031-g1"
    with pytest.raises(NoAnswerError):
        await portal.request(f"org.claytom.pricing.operator.{other}", b"", headers=PING, timeout_s=0.3)


async def test_a_division_without_manifest_waits_for_it(portal: Bus, start_host: StartHost) -> None:
    host = await start_host()
    await asyncio.sleep(0.5)
    assert host.status()["divisions"] == 0
    await put_manifest(portal, "tax.1")
    await wait_until(lambda: host.status()["live"] == 5)


async def test_a_replacement_is_live_under_its_new_generation(portal: Bus, start_host: StartHost) -> None:
    await put_manifest(portal, "pricing.1")
    host = await start_host()
    presences = await Presences().follow(portal)
    await wait_until(lambda: host.status()["live"] == 5)
    await put_manifest(portal, "pricing.1", 3, generations={"31": 2})
    await wait_until(lambda: presences.last.get("pricing.1", {}).get("observed_generation") == 3)
    assert (await ask(portal, "pricing.operator.op-0031-g2"))["state"] == "idle"
    assert "error" in await ask(portal, "pricing.operator.op-0031-g1")
    listed = [entry[:2] for body in presences.all for entry in body["agents"]]
    assert ["op-0031-g1", "retired"] in listed
    await put_manifest(portal, "pricing.1", 2)
    body = b'{"division": "pricing.1", "generation": 2}'
    await portal.publish("org.claytom.pricing.command.sync", body, ORDER)
    await asyncio.sleep(0.4)
    assert host.divisions["pricing.1"].agents[31].generation == 2


async def test_seats_beyond_the_first_ones_come_and_go_with_the_manifest(
    portal: Bus, start_host: StartHost
) -> None:
    """A reserve is ordinary operators: their ordinals follow on those of the whole unit."""

    def seats(*ordinals: tuple[int, int]) -> list[dict[str, Any]]:
        return [
            {"role": "director", "code": "di", "ordinals": [[1, 1]]},
            {"role": "operator", "code": "op", "ordinals": [[31, 34], *ordinals]},
        ]

    await put_manifest(portal, "pricing.1", seats=seats((1501, 1501), (1506, 1506)))
    host = await start_host()
    presences = await Presences().follow(portal)
    await wait_until(lambda: host.status()["live"] == 7)
    assert (await ask(portal, "pricing.operator.op-1506-g1"))["state"] == "idle"
    await put_manifest(portal, "pricing.1", 2, seats=seats((1501, 1501)))
    await wait_until(lambda: presences.last.get("pricing.1", {}).get("observed_generation") == 2)
    assert await ask(portal, "pricing.operator.op-1506-g1") == {"error": "404 no-such-agent"}
    assert ["op-1506-g1", "retired"] in [entry[:2] for body in presences.all for entry in body["agents"]]
    reopened = {"1506": 2}
    await put_manifest(portal, "pricing.1", 3, seats=seats((1501, 1501), (1506, 1506)), generations=reopened)
    await wait_until(lambda: presences.last.get("pricing.1", {}).get("observed_generation") == 3)
    await wait_until(lambda: host.status()["live"] == 7)
    assert (await ask(portal, "pricing.operator.op-1506-g2"))["state"] == "idle"


async def test_two_hosts_share_the_divisions(portal: Bus, start_host: StartHost) -> None:
    for key in keys_of("pricing", "sales"):
        await put_manifest(portal, key)
    first, second = await asyncio.gather(start_host("h1"), start_host("h2"))
    await wait_until(lambda: len(first.divisions) + len(second.divisions) == 10)
    assert len(first.divisions) == len(second.divisions) == 5
    for host in (first, second):
        assert max(Counter(key.partition(".")[0] for key in host.divisions).values()) <= 3


async def test_a_host_that_joins_later_steals_nothing_and_gets_what_is_drained(
    portal: Bus, start_host: StartHost
) -> None:
    for key in keys_of("pricing"):
        await put_manifest(portal, key)
    first = await start_host("h1")
    await wait_until(lambda: len(first.divisions) == 5)
    second = await start_host("h2")
    await asyncio.sleep(1.5)
    assert len(second.divisions) == 0
    body = {"divisions": ["pricing.2", "pricing.4"], "host": "h1"}
    await portal.publish("org.claytom.pricing.command.drain", json.dumps(body).encode(), ORDER)
    await wait_until(lambda: set(second.divisions) == {"pricing.2", "pricing.4"})
    await asyncio.sleep(0.5)
    assert len(first.divisions) == 3


async def test_a_killed_host_is_replaced_within_the_time_to_live_under_higher_epochs(
    portal: Bus, nats: NatsServer, start_host: StartHost
) -> None:
    for key in keys_of("pricing"):
        await put_manifest(portal, key)
    presences = await Presences().follow(portal)
    process = spawn_host(nats, "h9")
    try:
        await wait_until(lambda: list(presences.holders().values()) == ["h9"] * 5, 20)
        before = presences.epochs()
        await start_host("h1")
        await asyncio.sleep(0.6)
        process.kill()
        took = await wait_until(lambda: set(presences.holders().values()) == {"h1"}, 10)
    finally:
        process.kill()
        process.wait()
    assert took <= 5.0
    after = presences.epochs()
    assert all(after[key] > before[key] for key in before)


async def test_a_restarted_host_takes_its_own_divisions_back_at_once(portal: Bus, nats: NatsServer) -> None:
    await put_manifest(portal, "pricing.1")
    presences = await Presences().follow(portal)
    first = spawn_host(nats, "h9")
    await wait_until(lambda: presences.holders() == {"pricing.1": "h9"}, 20)
    epoch = presences.epochs()["pricing.1"]
    first.kill()
    first.wait()
    second = spawn_host(nats, "h9")
    try:
        await wait_until(lambda: presences.epochs()["pricing.1"] > epoch, 10)
    finally:
        second.terminate()
        assert second.wait(6) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stopped_host_hands_over_fast_and_ends_well(
    portal: Bus, nats: NatsServer, start_host: StartHost, number: signal.Signals, tmp_path: Path
) -> None:
    for key in keys_of("pricing"):
        await put_manifest(portal, key)
    presences = await Presences().follow(portal)
    goodbyes = await collect(portal, "org.claytom.pricing.command.goodbye")
    status = tmp_path / "status.json"
    process = spawn_host(nats, "h9", "--status-file", str(status))
    await wait_until(lambda: list(presences.holders().values()) == ["h9"] * 5, 20)
    await wait_until(lambda: status.exists() and json.loads(status.read_text())["agents"] == 25)
    assert stat.S_IMODE(status.stat().st_mode) == 0o600
    await start_host("h1")
    await asyncio.sleep(0.6)
    process.send_signal(number)
    took = await wait_until(lambda: set(presences.holders().values()) == {"h1"}, 5)
    assert process.wait(5) == 0
    assert took < 2.5
    assert len(goodbyes) == 5


async def test_a_lease_is_given_back_also_while_its_renewal_is_under_way(
    portal: Bus, start_host: StartHost
) -> None:
    await put_manifest(portal, "pricing.1")
    host = await start_host("h1")
    await wait_until(lambda: "pricing.1" in host.keeper.owned)
    stored = await portal.kv_get("CT_LEASES", "pricing.1")
    assert stored is not None
    assert stored.value is not None
    await portal.kv_cas("CT_LEASES", "pricing.1", stored.value, last=stored.revision)  # its answer is not there yet
    await host.keeper.release(["pricing.1"], "drained", cool=True)
    left = await portal.kv_get("CT_LEASES", "pricing.1")
    assert left is None or left.value is None


async def test_a_paused_process_is_fenced_when_it_wakes(
    portal: Bus, nats: NatsServer, start_host: StartHost
) -> None:
    await put_manifest(portal, "pricing.1")
    presences = await Presences().follow(portal)
    process = spawn_host(nats, "h9")
    try:
        await wait_until(lambda: presences.holders() == {"pricing.1": "h9"}, 20)
        host = await start_host("h1")
        await asyncio.sleep(0.5)
        os.kill(process.pid, signal.SIGSTOP)
        await wait_until(lambda: "pricing.1" in host.divisions, 10)
        os.kill(process.pid, signal.SIGCONT)
        await asyncio.sleep(0.5)
        presences.all.clear()
        await asyncio.sleep(1.5)
        assert {body["host"] for body in presences.all} == {"h1"}
    finally:
        process.kill()
        process.wait()


async def test_a_process_that_stood_still_reads_its_answers_before_it_gives_up_a_division(
    portal: Bus, nats: NatsServer, start_host: StartHost, caplog: pytest.LogCaptureFixture
) -> None:
    """A renewal is under way when the process stops for so long that the one before it counts no more."""
    await put_manifest(portal, "pricing.1")
    host = await start_host()
    await wait_until(lambda: host.status()["live"] == 5)
    lease = host.keeper.owned["pricing.1"]
    before = lease.renewed_at
    await wait_until(lambda: lease.renewed_at > before)
    nats.signal(signal.SIGSTOP)
    due = lease.renew_due
    await wait_until(lambda: lease.renew_due > due)  # the next renewal is sent, and not answered
    await asyncio.sleep(0.05)
    nats.signal(signal.SIGCONT)
    time.sleep(host.keeper.times.fence - 0.5)  # noqa: ASYNC251 - nothing else runs in this process meanwhile
    await asyncio.sleep(0.5)
    assert host.keeper.owned["pricing.1"] is lease
    assert not lease.fenced
    warnings = [
        record for record in caplog.records if record.name == "claytom_agent.leases" and record.levelname != "INFO"
    ]
    assert [record.getMessage().partition(" for ")[0] for record in warnings] == ["this process stood still"]


async def test_a_short_restart_of_nats_keeps_the_epoch(nats: NatsServer, start_host: StartHost) -> None:
    portal = await Bus.connect(nats.url("portal"), name="test", inbox_prefix="_INBOX", timeout_s=10)
    await make_streams(portal, bucket_ttl_s=10)
    await put_manifest(portal, "pricing.1")
    host = await start_host()
    await wait_until(lambda: host.status()["live"] == 5)
    epoch = host.keeper.owned["pricing.1"].epoch
    nats.kill()
    await asyncio.sleep(1.0)
    nats.start()
    await wait_until(lambda: host.lines.connected and portal.connected)
    await asyncio.sleep(3.5)
    assert host.keeper.owned["pricing.1"].epoch == epoch
    assert (await ask(portal, "pricing.director.di-0001-g1"))["epoch"] == epoch
    await portal.close()


async def test_a_long_absence_of_nats_fences_and_comes_back_under_a_higher_epoch(
    portal: Bus, nats: NatsServer, start_host: StartHost
) -> None:
    await put_manifest(portal, "pricing.1")
    host = await start_host()
    await wait_until(lambda: host.status()["live"] == 5)
    lease = host.keeper.owned["pricing.1"]
    division = host.divisions["pricing.1"]
    last = lease.renewed_at
    nats.kill()
    await wait_until(lambda: not division.acting(), 5)
    assert time.monotonic() - max(last, lease.renewed_at) < host.keeper.times.ttl
    await wait_until(lambda: not host.divisions, 5)
    nats.start()
    await wait_until(lambda: "pricing.1" in host.keeper.owned, 10)
    assert host.keeper.owned["pricing.1"].epoch > lease.epoch
    await wait_until(lambda: host.status()["live"] == 5)


async def test_a_lease_taken_by_another_stops_the_division_at_once(portal: Bus, start_host: StartHost) -> None:
    await put_manifest(portal, "pricing.1")
    host = await start_host()
    await wait_until(lambda: host.status()["live"] == 5)
    value = b'{"host": "thief", "since": "now"}'
    await portal.kv_put("CT_LEASES", "pricing.1", value)
    assert await wait_until(lambda: not host.divisions) < 1.5
    assert host.keeper.conflicts == 1


async def test_injected_faults_need_chaos_and_end_in_failed_state_messages(
    portal: Bus, start_host: StartHost
) -> None:
    await put_manifest(portal, "pricing.1", operators=20)
    states = await collect(portal, "org.claytom.pricing.metrics.state")
    agent = "org.claytom.pricing.operator.op-0031-g1"
    order = json.dumps({"fail": [agent]}).encode()
    host = await start_host("h1", chaos=True)
    await wait_until(lambda: host.status()["live"] == 21)
    await portal.publish("org.claytom.pricing.command.config", order, ORDER)
    await wait_until(lambda: len(states) == 2)
    epoch = host.keeper.owned["pricing.1"].epoch
    assert [(b["agent"], b["from"], b["to"]) for _, _, b in states] == [
        (agent, "idle", "restarting"),
        (agent, "restarting", "failed"),
    ]
    assert [h["Claytom-Seq"] for _, h, _ in states] == [f"pricing.1.{epoch}.1", f"pricing.1.{epoch}.2"]
    assert states[0][1]["Nats-Msg-Id"] == f"st-op-0031-g1-{epoch}-1"
    assert states[0][1]["ce-source"] == agent
    await put_manifest(portal, "pricing.1", 2, operators=20, generations={"31": 2})
    await wait_until(lambda: host.status()["live"] == 21)


async def test_a_division_falls_silent_for_a_while_and_then_tells_everything(
    portal: Bus, start_host: StartHost
) -> None:
    settings = {"kpi_interval_s": 60, "presence_interval_s": 1, "presence_full_s": 60}
    await put_manifest(portal, "pricing.1", settings=settings)
    await put_manifest(portal, "pricing.2", settings=settings)
    told = await collect(portal, "org.claytom.pricing.metrics.presence")
    host = await start_host("h1", chaos=True)
    await wait_until(lambda: {b["division"] for _, _, b in told} == {"pricing.1", "pricing.2"})
    order = json.dumps({"silence_s": 2.5, "silence": ["pricing.1"]}).encode()
    await portal.publish("org.claytom.pricing.command.config", order, ORDER)
    await asyncio.sleep(0.3)
    before = len(told)
    await asyncio.sleep(1.8)
    assert {b["division"] for _, _, b in told[before:]} == {"pricing.2"}
    assert "pricing.1" in host.keeper.owned  # it has its lease, and goes on working
    before = len(told)
    await wait_until(lambda: any(b["division"] == "pricing.1" for _, _, b in told[before:]))
    first = next(b for _, _, b in told[before:] if b["division"] == "pricing.1")
    assert (first["full"], len(first["agents"])) == (True, 5)


async def test_new_agents_of_a_corrupt_version_fail_and_those_that_run_are_left_alone(
    portal: Bus, start_host: StartHost
) -> None:
    def seats(version: int) -> list[dict[str, Any]]:
        blueprint = {"name": "operator", "version": version}
        return [{"role": "operator", "code": "op", "ordinals": [[31, 34]], "blueprint": blueprint}]

    await put_manifest(portal, "pricing.1", seats=seats(2))
    states = await collect(portal, "org.claytom.pricing.metrics.state")
    host = await start_host("h1", chaos=True)
    await wait_until(lambda: host.status()["live"] == 4)

    async def corrupt(*versions: str) -> None:
        body = json.dumps({"corrupt": versions}).encode()
        await portal.publish("org.claytom.pricing.command.config", body, ORDER)

    await corrupt("operator/2", "director/2")
    await put_manifest(portal, "pricing.1", 2, seats=seats(2), generations={"31": 2})
    await wait_until(lambda: [b["to"] for _, _, b in states][-1:] == ["failed"])
    assert {b["agent"].rpartition(".")[2] for _, _, b in states} == {"op-0031-g2"}
    assert host.status()["live"] == 3
    await put_manifest(portal, "pricing.1", 3, seats=seats(3), generations={"31": 3, "32": 2})
    await wait_until(lambda: host.status()["live"] == 4)
    await corrupt()
    await put_manifest(portal, "pricing.1", 4, seats=seats(2), generations={"31": 4, "32": 2, "33": 2})
    await wait_until(lambda: host.status()["live"] == 4)


async def test_faults_are_not_injected_without_chaos(portal: Bus, start_host: StartHost) -> None:
    await put_manifest(portal, "pricing.1")
    host = await start_host()
    await wait_until(lambda: host.status()["live"] == 5)
    order = json.dumps({"fail": ["org.claytom.pricing.operator.op-0031-g1"], "silence_s": 60}).encode()
    await portal.publish("org.claytom.pricing.command.config", order, ORDER)
    await portal.publish("org.claytom.pricing.command.config", b"{not json", ORDER)
    await portal.publish("org.claytom.pricing.command.sync", b'{"division": 1}', ORDER)
    await asyncio.sleep(0.3)
    assert host.status()["live"] == 5


async def test_samples_are_numbered_without_gaps_and_named_by_their_round(
    portal: Bus, start_host: StartHost
) -> None:
    settings = {"kpi_interval_s": 1, "presence_interval_s": 5, "presence_full_s": 60}
    samples = await collect(portal, "org.claytom.*.metrics.kpi")
    await put_manifest(portal, "pricing.1", settings=settings)
    await put_manifest(portal, "corporate.c-suite", settings=settings)
    await start_host()
    await wait_until(lambda: len(samples) >= 21)
    per_division: dict[str, list[int]] = {}
    for _, headers, body in samples:
        division, number = headers["Claytom-Seq"].rsplit(".", 1)
        per_division.setdefault(division, []).append(int(number))
        assert set(body) == {"ts", "subsidiary", "role", "kpis", "okrs"}
    assert len(per_division) == 2
    for numbers in per_division.values():
        assert numbers == list(range(1, len(numbers) + 1))
    identities = [headers["Nats-Msg-Id"] for _, headers, _ in samples]
    assert len(set(identities)) == len(identities)
    assert {h["ce-source"] for _, h, b in samples if b["role"] == "c-suite"} == {
        "org.claytom.corporate.c-suite.ceo",
        "org.claytom.corporate.c-suite.coo",
    }


async def test_corporate_seats_answer_and_the_first_publishes_the_brief(portal: Bus, start_host: StartHost) -> None:
    briefs = await collect(portal, "org.claytom.corporate.broadcast.c-suite")
    await put_manifest(portal, "corporate.c-suite", generations={"coo": 2})
    host = await start_host()
    await wait_until(lambda: host.status()["live"] == 2 and briefs)
    _, headers, brief = briefs[0]
    assert headers["ce-source"] == "org.claytom.corporate.c-suite.ceo"
    assert (brief["seat"], brief["seats"], brief["counts"]) == ("ceo", 2, {"idle": 2})
    assert brief["duty"] == "publishes the daily brief"
    assert await ask(portal, "corporate.c-suite.coo", "duty.ask") == {
        "seat": "coo",
        "duty": "owns ARP",
        "body": "c-suite",
        "generation": 2,
    }
    assert (await ask(portal, "corporate.c-suite.ceo"))["state"] == "idle"
    assert await ask(portal, "corporate.c-suite.cfo") == {"error": "404 no-such-agent"}


async def test_full_presence_comes_at_acquisition_and_when_asked_and_deltas_between(
    portal: Bus, start_host: StartHost
) -> None:
    presences = await Presences().follow(portal)
    settings = {"presence_interval_s": 0.2, "presence_full_s": 60, "kpi_interval_s": 3600}
    await put_manifest(portal, "pricing.1", settings=settings)
    await start_host()
    await wait_until(lambda: len(presences.all) >= 5)
    assert presences.all[0]["full"] or presences.all[1]["full"]
    assert any(not body["full"] and body["agents"] == [] for body in presences.all)
    presences.all.clear()
    await portal.publish("org.claytom.pricing.command.report", b'{"divisions": ["pricing.1"]}', ORDER)
    await wait_until(lambda: any(body["full"] for body in presences.all), 2)
    full = next(body for body in presences.all if body["full"])
    assert full["total"] == len(full["agents"]) == 5
    assert full["counts"]["idle"] == 5


async def test_what_a_full_presence_tells_is_not_told_again_and_comes_before_hello(
    portal: Bus, start_host: StartHost
) -> None:
    presences = await Presences().follow(portal)
    told_before_hello: list[int] = []

    async def note(_: Any) -> None:
        told_before_hello.append(len(presences.all))

    await portal.subscribe("org.claytom.pricing.command.hello", note)
    settings = {"presence_interval_s": 60, "presence_full_s": 60, "kpi_interval_s": 3600}
    await put_manifest(portal, "pricing.1", settings=settings)
    await start_host()
    await wait_until(lambda: told_before_hello)
    await asyncio.sleep(0.5)  # ten times the pause before a change is told
    assert [body["full"] for body in presences.all] == [True]
    assert told_before_hello[0] == 1


async def test_hello_is_repeated_until_welcomed_and_its_terms_apply(portal: Bus, start_host: StartHost) -> None:
    await put_manifest(portal, "pricing.1")
    host = await start_host()
    await wait_until(lambda: host.status()["live"] == 5)
    asked: list[Any] = []

    async def answer(message: Any) -> None:
        asked.append(json.loads(message.data))
        first = {"code": "busy", "retry_after_s": 0.1}
        terms = {"epoch": 1, "manifest_generation": 1, "kpi_interval_s": 7, "presence_interval_s": 2}
        await portal.publish(message.reply, json.dumps(first if len(asked) == 1 else terms).encode())

    await portal.subscribe("org.claytom.pricing.command.hello", answer)
    await wait_until(lambda: host.divisions["pricing.1"].settings.kpi_interval_s == 7)
    assert len(asked) == 2
    assert asked[0]["protocol"] == "claytom/1"
    assert asked[0]["shard"] == {"division": "pricing.1", "agents": 5}


PAUSED_OPERATORS = [
    {"role": "director", "code": "di", "ordinals": [[1, 1]]},
    {"role": "operator", "code": "op", "ordinals": [[31, 34]], "desired": "paused"},
]


async def test_a_role_is_paused_and_resumed_by_the_manifest_and_presence_says_so(
    portal: Bus, start_host: StartHost
) -> None:
    seen = await Presences().follow(portal)
    await put_manifest(portal, "pricing.1")
    host = await start_host()
    await wait_until(lambda: host.status()["live"] == 5)
    await put_manifest(portal, "pricing.1", 2, seats=PAUSED_OPERATORS, desired={"32": "run"})
    took = await wait_until(lambda: _told(seen)["paused"] == 3)
    assert took < 2
    assert seen.last["pricing.1"]["observed_generation"] == 2
    before = len(seen.all)
    await put_manifest(portal, "pricing.1", 3)
    await wait_until(lambda: _told(seen)["paused"] == 0)
    states = {state for body in seen.all[before:] for _, state, *_ in body["agents"]}
    assert states <= {"idle", "paused"}  # no agent was lost in between
    assert host.status()["live"] == 5


def _told(seen: Presences) -> dict[str, int]:
    counts: dict[str, int] = seen.last["pricing.1"]["counts"]
    return counts


async def test_a_late_or_repeated_hint_changes_nothing(portal: Bus, start_host: StartHost) -> None:
    await put_manifest(portal, "pricing.1")
    host = await start_host()
    await wait_until(lambda: host.status()["live"] == 5)
    roster = host.divisions["pricing.1"].roster
    await put_manifest(portal, "pricing.1", 2, seats=PAUSED_OPERATORS)
    await wait_until(lambda: roster.counts()["paused"] == 4)
    for body in (b"{}", b'{"divisions": ["pricing.1"]}'):
        await portal.publish("org.claytom.pricing.command.resume", body, ORDER)
    await put_manifest(portal, "pricing.1", 1)
    await asyncio.sleep(0.5)
    assert roster.counts()["paused"] == 4


async def test_a_host_that_takes_over_keeps_paused_what_was_paused(portal: Bus, start_host: StartHost) -> None:
    await put_manifest(portal, "pricing.1", 2, seats=PAUSED_OPERATORS)
    first = await start_host("h1")
    await wait_until(lambda: first.status()["live"] == 5)
    first.stop()
    second = await start_host("h2")
    await wait_until(lambda: second.status()["live"] == 5)
    roster = second.divisions["pricing.1"].roster
    assert roster.counts()["paused"] == 4
    await put_manifest(portal, "pricing.1", 3)
    await wait_until(lambda: roster.counts()["idle"] == 5)  # they run here for the first time


async def test_a_manifest_that_a_host_cannot_run_is_refused_with_the_reason(
    portal: Bus, start_host: StartHost
) -> None:
    seen = await Presences().follow(portal)
    await put_manifest(portal, "pricing.1")
    host = await start_host()
    await wait_until(lambda: host.status()["live"] == 5)
    await put_manifest(portal, "pricing.1", 2, desired={"31": "frozen"})
    await wait_until(lambda: seen.last["pricing.1"].get("refused"))
    refused = seen.last["pricing.1"]["refused"]
    assert refused["generation"] == 2
    assert "frozen" in refused["reason"]
    assert seen.last["pricing.1"]["observed_generation"] == 1
    await put_manifest(portal, "pricing.1", 3)
    await wait_until(lambda: seen.last["pricing.1"]["observed_generation"] == 3)
    await wait_until(lambda: seen.last["pricing.1"].get("refused") is None)
    assert seen.last["pricing.1"].get("refused") is None


async def tell(portal: Bus, verb: str, agent: str = "op-0031-g1", **body: Any) -> dict[str, Any]:
    subject = f"org.claytom.pricing.operator.{agent}"
    headers = {"ce-type": f"org.claytom.agent.{verb}.v1", "ce-source": "portal/test"}
    reply = await portal.request(subject, json.dumps(body).encode(), headers=headers)
    answer: dict[str, Any] = json.loads(reply.data)
    return answer


async def test_one_agent_answers_at_its_address_and_the_manifest_stays_the_truth(
    portal: Bus, start_host: StartHost
) -> None:
    await put_manifest(portal, "pricing.1", 5)
    host = await start_host()
    await wait_until(lambda: host.status()["live"] == 5)
    division = host.divisions["pricing.1"]
    roster = division.roster

    def state() -> str:
        return roster.agents[31].state

    answer = await tell(portal, "pause", generation=4)
    assert (answer["status"], answer["code"]) == ("rejected", "superseded")
    assert (await tell(portal, "pause", generation=5))["code"] == "manifest"
    assert state() == "idle"
    for _ in range(2):
        answer = await tell(portal, "pause", generation=6)
        assert answer["status"] == "accepted"
        assert state() == "paused"
    assert (await tell(portal, "resume", generation=5))["code"] == "manifest"
    assert state() == "paused"
    await put_manifest(portal, "pricing.1", 6, desired={"31": "paused"})
    await wait_until(lambda: division.manifest is not None and division.manifest.generation == 6)
    assert state() == "paused"
    assert (await tell(portal, "resume", generation=7))["status"] == "accepted"
    assert state() == "idle"
    assert (await tell(portal, "drain", generation=8))["code"] == "shared-host"
    assert (await tell(portal, "retire", generation=8))["status"] == "accepted"
    assert 31 not in roster.agents
    assert "no-such-agent" in (await tell(portal, "pause", generation=9))["error"]
    assert "400" in (await tell(portal, "pause", "op-0032-g1", generation="x"))["error"]


async def test_a_repeated_drain_does_not_hand_over_what_has_come_back(portal: Bus, start_host: StartHost) -> None:
    await put_manifest(portal, "pricing.1")
    host = await start_host("h1", lease_times=LeaseTimes(settle=0.4, grace=0.6, claim_delay=0.05, cool=0.2))
    await wait_until(lambda: host.status()["live"] == 5)
    epoch = host.divisions["pricing.1"].lease.epoch
    drain = json.dumps({"divisions": ["pricing.1"], "epochs": {"pricing.1": epoch}}).encode()
    await portal.publish("org.claytom.pricing.command.drain", drain, ORDER)
    await wait_until(lambda: "pricing.1" in host.divisions and host.divisions["pricing.1"].lease.epoch > epoch)
    second = host.divisions["pricing.1"].lease.epoch
    await portal.publish("org.claytom.pricing.command.drain", drain, ORDER)
    await asyncio.sleep(0.5)
    assert host.divisions["pricing.1"].lease.epoch == second


async def test_a_manifest_that_disappears_gives_the_division_up(portal: Bus, start_host: StartHost) -> None:
    await put_manifest(portal, "pricing.1")
    host = await start_host()
    await wait_until(lambda: host.status()["live"] == 5)
    await portal.kv_delete("CT_SEATS", "pricing.1")
    await wait_until(lambda: not host.divisions)


async def test_a_host_has_a_few_tasks_a_division_and_none_an_agent(portal: Bus, start_host: StartHost) -> None:
    await put_manifest(portal, "pricing.1", operators=10)
    host = await start_host()
    await wait_until(lambda: host.status()["live"] == 11)
    few = len(asyncio.all_tasks())
    await put_manifest(portal, "pricing.1", 2, operators=3000)
    await wait_until(lambda: host.status()["live"] == 3001)
    assert len(asyncio.all_tasks()) <= few + 2


async def test_a_server_with_passwords_has_one_line_for_all_units(nats_with_passwords: NatsServer) -> None:
    bus = await Bus.connect(nats_with_passwords.url("portal"), name="test", inbox_prefix="_INBOX", timeout_s=20)
    await make_streams(bus)
    await put_manifest(bus, "pricing.1")
    await put_manifest(bus, "corporate.c-suite")
    host = Host(HostOptions(url=nats_with_passwords.url(), id="h1"))
    run = asyncio.create_task(host.run())
    try:
        await wait_until(lambda: hasattr(host, "keeper") and host.status()["live"] == 7, 30)
        assert host.lines.of("pricing") is host.lines.of("corporate") is host.lines.host
        assert (await ask(bus, "pricing.director.di-0001-g1"))["state"] == "idle"
    finally:
        host.stop()
        await run
        await bus.close()


async def test_each_unit_has_a_line_of_its_own(portal: Bus, start_host: StartHost) -> None:
    host = await start_host()
    names = {host.lines.of(unit)._client.options["name"] for unit in ("pricing", "sales", "corporate")}
    assert names == {"unit:h1:pricing", "unit:h1:sales", "unit:h1:corporate"}
    with pytest.raises(NoLineError, match="no credential for nowhere"):
        host.lines.of("nowhere")
