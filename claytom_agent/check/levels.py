"""The levels of conformance (protocol.md 10), each as questions to a live agent."""

import asyncio
from typing import Any, Final

import msgspec

from claytom_agent.check.findings import LEVELS, Level, Report
from claytom_agent.check.hosting import check_host
from claytom_agent.check.managing import check_management
from claytom_agent.check.observer import CheckBus, CheckOptions, Observer
from claytom_agent.check.reporting import check_presence, check_samples
from claytom_agent.check.working import check_work
from claytom_agent.client import NoAnswerError, NobodyThereError, iso
from claytom_agent.identity import Identity
from claytom_agent.messages import PROTOCOL, Hello, Pong, decode

NONSENSE: Final = "org.claytom.check.nonsense.v1"
CONNECT_S: Final = 5.0


async def check_agent(subject: str, url: str, level: Level, options: CheckOptions | None = None) -> Report:
    """Check the agent at `subject` up to `level` over a connection of its own; takes about one KPI interval.

    Raises `SubjectError` for what is no agent's address, `LoginRefusedError` or `TimeoutError` without a server.
    """
    options = options or CheckOptions()
    identity = Identity.of(subject)
    bus = await CheckBus.connect(url, name="check", inbox_prefix=options.inbox_prefix, timeout_s=CONNECT_S)
    assert isinstance(bus, CheckBus)  # noqa: S101 - connect makes what it is called on
    report = Report(subject, level)
    observer = Observer(bus, identity, options)
    try:
        await observer.begin()
        wanted = LEVELS[: LEVELS.index(level) + 1]
        samples = asyncio.ensure_future(check_samples(observer, report))
        try:
            pong = await _ping(observer, report) if "L1" in wanted else None
            if pong is not None:
                await _check_l1(observer, report, pong)
                await samples  # a paused agent sends none
                if "L2" in wanted:
                    await check_management(observer, report)
                if "L3" in wanted:
                    await check_host(observer, report, pong)
            await samples
        finally:
            samples.cancel()
    finally:
        await bus.close()
    return report


async def _check_l1(observer: Observer, report: Report, pong: Pong) -> None:
    presence = asyncio.ensure_future(check_presence(observer, report, pong.epoch))
    try:
        await _nonsense(observer, report)
        await check_work(observer, report, pong.epoch)
        await presence
    finally:
        presence.cancel()
    _check_hello(observer, report, pong)


async def ask(observer: Observer, name: str, body: bytes = b"{}", *, timeout_s: float = 1.0) -> bytes:
    """Ask the agent something of the registry; raises as `Bus.request`."""
    headers = observer.headers(name, f"check-{iso()}")
    reply = await observer.bus.request(observer.identity.subject, body, headers=headers, timeout_s=timeout_s)
    return reply.data


async def _ping(observer: Observer, report: Report) -> Pong | None:
    """Ping; the lines after it make no sense for an agent that is not there."""
    what, subject = "ping", observer.identity.subject
    try:
        data = await ask(observer, "agent.ping")
    except NobodyThereError:
        report.failed("L1", what, "nobody has subscribed to the address", f"subscribe to {subject}")
        return None
    except NoAnswerError:
        why = "no answer within 1 s" + _refused(observer)
        report.failed("L1", what, why, "publish the pong to the request's reply subject, at once")
        return None
    try:
        pong = decode(Pong, data)
    except msgspec.DecodeError as error:
        report.failed("L1", what, f"the answer is no pong: {error}", 'answer {"agent", "state", "epoch", "host"}')
        return None
    if pong.agent != subject:
        report.failed("L1", what, f"the pong says that it is {pong.agent}", "say the address as `agent`")
    else:
        report.passed("L1", what, f"{pong.state}, epoch {pong.epoch}, host {pong.host}")
    return pong


def _refused(observer: Observer) -> str:
    """Say what the server refused to the check itself, which looks like silence."""
    return f" (the server refused to the check: {observer.bus.complaints[-1]})" if observer.bus.complaints else ""


def _check_hello(observer: Observer, report: Report, pong: Pong) -> None:
    what = "hello"
    if not observer.hellos:
        if pong.epoch > 0:
            report.skipped("L1", what, f"said before the check began: it speaks under epoch {pong.epoch}")
        else:
            remedy = "send agent.hello before anything else and speak under the epoch of the welcome"
            report.failed("L1", what, "no hello was seen, and the epoch is 0", remedy)
        return
    hello = observer.hellos[-1]
    try:
        body = decode(Hello, hello.data)
    except msgspec.DecodeError as error:
        report.failed("L1", what, str(error), "see agent.hello in docs/messages.md")
        return
    card: Any = body.agent
    faults = [
        fault
        for wrong, fault in (
            (body.protocol != PROTOCOL, f"the protocol is {body.protocol!r}, not {PROTOCOL!r}"),
            (hello.source != observer.identity.subject, f"ce-source is {hello.source!r}, not the address"),
            (isinstance(card, msgspec.UnsetType), "it names no `agent`"),
            (not hello.reply, "it is no request: nobody can be answered"),
        )
        if wrong
    ]
    if faults:
        report.failed("L1", what, "; ".join(faults), "see agent.hello in docs/messages.md")
    else:
        report.passed("L1", what, f"answered; the agent speaks under epoch {pong.epoch}")


async def _nonsense(observer: Observer, report: Report) -> None:
    """A message that nobody understands must not end an agent."""
    what, remedy = "nonsense", "answer unknown types with {status: rejected, code: unknown-type}, and go on"
    headers = {**observer.headers("agent.ping", f"check-{iso()}"), "ce-type": NONSENSE}
    answered = True
    try:
        await observer.bus.request(observer.identity.subject, b'{"no": \xff', headers=headers, timeout_s=1.0)
    except (NoAnswerError, NobodyThereError):
        answered = False
    try:
        await ask(observer, "agent.ping")
    except (NoAnswerError, NobodyThereError):
        report.failed("L1", what, "after a message of an unknown type no ping is answered", remedy)
        return
    if answered:
        report.passed("L1", what, "an unknown type is answered, and the agent goes on")
    else:
        report.failed("L1", what, "a request of an unknown type is not answered within 1 s", remedy)
