"""Work: pulled from the queue of the agent's role, done by its worker, told, and only then taken off the queue."""

import asyncio
import contextlib
import logging
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from nats.aio.msg import Msg

from claytom_agent.client import Bus, BusError, Disconnected, NoAnswerError, NobodyThereError, Outgoing, iso
from claytom_agent.identity import Condition, Identity
from claytom_agent.messages import WorkItem, decode, encode
from claytom_agent.subjects import metrics
from claytom_agent.workers.base import Context, Cost, Item, ItemRejectedError, Output

log = logging.getLogger("claytom_agent.pulling")

EXPIRES_S: Final = 5.0
"""How long a pull waits at the server for an item."""
ASK: Final = msgspec.json.encode({"batch": 1, "expires": int(EXPIRES_S * 1e9)})
IN_PROGRESS_S: Final = 5.0
PROGRESS_S: Final = 5.0
MOST_ATTEMPTS: Final = 5
REMEMBERED: Final = 1000
Work = Callable[[Item, Context], Awaitable[Output]]
"""What does an item: the `run` of a worker, or any function like it."""
FAULTS: Final = (BusError, Disconnected, NoAnswerError, NobodyThereError)


@dataclass(slots=True)
class Running:
    """An item at work."""

    item: WorkItem
    task: "asyncio.Task[None]"
    cancelled: bool = False
    told_at: float = 0.0


