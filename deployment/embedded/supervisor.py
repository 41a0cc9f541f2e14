"""Keep children alive, and leave none behind."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Protocol

from deployment.embedded.errors import EmbeddedError
from deployment.embedded.guard import Guard
from deployment.embedded.process import kill_group
from deployment.embedded.server import Server

TICK = 0.1
LOG_BYTES = 10 * 1024 * 1024
LOG_EVERY = 5.0
Report = Callable[[str], None]


class Child(Protocol):
    """What can be kept alive: an embedded server or a process of the portal."""

    @property
    def name(self) -> str:
        """How progress, log and ready.json call it."""

    @property
    def log(self) -> Path:
        """Where its output goes."""

    @property
    def stop_signal(self) -> signal.Signals:
        """What asks it to end."""

    @property
    def pause_s(self) -> float:
        """How long it stays down when it ends for the first time."""

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The process; None before the first start."""

    def prepare(self) -> None:
        """Do what must come before each start."""

    def start(self) -> subprocess.Popen[bytes]:
        """Start the process."""


class Stopped(Exception):  # noqa: N818 - a request, not an error
    """A signal asked the supervisor to end."""


class Backoff:
    """Pauses before restarts: doubled from the first up to 30 s, from the beginning after a minute of health."""

    MOST = 30.0
    HEALTHY = 60.0

    def __init__(self, first: float) -> None:
        self._first = self._pause = first

    def after(self, ran: float) -> float:
        """The pause after a process that ran for ``ran`` seconds."""
        if ran >= self.HEALTHY:
            self._pause = self._first
        pause = self._pause
        self._pause = min(pause * 2, self.MOST)
        return pause


class Kept:
    """One child and when it is to be started again."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.backoff = Backoff(child.pause_s)
        self.started = time.monotonic()
        self.due: float | None = None
        self.restarts = 0


@dataclass(slots=True)
class Chore:
    """What is done every so many seconds, and when next."""

    seconds: float
    act: Callable[[], object]
    due: float


class Supervisor:
    """Restarts what dies, keeps logs bounded, stops everything on a signal."""

    def __init__(self, *, guard: Guard, report: Report) -> None:
        self._guard = guard
        self._report = report
        self._kept: list[Kept] = []
        self._signal: signal.Signals | None = None
        self._logs_checked = time.monotonic()
        self._chores: list[Chore] = []
        self.on_restart: Callable[[], None] = lambda: None

    def handle_signals(self) -> None:
        """Let Ctrl-C, SIGTERM and the end of the terminal stop everything in order."""
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(name, self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._signal = signal.Signals(number)

    def keep(self, child: Child) -> None:
        """Watch a child that runs, or start it now."""
        kept = Kept(child)
        self._kept.append(kept)
        process = child.process
        if process is None:
            child.prepare()
            process = child.start()
        self._watch(kept, process)

    def every(self, seconds: float, act: Callable[[], object]) -> None:
        """Do something small again and again beside the supervision; a failure is reported and tried again."""
        self._chores.append(Chore(seconds, act, time.monotonic() + seconds))

    def pids(self) -> dict[str, int]:
        """The process id of every child by name."""
        return {kept.child.name: kept.child.process.pid for kept in self._kept if kept.child.process}

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Supervise until the condition holds.

        Raises:
            Stopped: a signal came; call `stop`.
        """
        while not until():
            if self._signal is not None:
                raise Stopped(self._signal.name)
            self.tick()
            time.sleep(TICK)

    def run_once(self, child: Child, meanwhile: Callable[[], None]) -> int:
        """Run a child to its end beside the others and return its exit code.

        Raises:
            Stopped: a signal came; the child was killed.
        """
        child.prepare()
        process = child.start()
        self._guard.watch(process.pid, child.stop_signal)

        def ended() -> bool:
            code = process.poll()
            meanwhile()
            return code is not None

        try:
            self.run(until=ended)
        finally:
            kill_group(process.pid)
            process.wait()
            self._guard.forget(process.pid)
        return process.returncode

    def tick(self) -> None:
        """Look at each child once."""
        self._guard.check()
        now = time.monotonic()
        for kept in self._kept:
            if kept.due is None:
                self._look_at(kept, now)
            elif now >= kept.due:
                self._restart(kept)
        for chore in self._chores:
            if now >= chore.due:
                chore.due = now + chore.seconds
                self._do(chore)
        if now - self._logs_checked > LOG_EVERY:
            self._logs_checked = now
            for kept in self._kept:
                rotate(kept.child.log)

    def _do(self, chore: "Chore") -> None:
        try:
            chore.act()
        except (EmbeddedError, OSError, ValueError) as error:
            self._report(f"{chore.act.__name__.strip('_')} failed, is tried again in {chore.seconds:g} s: {error}")

    def _look_at(self, kept: Kept, now: float) -> None:
        process = kept.child.process
        if process is None or process.poll() is None:
            return
        kill_group(process.pid)  # its own children, if any are left
        self._guard.forget(process.pid)
        pause = kept.backoff.after(now - kept.started)
        kept.due = now + pause
        self._report(
            f"{kept.child.name} ended ({describe(process.returncode)}), starts again in {pause:g} s; "
            f"see {kept.child.log}"
        )

    def _restart(self, kept: Kept) -> None:
        kept.started = time.monotonic()
        kept.restarts += 1
        try:
            kept.child.prepare()
            process = kept.child.start()
        except (EmbeddedError, OSError) as error:
            pause = kept.backoff.after(0)
            kept.due = time.monotonic() + pause
            self._report(f"{kept.child.name} cannot start, tries again in {pause:g} s: {error}")
            return
        kept.due = None
        self._watch(kept, process)
        self.on_restart()

    def _watch(self, kept: Kept, process: subprocess.Popen[bytes]) -> None:
        kept.started = time.monotonic()
        self._guard.watch(process.pid, kept.child.stop_signal)

    def stop(self, *, programs: float, servers: float) -> None:
        """End the processes that use the servers, then the servers: within these seconds, else by force."""
        children = [kept.child for kept in self._kept]
        self._end([child for child in children if not isinstance(child, Server)], programs)
        self._end([child for child in children if isinstance(child, Server)], servers)
        self._kept.clear()

    def _end(self, children: list[Child], seconds: float) -> None:
        processes = [(child, child.process) for child in children if child.process is not None]
        for child, process in processes:
            if process.poll() is None:
                process.send_signal(child.stop_signal)
        deadline = time.monotonic() + seconds
        for child, process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            if process.poll() is None:
                self._report(f"{child.name} did not end in time and is killed")
            kill_group(process.pid)
            process.wait()
            self._guard.forget(process.pid)


def describe(code: int) -> str:
    """How a process ended, in words."""
    return f"exit {code}" if code >= 0 else signal.Signals(-code).name


def rotate(log: Path, limit: int = LOG_BYTES) -> None:
    """Keep one old copy of a log that outgrew ``limit`` bytes.

    The writer appends, so the file can be emptied under it; lines written in between are lost, which is
    the price of writers that need not know.
    """
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > limit:
            log.with_suffix(".log.1").write_bytes(log.read_bytes())
            with log.open("r+b") as file:
                file.truncate()
