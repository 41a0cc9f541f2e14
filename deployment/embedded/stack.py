"""The three servers of one data directory, started side by side."""

from collections.abc import Collection
from pathlib import Path

from deployment.embedded.errors import EmbeddedError
from deployment.embedded.nats import Nats
from deployment.embedded.ports import LOOPBACK, is_taken, reserve
from deployment.embedded.postgres import Postgres
from deployment.embedded.redis import Redis
from deployment.embedded.secrets import Credentials
from deployment.embedded.server import Server

USUAL_PORTS = {"postgresql": 5432, "redis": 6379, "nats": 4222}
REPLACED_BY = {"postgresql": "DATABASE_URL", "redis": "REDIS_URL", "nats": "NATS_URL"}
"""The environment variable that names another server instead of the embedded one."""


class Stack:
    """Servers below ``directory``; those in ``without`` are somebody else's and are not started."""

    def __init__(
        self,
        *,
        directory: Path,
        credentials: Credentials,
        logs: Path,
        usual_ports: bool = True,
        durable: bool = True,
        without: Collection[str] = (),
        nats_listen: str = LOOPBACK,
    ) -> None:
        self.servers: dict[str, Server] = {}
        kinds: tuple[type[Server], ...] = (Postgres, Redis, Nats)
        for kind in kinds:
            if kind.name not in without:
                self.servers[kind.name] = kind(
                    directory=directory / kind.name,
                    logs=logs,
                    credentials=credentials,
                    reservation=reserve(USUAL_PORTS[kind.name] if usual_ports else 0),
                    durable=durable,
                )
        if isinstance(server := self.servers.get(Nats.name), Nats):
            server.listen = nats_listen

    @property
    def postgres(self) -> Postgres | None:
        """The embedded PostgreSQL, unless another one is used."""
        server = self.servers.get(Postgres.name)
        return server if isinstance(server, Postgres) else None

    def start(self) -> None:
        """Start all, PostgreSQL last because its initdb runs meanwhile; return when all answer."""
        for server in self.servers.values():
            server.prepare()
        for server in reversed(self.servers.values()):
            server.start()
        for server in self.servers.values():
            self._await(server)
        if self.postgres:
            self.postgres.bootstrap()

    def _await(self, server: Server) -> None:
        """Wait until it answers; move it when somebody took its port between our release and its start."""
        try:
            server.wait_ready()
        except EmbeddedError:
            if not is_taken(server.port):
                raise
            server.move_to(reserve())
            server.prepare()
            server.start()
            server.wait_ready()

    def stop(self) -> None:
        """Stop all that run."""
        for server in reversed(self.servers.values()):
            server.stop()

    def urls(self) -> dict[str, str]:
        """The environment variables that name the servers."""
        return {name: url for server in self.servers.values() for name, url in server.urls().items()}
