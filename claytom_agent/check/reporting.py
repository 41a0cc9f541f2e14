"""What the agent says of itself: samples (L0) and presence (L1)."""

import asyncio
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final

import msgspec

from claytom_agent.check.findings import Report
from claytom_agent.check.observer import Observer, Seen
from claytom_agent.messages import Presence, decode, decode_kpi, validate_kpi

SLACK: Final = 1.25
LATE: Final = 2.0
PRESENCES: Final = 3


async def check_samples(observer: Observer, report: Report) -> None:
    """L0: at least one good sample within an interval and a bit."""
    subject, wait = observer.identity.subject, observer.options.kpi_s * SLACK + 2.0
    what = "KPI sample"
    if not await observer.until(lambda: any(s.source == subject for s in observer.kpis), wait):
        strangers = sorted({seen.source or "none" for seen in observer.kpis})
        if strangers:
            why = f"the agent's samples carry the ce-source {', '.join(strangers)}"
            report.failed("L0", what, why, f"send the header ce-source: {subject}")
        else:
            why = f"none with ce-source {subject} in {wait:.0f} s"
            remedy = f"publish the standard JSON to org.claytom.{observer.identity.unit}.metrics.kpi every interval"
            report.failed("L0", what, why, remedy)
        return
    for seen in [seen for seen in observer.kpis if seen.source == subject]:
        reason = _sample_fault(seen)
        if reason:
            report.failed("L0", what, reason, "see kpi.sample in docs/messages.md: the body is exactly that JSON")
            return
    report.passed("L0", what, "the standard JSON, within its limits")


def _sample_fault(seen: Seen) -> str:
    try:
        body = decode_kpi(seen.data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return str(error)
    return validate_kpi(seen.subject.split("."), seen.source, body, datetime.now(UTC)) or ""


async def check_presence(observer: Observer, report: Report, epoch: int) -> None:
    """L1: presence at every interval, of this agent, under its epoch."""
    interval = observer.options.presence_s
    wait = interval * LATE * PRESENCES
    start = len(observer.presences)
    await observer.until(lambda: len(observer.presences) - start >= PRESENCES, wait)
    seen = observer.presences[start:]
    if not seen:
        unit = observer.identity.unit
        remedy = f"publish host.presence to org.claytom.{unit}.metrics.presence every {interval:g} s"
        report.failed("L1", "presence", f"none in {wait:.0f} s", remedy)
        return
    times = [one.at for one in seen]
    gap = max((b - a for a, b in pairwise(times)), default=wait)
    if gap > interval * LATE:
        remedy = f"send it every {interval:g} s; after 15 s of silence an agent is not live"
        report.failed("L1", "presence", f"a gap of {gap:.1f} s at an interval of {interval:g} s", remedy)
    else:
        report.passed("L1", "presence", f"the longest gap was {gap:.1f} s")
    faults = next((fault for one in seen if (fault := _presence_fault(observer, one, epoch))), "")
    if faults:
        report.failed("L1", "presence body", faults, "see host.presence in docs/messages.md")
    else:
        report.passed("L1", "presence body", f"lists the agent, under epoch {epoch}")


def _presence_fault(observer: Observer, seen: Seen, epoch: int) -> str:
    identity = observer.identity
    try:
        body = decode(Presence, seen.data)
    except msgspec.DecodeError as error:
        return str(error)
    hosted = body.division != identity.lease
    checks: tuple[tuple[bool, str], ...] = (
        (not hosted and seen.source != identity.subject, f"ce-source is {seen.source!r}, not the address"),
        (body.subsidiary != identity.unit, f"subsidiary is {body.subsidiary!r}"),
        (body.full and not any(one[0] == identity.id for one in body.agents), f"does not list {identity.id}"),
        (body.epoch != epoch, f"epoch {body.epoch}, the pong says {epoch}"),
        (seen.epoch != body.epoch, f"header Claytom-Epoch {seen.epoch}, the body says {body.epoch}"),
    )
    return "; ".join(text for wrong, text in checks if wrong)


async def state_in_presence(observer: Observer, state: str, wait_s: float) -> bool:
    """Wait until presence tells that the agent is in a state."""

    def tells(seen: Seen) -> bool:
        agents: Any = seen.body().get("agents", [])
        return any(isinstance(one, list) and one[:2] == [observer.identity.id, state] for one in agents)

    start = len(observer.presences)
    await asyncio.sleep(0)
    return await observer.until(lambda: any(tells(seen) for seen in observer.presences[start:]), wait_s)
