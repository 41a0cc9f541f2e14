"""What `manage.py up` can be told."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from deployment.embedded.environment import default_data_directory

DEFAULT_PORT = 8000


@dataclass(frozen=True)
class Options:
    """The options of one start."""

    data_dir: Path
    port: int | None = None  # None: 8000, or any free one
    hosts: int = 1
    agents_per_subsidiary: int | None = None
    chaos: bool = False
    free_ports: bool = False
    nats_listen: str = "127.0.0.1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser."""
    parser.add_argument("--port", type=_port, help=f"of the portal (default {DEFAULT_PORT}, or a free one)")
    parser.add_argument(
        "--data-dir", type=Path, default=default_data_directory(), help="where all data are kept (default var/)"
    )
    parser.add_argument("--hosts", type=_count, default=1, metavar="N", help="agent hosts to start (default 1)")
    parser.add_argument(
        "--agents-per-subsidiary",
        type=_count,
        metavar="N",
        help="fewer agents for a small machine; quotas are scaled, and the pages say so",
    )
    parser.add_argument("--chaos", action="store_true", help="let faults be injected, for demonstrations")
    parser.add_argument(
        "--free-ports",
        action="store_true",
        help="give the servers any free ports, never the usual ones: for several holdings side by side",
    )
    parser.add_argument(
        "--nats-listen",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="where agent hosts of other machines reach NATS (default: not at all)",
    )


def parse(arguments: list[str]) -> Options:
    """Read the command line of `manage.py up`."""
    parser = argparse.ArgumentParser(prog="manage.py up", description="Start the whole holding on this machine.")
    add_arguments(parser)
    return from_namespace(parser.parse_args(arguments))


def from_namespace(given: argparse.Namespace) -> Options:
    """The options among parsed arguments."""
    return Options(
        data_dir=given.data_dir.absolute(),
        port=given.port,
        hosts=given.hosts,
        agents_per_subsidiary=given.agents_per_subsidiary,
        chaos=given.chaos,
        free_ports=given.free_ports,
        nats_listen=given.nats_listen,
    )


def _port(text: str) -> int:
    port = int(text)
    if not 0 < port < 65536:
        raise argparse.ArgumentTypeError("a port is between 1 and 65535")
    return port


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return count