class Puller:
    """Gets items and finishes them, `capacity` at a time. `run()` until cancelled."""

    def __init__(
        self,
        bus: Bus,
        identity: Identity,
        condition: Condition,
        work: Work,
        changed: Callable[[], None],
        *,
        capacity: int = 1,
    ) -> None:
        self._bus = bus
        self._identity = identity
        self._condition = condition
        self._call = work
        self._changed = changed
        self._capacity = capacity
        self._ask_subject = f"$JS.API.CONSUMER.MSG.NEXT.CT_WORK.{identity.unit}-{identity.role}"
        self._arrivals: asyncio.Queue[Msg] = asyncio.Queue()
        """What the queue sent; not by way of `request`, since an item comes under its own subject."""
        self._results: OrderedDict[str, Outgoing] = OrderedDict()
        self._running: dict[str, Running] = {}
        self._room = asyncio.Semaphore(capacity)
        self.refused: str = ""
        """Why the server hands out nothing, when it says so."""

    @property
    def free(self) -> bool:
        """Whether one more item fits."""
        return not self._room.locked()

    def holds(self, work_id: str) -> bool:
        """Whether the item is at work or finished here."""
        return work_id in self._running or work_id in self._results

    # -- the queue ------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Pull while the agent may work."""
        inbox = self._bus.new_inbox()
        subscription = await self._bus.subscribe(inbox, self._arrived)
        try:
            while True:
                if self._condition.paused or self._condition.draining or not self._identity.epoch:
                    await asyncio.sleep(0.1)
                    continue
                await self._room.acquire()
                message = None
                try:
                    message = await self._next(inbox)
                finally:
                    if message is None:
                        self._room.release()
                if message is not None:
                    await self._take(message)
        finally:
            with contextlib.suppress(Exception):
                await subscription.unsubscribe()

    async def _arrived(self, message: Msg) -> None:
        self._arrivals.put_nowait(message)

    async def _next(self, inbox: str) -> Msg | None:
        """Ask for an item; None when there is none, or when the queue says why it gives none."""
        if self._arrivals.empty():
            try:
                await self._bus.publish(self._ask_subject, ASK, reply=inbox)
            except Disconnected:
                await asyncio.sleep(random.uniform(0.2, 0.5))
                return None
        try:
            message = await asyncio.wait_for(self._arrivals.get(), EXPIRES_S + 2.0)
        except TimeoutError:
            return None  # also what a refused permission looks like; the log of the connection names it
        status = (message.headers or {}).get("Status")
        if status is None:
            self.refused = ""
            return message
        if status != "408":  # 408: nothing came while it waited; 409, 503: no queue, or too many wait
            self._complain(f"{status} {(message.headers or {}).get('Description', '')}".strip())
            await asyncio.sleep(random.uniform(0.5, 1.5))
        return None

    def _complain(self, text: str) -> None:
        if text != self.refused:
            log.warning("%s pulls no work: %s", self._identity.subject, text)
        self.refused = text

    async def _take(self, message: Msg) -> None:
        """Begin the item of a message; the room that was acquired for it is released when it is finished."""
        try:
            item = decode(WorkItem, message.data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            await self._say(message.reply, b"+TERM " + str(error)[:200].encode())
            self._room.release()
            return
        if self._condition.paused or self._condition.draining:  # told so while the pull was waiting
            await self._say(message.reply, b'-NAK {"delay": 100000000}')
            self._room.release()
            return
        self.begin(item, message.reply)

    def begin(self, item: WorkItem, reply: str = "") -> None:
        """Begin an item; `reply` is where the queue wants to hear of it. Takes a room already acquired."""
        self._condition.running += 1
        self._condition.settle()
        self._changed()
        task = asyncio.get_running_loop().create_task(self._work(item, reply))
        self._running[item.id] = Running(item, task)
        task.add_done_callback(lambda _: self._finished(item.id))

    async def offered(self, item: WorkItem) -> bool:
        """Begin an item that was offered to this very agent; False when there is no room."""
        if self.holds(item.id):
            return True
        if not self.free:
            return False
        await self._room.acquire()
        self.begin(item)
        return True

    def _finished(self, work_id: str) -> None:
        self._running.pop(work_id, None)
        self._room.release()
        self._condition.running -= 1
        self._condition.settle()
        self._changed()

    def cancel(self, work_id: str) -> bool:
        """Stop an item that is at work; False if it is not."""
        running = self._running.get(work_id)
        if running is None:
            return False
        running.cancelled = True
        running.task.cancel()
        return True

    async def finish(self) -> None:
        """Wait for what is at work."""
        while self._running:
            await asyncio.wait([running.task for running in self._running.values()])

    async def abandon(self) -> None:
        """Give back what is at work."""
        tasks = [running.task for running in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- one item -------------------------------------------------------------------------------------------

    async def _work(self, item: WorkItem, reply: str) -> None:
        attempt = attempt_of(reply)
        result = self._results.get(item.id)  # it came again because the acknowledgement was lost
        keeper = asyncio.get_running_loop().create_task(self._keep(reply))
        try:
            if result is None:
                result = await self._do(item, attempt, again=bool(reply) and may_try_again(item, attempt))
            if result is None:
                await self._say(reply, give_back(attempt))
                return
            await self._bus.js_publish(result)
            self._remember(item.id, result)
            keeper.cancel()
            await self._say(reply, b"+ACK")
            self._count(item, result)
        except FAULTS as error:
            # Not stored, so not acknowledged: the queue hands it out again, and the result is not made again.
            if result is not None:
                self._remember(item.id, result)
            log.warning("result of %s not stored: %s", item.id, error)
        except asyncio.CancelledError:
            await asyncio.shield(self._cancelled(item, reply, attempt))
        finally:
            keeper.cancel()

    def _count(self, item: WorkItem, result: Outgoing) -> None:
        condition = self._condition
        condition.done += 1
        condition.completed += b'"status":"completed"' in result.body
        condition.in_time += datetime.now(UTC) <= item.deadline

    async def _cancelled(self, item: WorkItem, reply: str, attempt: int) -> None:
        running = self._running.get(item.id)
        with contextlib.suppress(*FAULTS):
            if running is not None and running.cancelled:
                body = self._body(item, "canceled", attempt, 0, 0)
                await self._bus.js_publish(self._result(item.id, body))
                await self._say(reply, b"+ACK")
            else:
                await self._say(reply, b"-NAK")

    async def _do(self, item: WorkItem, attempt: int, *, again: bool) -> Outgoing | None:
        """Run the worker; return the result message, or None when it failed and may be tried again."""
        wall, cpu = time.monotonic(), time.process_time()
        status, output, error = "completed", None, None
        try:
            output = await self._run(item, attempt)
        except ItemRejectedError as refusal:
            status, error = "rejected", {"code": refusal.code, "message": str(refusal)[:500]}
        except TimeoutError:
            status, error = "failed", {"code": "deadline", "message": "not finished in time"}
        except FAULTS:
            raise
        except Exception as fault:
            text = f"{type(fault).__name__}: {fault}"[:500]
            log.warning("%s failed at %s: %s", self._identity.subject, item.id, text)
            if again:
                return None
            status, error = "failed", {"code": "worker_failed", "message": text}
        spent = int((time.process_time() - cpu) * 1000), int((time.monotonic() - wall) * 1000)
        body = self._body(item, status, attempt, *spent)
        if output is not None:
            body["output"] = output.result
        if error is not None:
            body["error"] = error
        return self._result(item.id, body)

    async def _run(self, item: WorkItem, attempt: int) -> Output:
        identity = self._identity
        now = time.time()
        left = item.deadline.timestamp() - now
        if isinstance(item.start_to_close_s, float):
            left = min(left, item.start_to_close_s)
        work = Item(item.id, item.kind, item.input, attempt)
        ctx = Context(
            agent=identity.subject,
            subsidiary=identity.unit,
            role=identity.role,
            seed=identity.seed,
            now=now,
            item=work,
            deadline=item.deadline,
            reporter=self,
        )
        async with asyncio.timeout(max(0.0, left)):
            return await self._call(work, ctx)

    def _body(self, item: WorkItem, status: str, attempt: int, cpu_ms: int, wall_ms: int) -> dict[str, Any]:
        return {
            "ts": iso(),
            "work_id": item.id,
            "agent": self._identity.subject,
            "status": status,
            "attempt": attempt,
            "cpu_ms": cpu_ms,
            "wall_ms": wall_ms,
        }

    def _result(self, work_id: str, body: dict[str, Any]) -> Outgoing:
        identity = self._identity
        return identity.message("work.result", metrics(identity.unit, "result"), f"res-{work_id}", encode(body))

    def _remember(self, work_id: str, result: Outgoing) -> None:
        self._results[work_id] = result
        while len(self._results) > REMEMBERED:
            self._results.popitem(last=False)

    async def _keep(self, reply: str) -> None:
        """Tell the queue that the item is at work, so that nobody else gets it."""
        while reply:
            await asyncio.sleep(IN_PROGRESS_S)
            await self._say(reply, b"+WPI")

    async def _say(self, reply: str, word: bytes) -> None:
        if reply:
            with contextlib.suppress(Disconnected):
                await self._bus.publish(reply, word)

    # -- what a run tells -----------------------------------------------------------------------------------

    def cancelled(self, item: Item) -> bool:
        """Whether the item was cancelled."""
        running = self._running.get(item.id)
        return running is None or running.cancelled

    async def progress(self, item: Item, pct: float, note: str) -> None:
        """Publish how far the item is, at most once in five seconds."""
        running, now = self._running.get(item.id), time.monotonic()
        if running is None or now - running.told_at < PROGRESS_S:
            return
        running.told_at = now
        identity, stamp = self._identity, iso()
        body = {
            "ts": stamp,
            "work_id": item.id,
            "agent": identity.subject,
            "state": "working",
            "pct": min(100.0, max(0.0, pct)),
            "note": note[:500],
        }
        headers = identity.headers("work.progress", f"pg-{item.id}-{stamp}", dedup=False)
        with contextlib.suppress(Disconnected):
            await self._bus.publish(metrics(identity.unit, "progress"), encode(body), headers)

    async def cost(self, item: Item, cost: Cost) -> None:
        """Store a cost; raises a fault of the bus when it is not stored."""
        identity = self._identity
        body = {
            "ts": iso(),
            "agent": identity.subject,
            "call": cost.call,
            "provider": cost.provider,
            "model": cost.model,
            "input_tokens": cost.input_tokens,
            "cached_input_tokens": cost.cached_input_tokens,
            "output_tokens": cost.output_tokens,
            "cpu_ms": cost.cpu_ms,
            "cost_micros": cost.cost_micros,
            "currency": cost.currency,
            "work_id": item.id,
        }
        await self._bus.js_publish(
            identity.message(
                "usage.cost", metrics(identity.unit, "cost"), f"cost-{identity.id}-{cost.call}", encode(body)
            )
        )

    async def escalate(self, item: Item, severity: str, summary: str, needs: str) -> None:
        """Ask above; raises a fault of the bus when nobody will hear of it."""
        identity = self._identity
        name = f"{identity.id}-{item.id}"
        body = {
            "ts": iso(),
            "id": name,
            "agent": identity.subject,
            "level": "L1",
            "severity": severity,
            "summary": summary[:500],
            "needs": needs[:500],
            "work_id": item.id,
        }
        await self._bus.js_publish(
            identity.message(
                "escalation.raise", metrics(identity.unit, "escalation"), f"esc-{name}-L1", encode(body)
            )
        )


def attempt_of(reply: str) -> int:
    """Read from the acknowledgement's subject how often the queue has handed the item out; 1 without one."""
    tokens = reply.split(".")
    # $JS.ACK.<stream>.<consumer>.<delivered>.…, or with domain and account before the stream.
    place = 4 if len(tokens) == 9 else 6
    return int(tokens[place]) if len(tokens) >= 9 and tokens[place].isdigit() else 1


def may_try_again(item: WorkItem, attempt: int) -> bool:
    """Whether the item may be tried again after attempt number `attempt` failed."""
    policy = item.attempt_policy
    most = MOST_ATTEMPTS if isinstance(policy, msgspec.UnsetType) else min(policy.max_attempts, MOST_ATTEMPTS)
    return attempt < most and item.deadline > datetime.now(UTC)


def give_back(attempt: int) -> bytes:
    """Give an item back, to be handed out after 1, 2, 4, 8 seconds."""
    return b"-NAK " + msgspec.json.encode({"delay": int(1e9 * 2 ** min(attempt - 1, 5))})
