"""The processes of the portal: what the supervisor starts here, and what compose and Kubernetes start elsewhere."""

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bus.credentials.logins import directory_of, portal_file
from deployment.embedded.environment import REPOSITORY
from deployment.embedded.ports import LOOPBACK, Reservation
from deployment.embedded.process import PAUSE_S, spawn

PROCESSES = ("web", "live", "worker", "beat", "bus", "ingest", "host")
"""The process list; `host` may run many times."""

MANAGE = (sys.executable, str(REPOSITORY / "manage.py"))
NOT_FOR_HOSTS = (
    "DATABASE_",
    "REDIS_URL",
    "SECRET_KEY",
    "NATS_URL",
    "NATS_CREDS",
    "NATS_SYS_",
    "NATS_KEYS",
    "ADMIN_",
)
"""Prefixes of variables that an agent host must not know: it has no database access."""
STANDBY_PAUSE_S = 2.0
"""Of a host beside others: first they take its divisions, and need the processor that its start would take."""
BACKGROUND = 5
"""Niceness of what may wait: the cycles that a beat orders look at all units at once, every ten seconds."""


@dataclass
class Program:
    """One process of the portal, a direct child in a session of its own."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    logs: Path
    reservation: Reservation | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    pause_s: float = PAUSE_S
    niceness: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.logs / f"{self.name}.log"

    def prepare(self) -> None:
        """Let it have its port."""
        if self.reservation is not None:
            self.reservation.release()

    def start(self) -> subprocess.Popen[bytes]:
        """Start it; it ends when the supervisor does."""
        self.process = spawn(
            self.command,
            log=self.log,
            env=self.env,
            cwd=REPOSITORY,
            death_signal=self.stop_signal,
            niceness=self.niceness,
        )
        return self.process


def granian(interface: str, application: str, port: int) -> list[str]:
    """The command of a web server; one worker, because two cores also run the rest."""
    return [
        *(sys.executable, "-m", "granian", "--interface", interface, "--host", LOOPBACK),
        *("--port", str(port), "--workers", "1", "--no-ws", application),
    ]


def programs(
    *,
    env: Mapping[str, str],
    logs: Path,
    web: Reservation,
    live: Reservation,
    hosts: int,
    chaos: bool,
) -> list[Program]:
    """Every process of one machine, hosts first because the agents take longest to be live."""
    celery = [sys.executable, "-m", "celery", "--app", "config"]
    worker = [*celery, "worker", "--loglevel", "INFO", "--concurrency", "2", "--without-gossip", "--without-mingle"]
    for_hosts = {name: value for name, value in env.items() if not name.startswith(NOT_FOR_HOSTS)}
    host = [sys.executable, "-m", "claytom_agent", "host", *(("--chaos",) if chaos else ())]

    def login(kind: str) -> dict[str, str]:
        """The environment of a process with its own login; a NATS that is not ours has its login in the URL."""
        keys = env.get("NATS_KEYS")
        return {**env, "NATS_CREDS": str(portal_file(directory_of(Path(keys)), kind))} if keys else dict(env)

    pause_s = PAUSE_S if hosts == 1 else STANDBY_PAUSE_S
    return [
        *(Program(name, [*host, "--id", name], for_hosts, logs, pause_s=pause_s) for name in host_names(hosts)),
        Program("ingest", [*MANAGE, "ingest"], {**login("ingest"), "DATABASE_ROLE": "ingest"}, logs),
        Program("bus", [*MANAGE, "bus"], login("bus"), logs),
        Program("web", granian("wsgi", "config.wsgi:application", web.port), login("web"), logs, web),
        Program("worker", worker, login("worker"), logs, niceness=BACKGROUND),
        Program("live", granian("asgi", "config.asgi:application", live.port), login("web"), logs, live),
        Program("beat", [*celery, "beat", "--loglevel", "INFO", "--pidfile", ""], login("worker"), logs),
    ]


def host_names(hosts: int) -> list[str]:
    """``host`` for a single one, else ``host-1`` and so on."""
    return ["host"] if hosts == 1 else [f"host-{number}" for number in range(1, hosts + 1)]
