"""L2: does the agent obey? It is paused for some seconds and resumed; nothing is ended."""

import asyncio
import contextlib
from typing import Final

import msgspec

from claytom_agent.check.findings import Report
from claytom_agent.check.observer import Observer
from claytom_agent.check.reporting import LATE, state_in_presence
from claytom_agent.check.working import FAULTS, make_item, put, remove
from claytom_agent.client import iso
from claytom_agent.messages import Answer, Pong, ce_type, decode, encode

ANSWER_S: Final = 2.0
STILL_S: Final = 7.0
"""How long a paused agent is tempted: a pull that was waiting when it was paused lasts 5 s."""
ORDER_REMEDY: Final = "answer the order at its reply subject with {status: accepted}, and do it"


async def check_management(observer: Observer, report: Report) -> None:
    """Pause, tempt, resume; offer and cancel an item; note what was told of costs and escalations."""
    try:
        paused = await _order(observer, report, "pause", "paused")
        if paused:
            await _check_still(observer, report)
    finally:
        with contextlib.suppress(*FAULTS):
            await _ask(observer, "agent.resume", encode({"reason": "conformance check is over"}))
    if paused:
        await _order(observer, report, "resume", None)
    await _check_offer(observer, report)
    await _check_cancel(observer, report)
    for name, what in (("usage.cost", "cost"), ("escalation.raise", "escalation")):
        if any(seen.kind == ce_type(name) for seen in observer.told):
            report.passed("L2", what, "was told during the check")
        else:
            report.skipped("L2", what, "the agent had none to tell during the check")
    report.skipped("L2", "drain and retire", "not tried: they would end the agent")


async def _ask(observer: Observer, name: str, body: bytes) -> bytes:
    headers = observer.headers(name, f"check-{iso()}")
    reply = await observer.bus.request(observer.identity.subject, body, headers=headers, timeout_s=ANSWER_S)
    return reply.data


async def _order(observer: Observer, report: Report, verb: str, state: str | None) -> bool:
    """Give an order; say whether it was obeyed. `state` is what presence must tell; None: anything but paused."""
    fault = await _answer_fault(observer, f"agent.{verb}", encode({"reason": "conformance check"}))
    if fault:
        report.failed("L2", verb, fault, ORDER_REMEDY)
        return False
    pong = await _pong(observer)
    if pong is None or (pong.state != state if state else pong.state == "paused"):
        told = "nothing" if pong is None else pong.state
        report.failed("L2", verb, f"accepted, but a ping then says {told}", "change the state before answering")
        return False
    wait = observer.options.presence_s * LATE
    if state is not None and not await state_in_presence(observer, state, wait):
        report.failed("L2", verb, f"presence does not say {state} within {wait:g} s", "send presence at once")
        return True
    report.passed("L2", verb, f"the agent is {pong.state}")
    return True


async def _answer_fault(observer: Observer, name: str, body: bytes) -> str:
    try:
        answer = decode(Answer, await _ask(observer, name, body))
    except FAULTS as error:
        return str(error)
    except msgspec.DecodeError as error:
        return f"the answer is none: {error}"
    return "" if answer.status == "accepted" else f"rejected ({answer.code}): {answer.reason}"


async def _pong(observer: Observer) -> Pong | None:
    try:
        return decode(Pong, await _ask(observer, "agent.ping", b"{}"))
    except (*FAULTS, msgspec.DecodeError):
        return None


async def _check_still(observer: Observer, report: Report) -> None:
    what = "paused agent"
    try:
        item = await put(observer, observer.options.work_s)
    except FAULTS as error:
        report.skipped("L2", what, f"the check could put no item into the queue: {error}")
        return
    await asyncio.sleep(STILL_S)
    mine = [seen for seen in observer.results_of(item.id) if seen.source == observer.identity.subject]
    await remove(observer.bus, item.seq)
    if mine:
        report.failed(
            "L2", what, "did an item while it was paused", "do not pull while paused; -NAK what still comes"
        )
    else:
        report.passed("L2", what, f"did nothing for {STILL_S:g} s although there was work")


async def _check_offer(observer: Observer, report: Report) -> None:
    what, wait = "offer", observer.options.work_s
    work_id, body = make_item(observer, wait)
    try:
        answer = decode(Answer, await _ask(observer, "work.offer", body))
    except (*FAULTS, msgspec.DecodeError) as error:
        report.failed(
            "L2", what, str(error), "answer work.offer with {status: accepted} or {status: rejected, code}"
        )
        return
    if answer.status != "accepted":
        report.passed("L2", what, f"rejected ({answer.code})")
        return
    if await observer.until(lambda: bool(observer.results_of(work_id)), wait):
        report.passed("L2", what, "accepted, and its result came")
    else:
        report.failed("L2", what, f"accepted, but no result in {wait:.0f} s", "do what you accept")


async def _check_cancel(observer: Observer, report: Report) -> None:
    work_id, _ = make_item(observer, 1.0)
    fault = await _answer_fault(observer, "work.cancel", encode({"id": work_id, "reason": "conformance check"}))
    if fault:
        report.failed("L2", "cancel", fault, "answer work.cancel also for an item that is not at work (any more)")
    else:
        report.passed("L2", "cancel", "answered")
