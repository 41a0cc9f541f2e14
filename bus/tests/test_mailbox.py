"""The mailbox of agents: what is written to one of them is answered, or known to have expired."""

import asyncio
import json
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone
from nats.aio.msg import Msg

from bus import mailbox
from bus.mailbox import Letter, Succession
from bus.models import DirectedMessage
from bus.tests.test_process import start_bus, until, with_bus
from claytom_agent.agents import Agent, AgentGroup
from claytom_agent.client import Bus
from claytom_agent.inbox import Actions, Inbox
from claytom_agent.messages import Answer, EscalationResolve, WorkCancel, WorkItem
from claytom_agent.workers.sim import SimWorker
from tests.servers import SERVERS

ROLE = "org.claytom.pricing.operator"
State = DirectedMessage.State
pytestmark = pytest.mark.django_db(transaction=True)


def address(ordinal: int, generation: int = 1) -> str:
    return f"{ROLE}.op-{ordinal:04d}-g{generation}"


def letter(number: int = 1, *, to: str = "", seconds: float = 10, **changes: Any) -> Letter:
    work = f"w-test-{number:06d}"
    deadline = timezone.now() + timedelta(seconds=seconds)
    body = {"id": work, "kind": "price", "deadline": deadline.isoformat()}
    given = {"type": "work.offer", "body": body, "key": work, **changes}
    return Letter(address=to or address(31), unit_id=1, source="portal/test", deadline=deadline, **given)


def post(*letters: Letter) -> list[DirectedMessage]:
    with transaction.atomic():
        return mailbox.post(letters=letters)


def cancel(number: int, **changes: Any) -> Letter:
    body = {"id": f"w-test-{number:06d}"}
    return letter(number, **{"type": "work.cancel", "body": body, "key": f"cancel-{number}", **changes})


# --- writing -----------------------------------------------------------------------------------------------


def test_a_letter_is_written_once_and_stays_as_it_is() -> None:
    first = post(letter(1))[0]
    again = post(letter(1, to=address(32)))[0]
    assert (again.pk, again.address, again.state) == (first.pk, address(31), State.OPEN)


