"""The data directory: who may use it, and that only one does."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from deployment.embedded.errors import EmbeddedError
from deployment.embedded.postgres import outside_data
from deployment.embedded.process import is_alive

MARKER = ".claytomsystems"
LOCK_WAIT = 15.0
"""Seconds a start waits while the guard of a killed supervisor still clears up."""


@dataclass(frozen=True)
class Holder:
    """The supervisor that uses a data directory."""

    pid: int
    url: str


class DataDirectory:
    """``var/`` or another place; everything an installation on one machine keeps."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.logs = self.path / "logs"
        self.secrets = self.path / "secrets.json"
        self.env = self.path / "env"
        self.ready = self.path / "ready.json"
        self._lock_path = self.path / "lock"
        self._lock = -1

    def create(self) -> None:
        """Make the directory, readable by its owner only.

        Raises:
            EmbeddedError: it holds something that is not ours, or belongs to another user.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.is_ours():
            if any(self.path.iterdir()):
                raise EmbeddedError(
                    f"{self.path} is not empty and was not made by this program. Choose another one."
                )
            (self.path / MARKER).write_text("Made by `manage.py up`; `make reset` deletes this directory.\n")
        if self.path.stat().st_uid != os.geteuid():
            raise EmbeddedError(f"{self.path} belongs to another user. Choose another --data-dir.")
        self.path.chmod(0o700)
        self.logs.mkdir(exist_ok=True)

    def is_ours(self) -> bool:
        """Whether `create` made it."""
        return (self.path / MARKER).exists()

    def acquire(self) -> int:
        """Take the directory for this process and return the lock's descriptor.

        The kernel holds the lock as long as a process has the descriptor open; the guard inherits it, so
        that nobody starts on data which the processes of a killed supervisor may still write.

        Raises:
            EmbeddedError: a supervisor runs on it.
        """
        self._lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + LOCK_WAIT
        while not self._try_lock():
            holder = self.holder()
            if (holder and is_alive(holder.pid)) or time.monotonic() > deadline:
                self.close()
                raise EmbeddedError(self._refusal(holder))
            time.sleep(0.1)
        self.announce("")
        return self._lock

    def _try_lock(self) -> bool:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _refusal(self, holder: Holder | None) -> str:
        if holder is None:
            return f"Another process uses {self.path}."
        where = f" at {holder.url}" if holder.url else ""
        return (
            f"The holding already runs on {self.path}: process {holder.pid}{where}. "
            f"Stop it with `make stop` or `kill {holder.pid}`, or start a second one with --data-dir."
        )

    def announce(self, url: str) -> None:
        """Write into the lock who holds it and where it answers."""
        text = json.dumps({"pid": os.getpid(), "url": url}).encode()
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, text, 0)

    def holder(self) -> Holder | None:
        """Who wrote itself into the lock last; it may have ended since."""
        try:
            stored = json.loads(self._lock_path.read_text())
            return Holder(pid=int(stored["pid"]), url=str(stored["url"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def close(self) -> None:
        """Give the directory up."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def is_in_use(self) -> bool:
        """Whether a supervisor or its guard holds the lock."""
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(self._lock_path, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            finally:
                os.close(descriptor)
        return False

    def stop_holder(self, seconds: float = 20.0) -> Holder | None:
        """End the supervisor that runs on this directory and wait until it is gone.

        Returns:
            Who was stopped; None when nothing ran.

        Raises:
            EmbeddedError: it did not end in time.
        """
        if not self.is_in_use():
            return None
        holder = self.holder()
        if holder:
            with contextlib.suppress(ProcessLookupError):
                os.kill(holder.pid, signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while self.is_in_use():
            if time.monotonic() > deadline:
                raise EmbeddedError(f"Process {holder.pid if holder else '?'} did not end within {seconds:.0f} s.")
            time.sleep(0.1)
        return holder

    def delete(self) -> None:
        """Delete the directory and all data.

        Raises:
            EmbeddedError: it is in use, or not ours.
        """
        if self.is_in_use():
            raise EmbeddedError(f"{self.path} is in use. Stop it first.")
        if not self.is_ours():
            raise EmbeddedError(f"{self.path} was not made by this program and is not deleted.")
        shutil.rmtree(outside_data(self.path / "postgresql"), ignore_errors=True)
        shutil.rmtree(self.path)
