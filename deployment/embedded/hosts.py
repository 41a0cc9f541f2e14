"""The host processes of an installation, for drills: only those that its own supervisor started are ever killed."""

import json
import os
import signal
from pathlib import Path

from deployment.embedded.directory import DataDirectory
from deployment.embedded.errors import EmbeddedError
from deployment.embedded.process import is_alive

PREFIX = "host-"
COMMAND = b"\0claytom_agent\0host\0"


def hosts(directory: DataDirectory) -> dict[str, int]:
    """Return the host processes that run on a directory, by name.

    Raises:
        EmbeddedError: no supervisor runs there, or it is not up yet.
    """
    holder = directory.holder()
    if not directory.is_in_use() or holder is None or not directory.ready.exists():
        raise EmbeddedError(f"No holding of ours runs on {directory.path}: start it with `manage.py up --chaos`.")
    processes: dict[str, int] = json.loads(directory.ready.read_text())["processes"]
    return {
        name: pid
        for name, pid in sorted(processes.items())
        if name.startswith(PREFIX) and _is_host_of(holder.pid, pid)
    }


def kill(pid: int) -> None:
    """End a host with SIGKILL, as a crash would; its supervisor starts it again."""
    os.kill(pid, signal.SIGKILL)


def _is_host_of(supervisor: int, pid: int) -> bool:
    """Whether the process is a host and the supervisor its parent: an id may be another process's by now."""
    if not is_alive(pid):
        return False
    try:
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return parent == supervisor and COMMAND in command
