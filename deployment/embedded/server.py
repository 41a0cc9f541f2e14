"""What the three embedded servers have in common."""

import signal
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from deployment.embedded.errors import EmbeddedError
from deployment.embedded.ports import Reservation
from deployment.embedded.process import PAUSE_S, Identity, spawn, stop, tail
from deployment.embedded.secrets import Credentials


class Server(ABC):
    """One server program, a direct child, its data below ``directory``, listening on the loopback."""

    name: ClassVar[str]
    title: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(
        self,
        *,
        directory: Path,
        logs: Path,
        credentials: Credentials,
        reservation: Reservation,
        durable: bool = True,
    ) -> None:
        """Take a place and a port.

        ``durable=False`` leaves writes to the page cache: they survive kill -9, not a power cut. For
        throw-away data such as a test run's. PostgreSQL then gathers no statistics either: those of rows
        that are gone, or of a table that was empty, make plans that take minutes.
        """
        self.directory = directory
        self.log = logs / f"{self.name}.log"
        self.credentials = credentials
        self.reservation = reservation
        self.port = reservation.port
        self.durable = durable
        self.identity = Identity.SELF
        self.process: subprocess.Popen[bytes] | None = None
        self.pause_s = PAUSE_S

    @abstractmethod
    def prepare(self) -> None:
        """Write the configuration and begin what a first start needs, without waiting for it."""

    @abstractmethod
    def command(self) -> list[str]:
        """The program and its arguments."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether the listener on our port takes our password, which only our own server does."""

    @abstractmethod
    def urls(self) -> dict[str, str]:
        """The environment variables that name this server."""

    def start(self) -> subprocess.Popen[bytes]:
        """Start the program; call ``prepare`` before, and again before each further start.

        Raises:
            EmbeddedError: it cannot run on this machine.
        """
        self.reservation.release()
        self.process = spawn(
            self.command(),
            log=self.log,
            cwd=self.directory,
            death_signal=self.stop_signal,
            identity=self.identity,
        )
        return self.process

    def move_to(self, reservation: Reservation) -> None:
        """Take another port; call `prepare` and `start` after it."""
        self.reservation.release()
        self.reservation = reservation
        self.port = reservation.port

    def wait_ready(self, seconds: float = 30.0) -> None:
        """Return when the server answers.

        Raises:
            EmbeddedError: it ended, or did not answer in time; the text quotes its log.
        """
        deadline = time.monotonic() + seconds
        while not self.is_ready():
            if self.process is None or self.process.poll() is not None:
                raise EmbeddedError(f"{self.title} did not start. {self.log} ends with:\n{tail(self.log)}")
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"{self.title} did not answer on port {self.port} within {seconds:.0f} s. "
                    f"{self.log} ends with:\n{tail(self.log)}"
                )
            time.sleep(0.02)

    def stop(self, seconds: float = 5.0) -> None:
        """End the program; its data stay."""
        if self.process is not None:
            stop(self.process, stop_signal=self.stop_signal, seconds=seconds)
            self.process = None
        self.reservation.release()
