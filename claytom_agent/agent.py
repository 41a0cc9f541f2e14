"""An agent with a connection of its own: it says hello, is seen, answers, works, obeys, and says goodbye.

    async def work(item: Item, ctx: Context) -> Output:
        return Output(result={"echo": item.input})

    agent = Agent("org.claytom.pricing.operator.op-0042-g2", work, url="nats://…")
    agent.main()

It stops by itself when the portal says that its time is over: when its seat has another agent (`FencedError`),
when it was told to retire or to drain, when its credentials are refused.
"""

import asyncio
import contextlib
import logging
import random
import signal
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from nats.aio.msg import Msg

from claytom_agent import __version__, enrolment, kpi
from claytom_agent.client import Bus, Disconnected, Outgoing, iso
from claytom_agent.identity import Condition, Identity
from claytom_agent.login import split_url
from claytom_agent.messages import PROTOCOL, Order, Refused, Welcome, WorkCancel, WorkItem, ce_type, decode, encode
from claytom_agent.pulling import FAULTS, Puller, Work
from claytom_agent.subjects import ROOT, command, metrics
from claytom_agent.workers.base import Worker

log = logging.getLogger("claytom_agent.agent")

HELLO_WAITS: Final = (1.0, 60.0)
PRESENCE_S: Final = 5.0
KPI_S: Final = 60.0
SILENCE_S: Final = 15.0
"""Who was not heard of for so long may have been succeeded: it asks before it speaks again."""
FINAL_REFUSALS: Final = frozenset({"fenced", "not-enrolled", "protocol"})
DEFAULT_INBOX: Final = "_INBOX_host"
Measures = Callable[[], tuple[Mapping[str, float], Mapping[str, str | float]] | None]
"""Returns the agent's claim of its measures: the five KPIs and the OKRs of the standard JSON; None for nothing."""
Directed = Callable[[str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Answers a directed message: gets its name in the registry and its body, returns the answer's body."""


class FencedError(RuntimeError):
    """The portal does not let this agent speak any more; the text says why."""


@dataclass(slots=True)
class Terms:
    """What the welcome says: intervals in seconds, the seat, the version of the blueprint."""

    kpi_interval_s: float = KPI_S
    presence_interval_s: float = PRESENCE_S
    seat: str = ""
    blueprint_rev: int = 0


class Agent:
    """One agent. `run()` until `stop()`, a retirement, or the end of its right to speak."""

    def __init__(
        self,
        subject: str,
        work: Worker | Work,
        *,
        url: str,
        measures: Measures | None = None,
        name: str = "agent",
        version: str = "1",
        skills: tuple[str, ...] = (),
        capacity: int = 1,
        inbox_prefix: str = DEFAULT_INBOX,
        portal: str = "",
    ) -> None:
        """Take the address (see `Identity.of`), what does the work, and the server's URL.

        The URL names a credential file (`?creds=`), or carries user and password. With the address of the `portal`
        the login in that file is renewed at half of its life.
        """
        self.identity = Identity.of(subject)
        self.condition = Condition()
        self.terms = Terms()
        self._work: Work = work if callable(work) else work.run
        self._url = url
        self._measures = measures
        self._card = {"id": self.identity.id, "role": self.identity.role, "name": name, "version": version}
        self._skills = list(skills)
        self._capacity = capacity
        self._inbox_prefix = inbox_prefix
        self._portal = portal
        self._directed: dict[str, Directed] = {}
        self._stopping = asyncio.Event()
        self._doubt = asyncio.Event()
        self._told = asyncio.Event()
        self._reason = "stopped"
        self._samples: deque[Outgoing] = deque(maxlen=10_000)
        self._presences = 0
        self._spoke = 0.0
        self._began = self._tick = time.monotonic()
        self._bus: Bus
        self._puller: Puller

    @property
    def per_day(self) -> float:
        """Items finished a day, as counted since the start (of an hour at least: the first is no miracle)."""
        return self.condition.done * 86_400.0 / max(3600.0, time.monotonic() - self._began)

    @property
    def completed_pct(self) -> float:
        """Share of the finished items that were completed, in percent; 100 before the first."""
        return 100.0 * self.condition.completed / self.condition.done if self.condition.done else 100.0

    @property
    def in_time_pct(self) -> float:
        """Share of the finished items that were in time, in percent; 100 before the first."""
        return 100.0 * self.condition.in_time / self.condition.done if self.condition.done else 100.0

    def stop(self, reason: str = "stopped") -> None:
        """Ask the agent to give back its work, say goodbye and end; safe in a signal handler of the loop."""
        self._reason = reason
        self._stopping.set()

    def on(self, name: str, answer: Directed) -> None:
        """Let `answer` take a directed message, such as `training.enrol` or `escalation.resolve`."""
        self._directed[ce_type(name)] = lambda _kind, body: answer(name, body)

    # -- the run --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until the end; raise `LoginRefusedError`, or `FencedError` when the portal ends it."""
        identity = self.identity
        self._bus = await Bus.connect(self._url, name=f"agent:{identity.id}", inbox_prefix=self._inbox_prefix)
        self._bus.on_reconnect.append(self._doubt.set)
        self._puller = Puller(
            self._bus, identity, self.condition, self._work, self._told.set, capacity=self._capacity
        )
        await self._bus.subscribe(identity.subject, self._on_address)
        await self._bus.subscribe(f"{ROOT}.{identity.unit}.{identity.role}.all", self._on_order)
        work = asyncio.get_running_loop().create_task(self._live())
        ends = [asyncio.ensure_future(self._stopping.wait()), asyncio.ensure_future(self._bus.closed.wait())]
        try:
            await asyncio.wait({work, *ends}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                raise _cause(work.exception())
            if self._bus.closed.is_set():
                raise FencedError("NATS closed the connection and refuses a new one: the credentials count no more")
        finally:
            await self._shut_down(work)
            for end in ends:
                end.cancel()

    def main(self) -> None:
        """Run as the program's only purpose, until SIGTERM or Ctrl-C; raises as `run`."""

        async def guarded() -> None:
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self.stop)
            await self.run()

        asyncio.run(guarded())

    async def _live(self) -> None:
        await self._hello()
        self.condition.settle()
        log.info("%s is welcome under epoch %d", self.identity.subject, self.identity.epoch)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._presence())
            group.create_task(self._kpis())
            group.create_task(self._puller.run())
            group.create_task(self._ask_again())
            _, path = split_url(self._url)
            if self._portal and path is not None:
                group.create_task(enrolment.keep(self._portal, path))

    async def _shut_down(self, work: "asyncio.Task[None]") -> None:
        if self.condition.draining:
            await self._puller.finish()
        work.cancel()
        await asyncio.wait({work}, timeout=1.0)
        await self._puller.abandon()
        self.condition.state = "retired"
        with contextlib.suppress(*FAULTS):
            await self._publish_presence()
            await self._goodbye()
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._bus.close(), 1.0)

    # -- hello and goodbye ----------------------------------------------------------------------------------

    async def _hello(self) -> None:
        """Ask for terms until welcomed; raise `FencedError` for a refusal that asking again does not change."""
        wait, ceiling = HELLO_WAITS
        while True:
            retry = await self._ask()
            if retry is None:
                return
            await asyncio.sleep(retry or wait * random.uniform(0.5, 1.0))
            wait = min(wait * 2, ceiling)

    async def _ask(self) -> float | None:
        """Say hello; return None when welcomed, else the seconds that the portal asks to wait (0: no answer)."""
        identity = self.identity
        body = {
            "protocol": PROTOCOL,
            "agent": self._card,
            "skills": self._skills,
            "worker": {"kind": "callable", "lang": "python", "sdk": f"claytom_agent/{__version__}"},
            "capacity": self._capacity,
            "resume": {"last_epoch": identity.epoch},
        }
        headers = identity.headers("agent.hello", f"hello-{identity.id}-{iso()}", dedup=False)
        try:
            reply = await self._bus.request(command(identity.unit, "hello"), encode(body), headers=headers)
        except FAULTS as error:
            log.info("no answer to hello: %s", error)
            return 0.0
        return self._heed(reply.data)

    def _heed(self, data: bytes) -> float | None:
        try:
            welcome = decode(Welcome, data)
        except msgspec.DecodeError:
            return self._refused(data)
        self.identity.epoch = welcome.epoch
        terms = self.terms
        if not isinstance(welcome.kpi_interval_s, msgspec.UnsetType):
            terms.kpi_interval_s = welcome.kpi_interval_s
        if not isinstance(welcome.presence_interval_s, msgspec.UnsetType):
            terms.presence_interval_s = welcome.presence_interval_s
        terms.seat, terms.blueprint_rev = welcome.seat, welcome.blueprint_rev
        self._spoke = time.monotonic()
        for message in welcome.open:
            task = asyncio.get_running_loop().create_task(self._answer(message.type, encode(message.body)))
            task.add_done_callback(lambda done: done.exception())
        return None

    def _refused(self, data: bytes) -> float:
        try:
            refused = decode(Refused, data)
        except msgspec.DecodeError:
            log.warning("the answer to hello is not understood")
            return HELLO_WAITS[1]
        if refused.code in FINAL_REFUSALS:
            raise FencedError(f"{refused.code}: {refused.reason or 'the portal does not let this agent speak'}")
        log.warning("hello refused (%s): %s", refused.code, refused.reason)
        return max(0.5, refused.retry_after_s)

    async def _ask_again(self) -> None:
        """After a break of the line, or a sleep of the machine, ask whether the epoch still holds."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._doubt.wait(), 1.0)
            now = time.monotonic()
            slept, self._tick = now - self._tick > SILENCE_S, now
            if not self._doubt.is_set() and not slept and now - self._spoke < SILENCE_S:
                continue
            self._doubt.clear()
            if self._bus.connected:
                await self._hello()
                self._told.set()

    async def _goodbye(self) -> None:
        identity = self.identity
        body = {"agent": identity.subject, "epoch": identity.epoch, "reason": self._reason}
        headers = identity.headers("agent.goodbye", f"goodbye-{identity.id}-{identity.epoch}", dedup=False)
        await self._bus.request(command(identity.unit, "goodbye"), encode(body), headers=headers, timeout_s=2.0)

    # -- presence and samples -------------------------------------------------------------------------------

    async def _presence(self) -> None:
        """Be seen: at every interval, and at once when the state changes."""
        while True:
            self._told.clear()
            with contextlib.suppress(Disconnected):
                await self._publish_presence()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), self.terms.presence_interval_s)

    async def _publish_presence(self) -> None:
        identity, state = self.identity, self.condition.state
        stamp = iso()
        self._presences += 1
        body = {
            "ts": stamp,
            "subsidiary": identity.unit,
            "host": identity.host,
            "division": identity.lease,
            "epoch": identity.epoch,
            "observed_generation": 0,
            "total": 1,
            "counts": {state: 1},
            "full": True,
            "agents": [[identity.id, state, self.condition.done, 0]],
        }
        headers = identity.headers(
            "host.presence", f"pr-{identity.lease}-{identity.epoch}-{self._presences}", dedup=False
        )
        await self._bus.publish(metrics(identity.unit, "presence"), encode(body), headers)
        self._spoke = time.monotonic()

    async def _kpis(self) -> None:
        """Send a sample at every round; what the stream did not take is sent again with the next."""
        if self._measures is None:
            return
        while True:
            interval = self.terms.kpi_interval_s
            due = kpi.next_round(self.identity.subject, interval, time.time())
            await asyncio.sleep(max(0.0, due - time.time()))
            if not self.condition.paused:
                self._sample(due, interval)
            while self._samples:
                try:
                    await self._bus.js_publish(self._samples[0], tries=1)
                except FAULTS as error:
                    log.warning("%d samples wait: %s", len(self._samples), error)
                    break
                self._samples.popleft()

    def _sample(self, due: float, interval: float) -> None:
        claim = self._measures() if self._measures is not None else None
        if claim is None:
            return
        identity = self.identity
        kpis, okrs = claim
        body = {"ts": iso(), "subsidiary": identity.unit, "role": identity.role, "kpis": kpis, "okrs": okrs}
        name = f"kpi-{identity.unit}-{identity.id}-{int(due // interval * interval)}"
        self._samples.append(identity.message("kpi.sample", metrics(identity.unit, "kpi"), name, encode(body)))

    # -- what is asked of the agent -------------------------------------------------------------------------

    async def _on_address(self, message: Msg) -> None:
        kind = (message.headers or {}).get("ce-type", ce_type("agent.ping"))
        answer = await self._answer(kind, message.data)
        if message.reply:
            with contextlib.suppress(Disconnected):
                await self._bus.publish(message.reply, encode(answer))

    async def _on_order(self, message: Msg) -> None:
        """Obey an order to all agents of the role; nobody waits for an answer."""
        await self._answer((message.headers or {}).get("ce-type", ""), message.data)

    async def _answer(self, kind: str, data: bytes) -> Mapping[str, Any]:
        try:
            return await self._answer_checked(kind, data)
        except msgspec.DecodeError as error:
            return {"status": "rejected", "code": "schema", "reason": str(error)[:500]}

    async def _answer_checked(self, kind: str, data: bytes) -> Mapping[str, Any]:
        identity = self.identity
        if kind == ce_type("agent.ping"):
            state = self.condition.state
            return {"agent": identity.subject, "state": state, "epoch": identity.epoch, "host": identity.host}
        if kind == ce_type("work.offer"):
            return await self._offered(decode(WorkItem, data))
        if kind == ce_type("work.cancel"):
            self._puller.cancel(decode(WorkCancel, data).id)  # one that is over already has its result
            return {"status": "accepted"}
        for verb in ("pause", "resume", "drain", "retire"):
            if kind == ce_type(f"agent.{verb}"):
                return self._obey(verb, decode(Order, data))
        answer = self._directed.get(kind)
        if answer is None:
            return {"status": "rejected", "code": "unknown-type", "reason": f"{kind} is not understood"[:500]}
        return await answer(kind, decode_body(data))

    async def _offered(self, item: WorkItem) -> Mapping[str, Any]:
        if self._skills and item.kind not in self._skills:
            return {"status": "rejected", "code": "skill", "reason": f"no skill for {item.kind}"}
        if self.condition.paused or self.condition.draining or not await self._puller.offered(item):
            return {"status": "rejected", "code": "busy", "retry_after_s": 5.0}
        return {"status": "accepted"}

    def _obey(self, verb: str, order: Order) -> Mapping[str, Any]:
        identity, condition = self.identity, self.condition
        if (order.agents and identity.subject not in order.agents) or (
            order.roles and identity.role not in order.roles
        ):
            return {"status": "rejected", "code": "no-such-agent"}
        if verb in ("pause", "resume"):
            condition.paused = verb == "pause"
        else:
            condition.draining = verb == "drain"
            self.stop(f"{verb}: {order.reason}"[:500])
        condition.settle()
        self._told.set()
        return {"status": "accepted"}


def decode_body(data: bytes) -> dict[str, Any]:
    """Decode any body; raise `msgspec.DecodeError`."""
    return msgspec.json.decode(data, type=dict[str, Any])


def _cause(error: BaseException | None) -> BaseException:
    """Unwrap what ended the group of an agent's tasks."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if error is not None else RuntimeError("the agent ended without a cause")
