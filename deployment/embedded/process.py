"""Start and stop child processes so that none outlives its supervisor."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

CHILD = Path(__file__).with_name("child.py")
PAUSE_S = 0.5
"""How long a process that ended stays down, the first time."""


class Identity(StrEnum):
    """As whom a child runs."""

    SELF = "self"
    NAMESPACE = "namespace"  # uid 65534 of a user namespace: is not root, yet owns root's files
    NOBODY = "nobody"


def spawn(
    command: Sequence[str | os.PathLike[str]],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    death_signal: signal.Signals = signal.SIGKILL,
    identity: Identity = Identity.SELF,
    niceness: int = 0,
) -> subprocess.Popen[bytes]:
    """Start ``command`` in a session of its own, its output appended to ``log``.

    The child gets ``death_signal`` when the *thread* that called this ends (so says the kernel): call it
    from a thread that lives as long as the child shall, which is the main thread everywhere here.
    ``niceness`` (0-19) is how far it gives way to others.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    shim = [sys.executable, "-I", "-S", str(CHILD)]
    shim += [str(os.getpid()), str(int(death_signal)), identity, str(niceness)]
    with log.open("ab", buffering=0) as output:
        return subprocess.Popen(
            [*shim, *(os.fspath(part) for part in command)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=None if env is None else dict(env),
            cwd=cwd,
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes], *, stop_signal: signal.Signals, seconds: float) -> bool:
    """Ask a child to end, wait, then kill what is left of its process group.

    Returns:
        Whether it ended by itself within ``seconds``.
    """
    if process.poll() is None:
        process.send_signal(stop_signal)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        kill_group(process.pid)
        process.wait()
        return False
    kill_group(process.pid)
    return True


def kill_group(group: int) -> None:
    """Kill every process of the group that ``spawn`` opened; an empty group is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    """Whether a process has this id and has not ended; a zombie has ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            return False
        return _answers_signal(pid)
    return state not in "ZX"


def _answers_signal(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def tail(log: Path, lines: int = 12) -> str:
    """The last lines of a log, for an error message."""
    try:
        text = log.read_text(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
