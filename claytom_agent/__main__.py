"""Command line: `python -m claytom_agent host | enrol | check SUBJECT | ping SUBJECT | tail [SUBJECT]`."""

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import uvloop
from nats.aio.msg import Msg

from claytom_agent import enrolment
from claytom_agent.check import LEVELS, CheckOptions, check_agent
from claytom_agent.client import Bus, LoginRefusedError, NoAnswerError, NobodyThereError, event_headers, iso
from claytom_agent.host import Host, HostFailedError, HostOptions, default_host_id
from claytom_agent.journal import JournalBusyError
from claytom_agent.login import split_url, with_credentials
from claytom_agent.messages import ce_type
from claytom_agent.subjects import CORPORATE, ROOT, SubjectError, check_host_id, check_subsidiary, parse_address

log = logging.getLogger("claytom_agent")


def check_main() -> int:
    """Run `claytom-check SUBJECT`, which is `python -m claytom_agent check SUBJECT`."""
    return main(["check", *sys.argv[1:]])


def main(argv: list[str] | None = None) -> int:
    """Run the command; return the exit status: 0 good, 1 failed, 2 refused or wrong arguments."""
    options = _parser().parse_args(argv)
    logging.basicConfig(
        level=options.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    options.nats = with_credentials(options.nats or "", options.creds)
    if not options.nats:
        log.error("no server: give --nats URL or set %s", " or ".join(options.variables))
        return 2
    try:
        return int(uvloop.run(options.command(options)))
    except (SubjectError, LoginRefusedError) as error:
        log.error("%s", error)  # noqa: TRY400 - the sentence says it all
        return 2
    except (HostFailedError, JournalBusyError, TimeoutError) as error:
        log.exception("%s", error)  # noqa: TRY401 - the cause follows
        return 1
    except KeyboardInterrupt:
        return 0


def _server(kind: str, *variables: str) -> argparse.ArgumentParser:
    """Return the arguments that say where the server is and who asks it; by default as the variables say."""
    shared = argparse.ArgumentParser(add_help=False)
    named = next((os.environ[name] for name in variables if os.environ.get(name)), None)
    shared.add_argument("--nats", default=named, help=f"URL of the server ({', '.join(variables)})")
    shared.add_argument(
        "--creds", default=os.environ.get("NATS_HOST_CREDS"), help=f"credentials: a {kind} (NATS_HOST_CREDS)"
    )
    shared.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    shared.set_defaults(variables=variables)
    return shared


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m claytom_agent", description="Agent SDK and agent host")
    hosting = _server("directory", "NATS_HOST_URL")
    asking = _server("file", "NATS_URL", "NATS_HOST_URL")  # whoever asks an agent is an operator, and no host
    commands = parser.add_subparsers(required=True)
    host = commands.add_parser("host", parents=[hosting], help="run the agents of the divisions it can get")
    host.add_argument("--id", default=None, help="unique name of the host; keeps its divisions over a restart")
    host.add_argument("--capacity", type=int, default=200, help="divisions at most (default 200)")
    host.add_argument("--subsidiary", action="append", default=[], help="only these (repeat; 'corporate' too)")
    host.add_argument("--chaos", action="store_true", help="obey fault injection")
    host.add_argument("--status-file", type=Path, default=None, help="write its state here every second")
    host.add_argument(
        "--spool-dir",
        type=Path,
        default=_default_spool_directory(),
        help="where hosts of this machine keep what the portal has not received yet (default %(default)s)",
    )
    host.set_defaults(command=_host)
    check = commands.add_parser("check", parents=[asking], help="say whether an agent conforms, and what is amiss")
    check.add_argument("subject", help="the agent's address, org.claytom.<subsidiary>.<role>.<agentId>")
    check.add_argument("--level", default="L1", choices=LEVELS, help="up to which level (default L1)")
    check.add_argument("--kpi-interval", type=float, default=60.0, metavar="S", help="of the agent (default 60)")
    check.add_argument("--presence-interval", type=float, default=5.0, metavar="S", help="of it (default 5)")
    check.add_argument("--work-timeout", type=float, default=30.0, metavar="S", help="for an item (default 30)")
    check.add_argument("--inbox", default="_INBOX_host", help="prefix of the inbox that the credential may use")
    check.set_defaults(command=_check)
    enrol = commands.add_parser("enrol", help="exchange a one-time token for the login of an agent")
    enrol.add_argument("--portal", required=True, help="address of the portal, https://…")
    enrol.add_argument("--token", required=True, help="one-time token")
    enrol.add_argument("--out", type=Path, default=Path("agent.env"), help="file for the agent's environment")
    enrol.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    enrol.set_defaults(command=_enrol, nats="none")
    ping = commands.add_parser("ping", parents=[asking], help="ask an agent for its state")
    ping.add_argument("subject")
    ping.set_defaults(command=_ping)
    tail = commands.add_parser("tail", parents=[asking], help="show messages as they pass")
    tail.add_argument("subject", nargs="?", default=f"{ROOT}.>")
    tail.set_defaults(command=_tail)
    return parser


def _default_spool_directory() -> Path:
    if given := os.environ.get("CLAYTOM_SPOOL_DIR"):
        return Path(given)
    if data := os.environ.get("DATA_DIR"):
        return Path(data) / "spool"
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "claytom/spool"


async def _host(options: argparse.Namespace) -> int:
    for slug in options.subsidiary:
        if slug != CORPORATE:
            check_subsidiary(slug)
    gc.set_threshold(20_000, 20, 50)  # tens of thousands of agents live as long as the process
    host = Host(
        HostOptions(
            url=options.nats,
            id=check_host_id(options.id or default_host_id()),
            capacity=options.capacity,
            subsidiaries=tuple(options.subsidiary),
            chaos=options.chaos,
            status_file=options.status_file,
            spool_dir=options.spool_dir,
        )
    )
    _on_signals(host.stop)
    await host.run()
    return 0


def _on_signals(stop: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


async def _check(options: argparse.Namespace) -> int:
    times = CheckOptions(options.kpi_interval, options.presence_interval, options.work_timeout, options.inbox)
    report = await check_agent(options.subject, options.nats, options.level, times)
    sys.stdout.write(report.table())
    return 0 if report.conforms(options.level) else 1


async def _enrol(options: argparse.Namespace) -> int:
    """Keep the login beside the environment file, under the same name with `.creds`."""
    try:
        login = enrolment.enrol(options.portal, options.token, options.out.with_suffix(".creds"))
    except enrolment.EnrolmentError as error:
        log.error("%s", error)  # noqa: TRY400 - the sentence says it all
        return 1
    lines = (f"CLAYTOM_SUBJECT={login.subject}", f"NATS_URL='{login.url}'", f"CLAYTOM_PORTAL={options.portal}")
    options.out.write_text("\n".join(lines) + "\n")
    sys.stdout.write(
        f"{login.subject}: login in {options.out.with_suffix('.creds')}, environment in {options.out}\n"
    )
    return 0


async def _ping(options: argparse.Namespace) -> int:
    address = str(parse_address(options.subject))
    bus = await Bus.connect(_of_unit(options.nats, address), name="ping", timeout_s=5.0)
    try:
        kind = ce_type("agent.ping")
        headers = event_headers(ce_type=kind, source="host/cli", id=iso(), time=iso(), dedup=False)
        reply = await bus.request(address, b"{}", headers=headers, timeout_s=1.0)
    except (NobodyThereError, NoAnswerError) as error:
        log.error("%s", error)  # noqa: TRY400 - the sentence says it all
        return 1
    finally:
        await bus.close()
    sys.stdout.write(reply.data.decode() + "\n")
    return 0


def _of_unit(url: str, subject: str) -> str:
    """Of a host's directory of credentials take that of the unit which the subject names."""
    _, path = split_url(url)
    tokens = subject.split(".")
    if path is None or not path.is_dir() or len(tokens) < 3:
        return url
    return with_credentials(url, path / f"{tokens[2]}.creds")


async def _tail(options: argparse.Namespace) -> int:
    bus = await Bus.connect(_of_unit(options.nats, options.subject), name="tail", timeout_s=5.0)

    async def show(message: Msg) -> None:
        kind = (message.headers or {}).get("ce-type", "-")
        sys.stdout.write(f"{message.subject} {kind} {message.data.decode(errors='replace')}\n")
        sys.stdout.flush()

    await bus.subscribe(options.subject, show)
    _on_signals(bus.closed.set)
    await bus.closed.wait()
    await bus.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
