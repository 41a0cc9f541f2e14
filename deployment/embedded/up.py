"""`manage.py up`: from nothing to a running holding, on one machine.

Runs without Django: the servers must be up and named in the environment before settings can be read. One
child, `manage.py prepare`, does all that needs Django before the processes start.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from bus.credentials import KeyStore, Logins
from deployment.embedded import environment
from deployment.embedded.directory import DataDirectory
from deployment.embedded.errors import EmbeddedError
from deployment.embedded.guard import Guard
from deployment.embedded.options import DEFAULT_PORT, Options, parse
from deployment.embedded.ports import LOOPBACK, reserve, reserve_exactly
from deployment.embedded.process import tail
from deployment.embedded.programs import MANAGE, Program, programs
from deployment.embedded.readiness import AgentCount, Agents, answers
from deployment.embedded.secrets import Credentials, write_private
from deployment.embedded.stack import REPLACED_BY, Stack
from deployment.embedded.supervisor import Stopped, Supervisor, describe

USERNAME = "admin"
PROBE_EVERY = 0.5
RENEW_EVERY = 60.0
SAY_EVERY = 2.0
PATIENCE = 120.0
"""Seconds without a new live agent after which the start says where to look; it goes on waiting."""
STOP_PROGRAMS, STOP_SERVERS = 5.0, 3.5
"""Seconds; together less than the ten that a stop may take."""

STEP = "=> "
"""How `manage.py prepare` marks the lines of its log that are progress."""

PASSED_ON = (
    *("DATABASE_URL", "DATABASE_OWNER_URL", "DATABASE_OWNER_ROLE", "DATABASE_INGEST_URL", "REDIS_URL"),
    *("NATS_URL", "NATS_CREDS", "NATS_HOST_URL", "NATS_HOST_CREDS", "NATS_SYS_URL", "NATS_SYS_CREDS", "NATS_KEYS"),
    *("SECRET_KEY", "ALLOWED_HOSTS", "CSRF_TRUSTED_ORIGINS", "PORTAL_URL", "LIVE_URL", "BEHIND_TLS_PROXY"),
    *("AGENTS_PER_SUBSIDIARY", "CLOCK_SPEED", "KPI_RETENTION_HOURS", "METRICS_TOKEN", "DEBUG", "LOG_LEVEL"),
    *("MFA_REQUIRED", "OIDC_NAME", "OIDC_ISSUER", "OIDC_CLIENT_ID", "OIDC_CLIENT_SECRET", "OIDC_GROUPS_CLAIM"),
    *("SECRET_KEY_FALLBACKS", "EMAIL_URL", "EMAIL_FROM"),
)
"""Variables of the caller that win over what we would choose, and are written to DATA_DIR/env."""


class Progress:
    """Lines with the time since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._start

    def __call__(self, text: str) -> None:
        """Print one line."""
        sys.stdout.write(f"[{self.seconds:6.1f} s] {text}\n")
        sys.stdout.flush()


@dataclass(frozen=True)
class Plan:
    """What an installation prepares, runs and waits for: the portal, or a small stand-in in tests."""

    prepare: Sequence[str] = (*MANAGE, "prepare")
    programs: Callable[..., list[Program]] = programs
    watch: "Callable[[str, str], Watch]" = field(default_factory=lambda: Watch)


