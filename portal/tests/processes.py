"""The processes `web` and `live`, started for a test as in production."""

import http.client
import os
import socket
import subprocess
import sys
import time
from types import TracebackType
from typing import Self

START_SECONDS = 30


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Portal:
    """`web` on `url`, `live` on `live_port`; both gone at the end."""

    def __init__(self) -> None:
        self.port, self.live_port = free_port(), free_port()
        self.url = f"http://localhost:{self.port}"
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self._start("wsgi", "config.wsgi:application", self.port)
        self._start("asgi", "config.asgi:application", self.live_port)
        for port in (self.port, self.live_port):
            _wait(port)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(timeout=20)

    def _start(self, interface: str, application: str, port: int) -> None:
        command = [sys.executable, "-m", "granian", "--interface", interface, "--port", str(port)]
        self._processes.append(
            subprocess.Popen(
                [*command, "--workers", "1", "--workers-kill-timeout", "2", application],
                env={**os.environ, "PORTAL_URL": self.url, "LIVE_URL": f":{self.live_port}"},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )


def _wait(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            connection.request("GET", "/healthz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
