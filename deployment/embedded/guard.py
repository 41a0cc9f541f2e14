"""The guard: ends what a killed supervisor leaves. Run as ``guard.py`` with a pipe from the supervisor.

Each direct child dies with the supervisor by its parent-death signal, but children of children (granian's
and Celery's workers) do not. The supervisor tells the guard every process group it opens; when the pipe
closes, the supervisor is gone, and the guard ends the groups that are left. It holds the lock of the data
directory meanwhile.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

SECONDS = 8.0
"""How long a group may take to end by itself."""


class Guard:
    """The supervisor's side: starts the guard again when it dies, and tells it what to watch."""

    def __init__(self, *, lock: int, ready: Path, log: Path) -> None:
        """Take the lock's descriptor to inherit, and the file that says that all is up, to remove."""
        self._lock = lock
        self._ready = ready
        self._log = log
        self._groups: dict[int, signal.Signals] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the guard, or start it again."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__, str(self._ready)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=[self._lock],
                start_new_session=True,
            )
        for group, stop_signal in self._groups.items():
            self._tell(f"watch {group} {int(stop_signal)}")

    def check(self) -> None:
        """Replace a guard that died."""
        if self._process is not None and self._process.poll() is not None:
            self.start()

    def watch(self, group: int, stop_signal: signal.Signals) -> None:
        """End this process group when the supervisor dies."""
        self._groups[group] = stop_signal
        self._tell(f"watch {group} {int(stop_signal)}")

    def forget(self, group: int) -> None:
        """This group has ended."""
        if self._groups.pop(group, None) is not None:
            self._tell(f"forget {group}")

    def stop(self) -> None:
        """End the guard; it ends what it still watches."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.wait()
            self._process = None

    def _tell(self, line: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # it died; `check` starts another, which is told all
                self._process.stdin.write(f"{line}\n".encode())
                self._process.stdin.flush()


def members(group: int) -> list[int]:
    """The live processes of a process group."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if fields[0] not in "ZX" and int(fields[2]) == group:
                    found.append(int(entry.name))
    return found


def end(groups: dict[int, int]) -> None:
    """Ask every group to end, wait, kill the rest."""
    for group, number in groups.items():
        with contextlib.suppress(OSError):
            os.killpg(group, number)
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and any(members(group) for group in groups):
        time.sleep(0.1)
    for group in groups:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)


def main() -> None:
    """Read what to watch until the supervisor is gone."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    groups: dict[int, int] = {}
    for line in sys.stdin:
        word, group, *rest = line.split()
        if word == "watch":
            groups[int(group)] = int(rest[0])
        else:
            groups.pop(int(group), None)
    Path(sys.argv[1]).unlink(missing_ok=True)
    end(groups)


if __name__ == "__main__":
    main()