class Installation:
    """One start of the holding on one data directory; `run` does it all."""

    def __init__(self, options: Options, inherited: Mapping[str, str], plan: Plan) -> None:
        self._options = options
        self._plan = plan
        self._progress = Progress()
        self._started_at = datetime.now(UTC)
        self._directory = DataDirectory(options.data_dir)
        self._directory.create()
        self._guard = Guard(
            lock=self._directory.acquire(),
            ready=self._directory.ready,
            log=self._directory.logs / "guard.log",
        )
        self._directory.ready.unlink(missing_ok=True)
        self._credentials = Credentials.load(self._directory.secrets)
        # A shell that sourced DATA_DIR/env names our own servers; they are not somebody else's.
        self._inherited = {name: value for name, value in inherited.items() if not self._is_ours(name, value)}
        if not self._inherited.get("NATS_URL"):  # logins of some other server are of no use with our own
            self._inherited = {name: v for name, v in self._inherited.items() if not name.startswith("NATS_")}
        self._web = reserve_exactly(options.port) if options.port else reserve(DEFAULT_PORT)
        self._live = reserve(self._web.port + 1)
        self._url = f"http://localhost:{self._web.port}"
        self._stack = self._make_stack()
        self._variables: dict[str, str] = {}
        self._supervisor = Supervisor(guard=self._guard, report=self._progress)

    def _is_ours(self, name: str, value: str) -> bool:
        in_here = name.startswith("NATS_") and str(self._directory.path) in value
        return in_here or self._credentials.appear_in(value)

    def _make_stack(self) -> Stack:
        return Stack(
            directory=self._directory.path,
            credentials=self._credentials,
            logs=self._directory.logs,
            without=[name for name, variable in REPLACED_BY.items() if self._inherited.get(variable)],
            nats_listen=self._options.nats_listen,
            usual_ports=not self._options.free_ports,
        )

    def _make_variables(self) -> dict[str, str]:
        """What every process of this installation, and whoever sources DATA_DIR/env, has to know."""
        variables = {
            "SECRET_KEY": self._credentials.secret_key,
            "ALLOWED_HOSTS": "localhost,127.0.0.1,[::1]",
            "PORTAL_URL": self._url,
            "LIVE_URL": f":{self._live.port}",
            **{name: self._inherited[name] for name in PASSED_ON if self._inherited.get(name)},
            "DATA_DIR": str(self._directory.path),
            "CHAOS_ENABLED": "1" if self._options.chaos else "0",
            **self._stack.urls(),
        }
        if self._options.agents_per_subsidiary:
            variables["AGENTS_PER_SUBSIDIARY"] = str(self._options.agents_per_subsidiary)
        return variables

    def run(self) -> None:
        """Start, supervise until a signal comes, stop.

        Raises:
            EmbeddedError: it cannot start; everything was stopped again.
        """
        self._supervisor.handle_signals()
        self._guard.start()
        try:
            self._start()
            self._supervisor.run()
        except Stopped as stopped:
            self._progress(f"{stopped}: stopping")
        finally:
            self._directory.ready.unlink(missing_ok=True)
            self._supervisor.stop(programs=STOP_PROGRAMS, servers=STOP_SERVERS)
            self._stack.stop()
            self._guard.stop()
            self._directory.close()
        self._progress("Stopped; nothing is left running.")

    def _start(self) -> None:
        self._directory.announce(self._url)
        self._start_servers()
        self._variables = self._make_variables()  # now that every server has its port
        environment.write(self._directory.env, self._variables)
        self._prepare()
        if "NATS_KEYS" in self._variables:
            self._supervisor.every(RENEW_EVERY, self._renew_logins)
        dsn = self._variables.get("DATABASE_INGEST_URL") or self._variables["DATABASE_URL"]
        watch = self._plan.watch(dsn, self._url)
        for program in self._programs():
            self._supervisor.keep(program)
        self._progress("Processes started: " + ", ".join(self._supervisor.pids()))
        agents = self._await_agents(watch)
        self._announce(agents)
        self._supervisor.on_restart = lambda: self._announce(agents)
        self._progress(f"{agents}. The portal answers at {self._url}")
        sys.stdout.write(
            f"\n  {self._url}\n  user      {USERNAME}\n  password  {self._credentials.administrator}\n\n"
            f"  Logs: {self._directory.logs}   Stop: Ctrl-C or `make stop`\n"
        )
        sys.stdout.flush()

    def _start_servers(self) -> None:
        self._stack.start()
        for server in self._stack.servers.values():
            self._supervisor.keep(server)
            self._progress(f"{server.title} listens on {LOOPBACK}:{server.port}")
        for name, variable in REPLACED_BY.items():
            if name not in self._stack.servers:
                self._progress(f"{variable} is set: no embedded {name}")

    def _environment(self) -> dict[str, str]:
        return {
            **self._inherited,
            "PYTHONUNBUFFERED": "1",
            "DJANGO_SETTINGS_MODULE": "config.settings",
            **self._variables,
        }

    def _prepare(self) -> None:
        """Do all that needs Django in one child, so that Django starts once."""
        secrets = {
            "ADMIN_USERNAME": USERNAME,
            "ADMIN_PASSWORD": self._credentials.administrator,
            "ADMIN_TOKEN": self._credentials.api_token,
        }
        program = Program("prepare", self._plan.prepare, self._environment() | secrets, self._directory.logs)
        log = Follower(program.log)
        code = self._supervisor.run_once(program, lambda: log.report(self._progress))
        if code != 0:
            raise EmbeddedError(
                f"Preparation failed ({describe(code)}). {program.log} ends with:\n{tail(program.log)}"
            )

    def _renew_logins(self) -> None:
        """Renew the credential files that are due; the processes read them at their next login."""
        Logins(KeyStore.load(self._variables["NATS_KEYS"])).renew()

    def _programs(self) -> list[Program]:
        return self._plan.programs(
            env=self._environment(),
            logs=self._directory.logs,
            web=self._web,
            live=self._live,
            hosts=self._options.hosts,
            chaos=self._options.chaos,
        )

    def _await_agents(self, watch: "Watch") -> Agents:
        """Wait until every seat has a live agent and the portal answers."""
        try:
            self._supervisor.run(until=lambda: watch.is_up(self._progress))
        finally:
            watch.close()
        return watch.agents

    def _announce(self, agents: Agents) -> None:
        """Write ready.json, for whoever waits for it."""
        servers = {name: self._variables[name] for name in (*self._stack.urls(), *REPLACED_BY.values())}
        ready = {
            "url": self._url,
            "sign_in": {"username": USERNAME, "password": self._credentials.administrator},
            "api_token": self._credentials.api_token,
            "servers": {name: servers[variable] for name, variable in REPLACED_BY.items()},
            "processes": {"supervisor": os.getpid(), **self._supervisor.pids()},
            "agents": agents.live,
            "started_at": self._started_at.isoformat(timespec="milliseconds"),
            "seconds": round(self._progress.seconds, 1),
        }
        write_private(self._directory.ready, json.dumps(ready, indent=2) + "\n")