def test_a_letter_stands_or_falls_with_the_change_that_it_tells_of() -> None:
    with pytest.raises(RuntimeError, match=r"atomic\(\)"):
        mailbox.post(letters=[letter()])
    with transaction.atomic():
        mailbox.post(letters=[letter()])
        transaction.set_rollback(True)
    assert not DirectedMessage.objects.exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"type": "kpi.sample"}, "no message to"),
        ({"type": "work.unknown"}, "no message to"),
        ({"to": "org.claytom.pricing.operator.any"}, "no message to"),
        ({"to": "org.claytom.pricing.metrics.kpi"}, "no message to"),
        ({"body": {"id": "w-test-000001"}}, "missing required field"),
        ({"seconds": -1}, "leaves no time"),
        ({"body": {"id": "w-test-000001", "input": "x" * 262_144}}, "at most 262144"),
    ],
)
def test_what_cannot_be_delivered_is_refused_where_it_is_written(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        post(letter(**changes))


# --- the welcome, and the end of an agent ------------------------------------------------------------------


def test_the_welcome_repeats_what_is_open_and_no_more_than_fits() -> None:
    big = {"id": "w-test-000009", "kind": "price", "deadline": "2099-01-01T00:00:00Z", "input": "x" * 100_000}
    post(
        letter(1, epoch=7),
        letter(2, to=address(32)),
        letter(3, not_before=timezone.now() + timedelta(seconds=5)),
        *(letter(number, body=big) for number in (4, 5, 6)),
    )
    told = mailbox.open_mail(addresses=[address(31)])
    assert [one["id"] for one in told] == ["w-test-000001", "w-test-000004"]
    assert told[0]["epoch"] == 7
    assert told[0]["type"] == "org.claytom.work.offer.v1"
    assert sum(len(str(one)) for one in told) < 262_144
    assert mailbox.open_mail(addresses=[address(40)]) == []


def test_work_follows_the_seat_and_the_rest_ends_with_its_agent() -> None:
    decision = {"id": "e1", "decision": "go on"}
    post(
        letter(1),
        letter(2, epoch=5),
        letter(3, type="escalation.resolve", body=decision),
        letter(4, to=address(32)),
    )
    assert mailbox.succeed(successions=[Succession(address(31), address(31, 2))]) == (1, 2)
    rows = {row.key: (row.address, row.state, row.code) for row in DirectedMessage.objects.all()}
    assert rows == {
        "w-test-000001": (address(31, 2), "open", ""),
        "w-test-000002": (address(31), "withdrawn", "replaced"),
        "w-test-000003": (address(31), "withdrawn", "replaced"),
        "w-test-000004": (address(32), "open", ""),
    }


def test_what_is_settled_is_neither_withdrawn_nor_kept_for_ever() -> None:
    post(letter(1), letter(2))
    assert mailbox.withdraw(keys=["w-test-000001"], code="not-needed", reason="done elsewhere") == 1
    assert mailbox.withdraw(keys=["w-test-000001"], code="again") == 0
    assert mailbox.retain(settled_for=timedelta(days=1)) == 0
    DirectedMessage.objects.filter(state="withdrawn").update(settled_at=timezone.now() - timedelta(days=2))
    assert mailbox.retain(settled_for=timedelta(days=1)) == 1
    assert DirectedMessage.objects.get().key == "w-test-000002"


# --- delivery ----------------------------------------------------------------------------------------------


class Agents:
    """Agents on a connection of their own, as a host holds them; `done` counts what each message made them do."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.done: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.order: list[str] = []
        self.busy_for = 0
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._run()], daemon=True)
        group = AgentGroup("pricing", "operator", "op", SimWorker({}))
        self._agents = {address(n): Agent(n, group, 1, "run", "") for n in range(31, 71)}
        for agent in self._agents.values():
            agent.state = "idle"
        self._inbox = Inbox(5, Actions(self._offer, self._cancel, self._resolve))

    def __enter__(self) -> "Agents":
        self._thread.start()
        assert self._started.wait(15)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(10)

    async def _run(self) -> None:
        self._ended = asyncio.Event()
        bus = await Bus.connect(self._url, name="agents", timeout_s=15)

        async def take(message: Msg) -> None:
            headers = message.headers or {}
            self.asked[headers["ce-id"]] += 1
            agent = self._agents.get(message.subject)
            if agent is None:
                return  # somebody listens, nobody answers
            answer = self._inbox.take(agent, headers["ce-type"], message.data, headers)
            await bus.publish(message.reply, answer)

        await bus.subscribe(f"{ROLE}.*", take)
        await bus.flush()
        self._started.set()
        await self._ended.wait()
        await bus.close()

    def _offer(self, agent: Agent, item: WorkItem) -> Answer:
        if item.input == "too hard":
            return Answer("rejected", "skill", f"{agent.id} cannot")
        if self.busy_for:
            self.busy_for -= 1
            return Answer("rejected", "busy", "later", 0.1)
        self.done[item.id] += 1
        self.order.append(item.id)
        return Answer("accepted")

    def _cancel(self, agent: Agent, order: WorkCancel) -> Answer:
        self.done[f"cancel-{order.id}"] += 1
        self.order.append(f"cancel-{order.id}")
        return Answer("accepted")

    def _resolve(self, agent: Agent, decision: EscalationResolve) -> Answer:
        return Answer("accepted", "noted")


@pytest.fixture
def agents(nats_clean: str) -> Iterator[Agents]:
    with Agents(nats_clean) as found:
        yield found


def settled(number: int) -> DirectedMessage:
    def look() -> DirectedMessage | None:
        return DirectedMessage.objects.filter(key=f"w-test-{number:06d}").exclude(state="open").first()

    found = until(look)
    assert found is not None
    return found


@pytest.fixture
def bus_process(nats_clean: str) -> Iterator[subprocess.Popen[bytes]]:
    process = start_bus()
    probe = post(letter(999_999, to="org.claytom.tax.operator.op-0031-g1", seconds=60))[0]
    until(lambda: DirectedMessage.objects.get().attempts)
    probe.delete()
    yield process
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=15) == 0


def test_each_answer_is_written_down(agents: Agents, bus_process: subprocess.Popen[bytes]) -> None:
    hard = {"id": "w-test-000002", "kind": "price", "deadline": "2099-01-01T00:00:00Z", "input": "too hard"}
    agents.busy_for = 2
    post(
        letter(1),
        letter(2, body=hard, to=address(32)),
        letter(3, epoch=4, to=address(33)),
        letter(4, to=address(99), seconds=2),  # nobody answers there
        letter(5, to="org.claytom.tax.operator.op-0031-g1", seconds=2),  # nobody is there
        letter(6, type="training.enrol", to=address(34), body={
            "session": "t1", "module": "pricing-basics", "trainer": address(35), "due": "2099-01-01T00:00:00Z",
            "artefact": {"bucket": "b", "name": "n", "sha256": "0" * 64, "size": 1},
        }),
    )  # fmt: skip
    rows = [settled(number) for number in range(1, 7)]
    assert [(row.state, row.code) for row in rows] == [
        ("accepted", ""), ("rejected", "skill"), ("rejected", "stale"), ("expired", ""), ("expired", ""),
        ("rejected", "skill"),
    ]  # fmt: skip
    assert rows[0].attempts == 3  # twice it was busy
    assert rows[1].reason == "op-0032-g1 cannot"
    assert rows[4].error == "absent"
    assert "no answer" in rows[3].error
    for row in rows[3:5]:
        assert row.settled_at is not None
        assert timedelta() <= row.settled_at - row.deadline <= timedelta(seconds=5)
    assert agents.done == {"w-test-000001": 1}


def test_letters_to_an_agent_come_in_their_order_and_not_before_their_time(
    agents: Agents, bus_process: subprocess.Popen[bytes]
) -> None:
    agents.busy_for = 3
    post(*(letter(number) for number in range(1, 5)), cancel(4))
    until(lambda: agents.done["cancel-w-test-000004"])
    assert agents.order == [*(f"w-test-{number:06d}" for number in range(1, 5)), "cancel-w-test-000004"]
    soon = timezone.now() + timedelta(seconds=1.5)
    post(letter(7, not_before=soon), letter(8))
    row = settled(7)
    assert settled(8).settled_at < row.settled_at  # type: ignore[operator]
    assert row.settled_at is not None
    assert row.settled_at >= soon


def test_an_agent_that_comes_late_gets_its_mail(nats_clean: str, bus_process: subprocess.Popen[bytes]) -> None:
    post(letter(1, seconds=30))
    until(lambda: DirectedMessage.objects.get().error == "absent")
    with Agents(nats_clean) as agents:
        assert settled(1).state == "accepted"
        assert agents.done == {"w-test-000001": 1}


def test_only_rows_of_the_units_in_view_are_seen(nats_clean: str) -> None:
    post(letter(1))
    for setting, seen in (("2", 0), ("1", 1), ("", 0), ("*", 1)):
        with connection.cursor() as cursor:
            cursor.execute("select set_config('app.units', %s, false)", [setting])
        assert DirectedMessage.objects.count() == seen


# --- faults ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kills", "letters"), [(3, 400), pytest.param(50, 4000, marks=pytest.mark.full)], ids=["share", "full"]
)
def test_killed_processes_and_a_lost_server_leave_nothing_unknown_and_do_nothing_twice(
    agents: Agents, nats_url: str, kills: int, letters: int
) -> None:
    """Two processes deliver, one or the other is killed as soon as both are there, and NATS is away in between.

    Letters to agents that are there are done once and accepted; the others expire, each in its time.
    """
    seed = random.randrange(1_000_000)
    draw = random.Random(seed)
    patience = 20.0 + 8 * kills
    processes = [start_bus(), start_bus()]
    try:
        written = 0
        for kill in range(kills):
            until(lambda: delivering(nats_url) == 2, seconds=40)
            share = letters * (kill + 1) // kills - written
            numbers = range(written, written + share)
            post(*(some(draw, number, patience) for number in numbers))
            written += share
            time.sleep(draw.uniform(0.0, 0.5))
            victim = draw.randrange(2)
            processes[victim].kill()
            processes[victim].wait()
            processes[victim] = start_bus()
            if kill == kills // 2:
                restart_nats(away=2.0)
        until(lambda: not DirectedMessage.objects.filter(state="open").exists(), seconds=patience + 15)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    rows = list(DirectedMessage.objects.order_by("pk"))
    assert len(rows) == letters, f"seed {seed}"
    late = [row.key for row in rows if row.settled_at and row.settled_at > row.deadline + timedelta(seconds=5)]
    assert late == [], f"seed {seed}"
    there = {row.key for row in rows if row.address in REACHABLE}
    assert {row.key for row in rows if row.state == "accepted"} == there, f"seed {seed}"
    assert {row.key for row in rows if row.state == "expired"} == {row.key for row in rows} - there, f"seed {seed}"
    assert set(agents.done) == there, f"seed {seed}"
    assert set(agents.done.values()) == {1}, f"seed {seed}"
    assert sum(agents.asked.values()) >= letters * 0.8  # what was asked again was not done again


REACHABLE = {address(number) for number in range(31, 71)}


def some(draw: random.Random, number: int, patience: float) -> Letter:
    """A letter: four of five to agents that are there, the others to nobody, for a short time."""
    if draw.random() < 0.8:
        return letter(number, to=address(draw.randrange(31, 71)), seconds=patience)
    nobody = draw.choice([address(draw.randrange(80, 99)), f"org.claytom.tax.operator.op-{number + 1:04d}-g1"])
    return letter(number, to=nobody, seconds=draw.uniform(1.0, 6.0))


def delivering(url: str) -> int:
    """How many bus processes have their line to NATS."""

    async def ask(bus: Bus) -> int:
        reply = await bus.request("$SYS.REQ.ACCOUNT.PING.CONNZ", b"{}")
        connections = json.loads(reply.data)["data"]["connections"]
        return sum(one.get("name") == "portal:bus" for one in connections)

    return with_bus(url, ask)


def restart_nats(*, away: float) -> None:
    server = SERVERS.stack.servers["nats"]
    server.stop()
    time.sleep(away)
    server.start()
    server.wait_ready()