class Follower:
    """Reports the progress lines that a child appends to its log."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._offset = log.stat().st_size if log.exists() else 0

    def report(self, progress: Progress) -> None:
        """Report what was added since the last call."""
        if not self._log.exists():
            return
        with self._log.open("rb") as file:
            file.seek(self._offset)
            added = file.read()
        complete = added[: added.rfind(b"\n") + 1]
        self._offset += len(complete)
        for line in complete.decode(errors="replace").splitlines():
            if line.startswith(STEP):
                progress(line.removeprefix(STEP))


class Watch:
    """Decides when the holding is up, and says how far it is; made before the hosts start."""

    def __init__(self, dsn: str, url: str) -> None:
        self._count = AgentCount(dsn)
        self._count.begin()
        self._url = url
        self.agents = Agents(0, 0)
        self._said = Agents(0, 0)
        self._next_probe = self._next_word = 0.0
        self._moved = time.monotonic()

    def is_up(self, progress: Progress) -> bool:
        """Probe, at most twice a second."""
        now = time.monotonic()
        if now < self._next_probe:
            return False
        self._next_probe = now + PROBE_EVERY
        agents = self._count()
        if agents.live > self.agents.live:
            self._moved = now
        self.agents = agents
        if agents.complete and answers(f"{self._url}/healthz"):
            return True
        self._say(progress, now)
        return False

    def _say(self, progress: Progress, now: float) -> None:
        if now - self._moved > PATIENCE:
            self._moved = now
            progress(f"Still waiting: {self.agents}. The logs of host, bus and ingest may say why.")
        elif self.agents != self._said and now >= self._next_word:
            self._said, self._next_word = self.agents, now + SAY_EVERY
            progress(str(self.agents))

    def close(self) -> None:
        """Close the connection to the database."""
        self._count.close()


def up(options: Options, plan: Plan | None = None) -> int:
    """Run an installation; return the exit code."""
    try:
        Installation(options, os.environ, plan or Plan()).run()
    except EmbeddedError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def main(arguments: list[str]) -> int:
    """`manage.py up` with these arguments."""
    return up(parse(arguments))
