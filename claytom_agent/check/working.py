"""L1: an item of work, from the queue of the agent's role to its result and its acknowledgement."""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from claytom_agent.check.findings import Report
from claytom_agent.check.observer import STREAM, Observer, Seen
from claytom_agent.client import Bus, BusError, Disconnected, NoAnswerError, NobodyThereError, Outgoing, iso
from claytom_agent.messages import WorkResult, decode, encode
from claytom_agent.subjects import ROOT

TRIES: Final = 5
"""Items that are put into the queue at most: another agent of the role may be faster."""
ACK_S: Final = 3.0
FAULTS: Final = (BusError, Disconnected, NoAnswerError, NobodyThereError)


@dataclass(frozen=True, slots=True)
class Put:
    """An item that the check has put into the queue: its id, and its number there (0: not in the queue)."""

    id: str
    seq: int


def make_item(observer: Observer, wait_s: float) -> tuple[str, bytes]:
    """Make an item of the kind `check`, whose result nobody uses; return its id and body."""
    work_id = f"w-check-{secrets.token_hex(8)}"
    body = {
        "id": work_id,
        "kind": "check",
        "input": {"subject": observer.identity.subject},
        "deadline": iso(datetime.now(UTC) + timedelta(seconds=wait_s)),
        "priority": 9,
    }
    return work_id, encode(body)


async def put(observer: Observer, wait_s: float) -> Put:
    """Put an item into the queue of the agent's role; raises a fault of the bus."""
    identity = observer.identity
    work_id, body = make_item(observer, wait_s)
    headers = observer.headers("work.assigned", work_id, dedup=True)
    subject = f"{ROOT}.{identity.unit}.{identity.role}.any"
    ack = await observer.bus.js_publish(Outgoing(subject, body, headers), tries=2)
    return Put(work_id, ack.seq)


async def remove(bus: Bus, seq: int) -> bool:
    """Take an item off the queue again; False if the credential may not, or it is gone."""
    try:
        reply = await bus.request(
            f"$JS.API.STREAM.MSG.DELETE.{STREAM}", encode({"seq": seq, "no_erase": True}), timeout_s=1.0
        )
    except FAULTS:
        return False
    return bool(msgspec.json.decode(reply.data).get("success"))


async def check_work(observer: Observer, report: Report, epoch: int) -> None:
    """Put items into the queue until this agent has done one, and judge how it did it."""
    wait, identity = observer.options.work_s, observer.identity
    queue = f"{identity.unit}-{identity.role}"
    for _ in range(TRIES):
        try:
            item = await put(observer, wait)
        except FAULTS as error:
            report.skipped("L1", "work", f"the check could put no item into the queue: {error}")
            return
        await observer.until(lambda item=item: bool(observer.results_of(item.id)), wait)  # type: ignore[misc]
        results = observer.results_of(item.id)
        if not results:
            left = (
                "" if await remove(observer.bus, item.seq) else "; the item stays in the queue until its time is up"
            )
            remedy = f"pull from the consumer {queue} of {STREAM} and publish work.result"
            report.failed("L1", "work", f"no result of an item in {wait:.0f} s{left}", remedy)
            return
        if any(_is_of(observer, seen) for seen in results):
            report.passed("L1", "work", "pulled an item and published its result")
            await _judge(observer, report, item, epoch)
            return
    report.skipped("L1", "work", f"{TRIES} items were all done by other agents of the role")


def _is_of(observer: Observer, seen: Seen) -> bool:
    subject = observer.identity.subject
    return seen.source == subject or seen.body().get("agent") == subject


async def _judge(observer: Observer, report: Report, item: Put, epoch: int) -> None:
    result = next(seen for seen in observer.results_of(item.id) if _is_of(observer, seen))
    fault = _result_fault(observer, result, item.id, epoch)
    if fault:
        report.failed("L1", "result", fault, "see work.result in docs/messages.md")
    else:
        report.passed("L1", "result", f"under its id and epoch {epoch}")
    if not observer.sees_acks:
        report.skipped("L1", "acknowledgement", "this credential does not see acknowledgements ($JS.ACK)")
        return
    await observer.until(lambda: bool(observer.acks_of(item.seq)), ACK_S)
    acks = observer.acks_of(item.seq)
    if not acks:
        remedy = "publish +ACK to the item's reply subject once the result has its PubAck"
        report.failed("L1", "acknowledgement", f"none within {ACK_S:.0f} s of the result: it comes again", remedy)
    elif acks[0].number < result.number:
        remedy = "publish the result, wait for its PubAck, and only then acknowledge: else a crash loses the result"
        report.failed("L1", "acknowledgement", "came before the result", remedy)
    elif acks[0].data.startswith((b"-NAK", b"+TERM")):
        why = f"the item has its result, and still {acks[0].data[:20].decode(errors='replace')!r}"
        report.failed("L1", "acknowledgement", why, "acknowledge with +ACK what has a result")
    else:
        report.passed("L1", "acknowledgement", "after the result")


def _result_fault(observer: Observer, seen: Seen, work_id: str, epoch: int) -> str:
    subject = observer.identity.subject
    try:
        body = decode(WorkResult, seen.data)
    except msgspec.DecodeError as error:
        return str(error)
    checks = (
        (seen.source != subject, f"ce-source is {seen.source!r}, not the address"),
        (body.agent != subject, f"agent is {body.agent!r}, not the address"),
        (seen.headers.get("Nats-Msg-Id") != f"res-{work_id}", f"Nats-Msg-Id is not res-{work_id}"),
        (not seen.reply, "published without a reply subject, so without a PubAck"),
        (seen.epoch != epoch, f"header Claytom-Epoch {seen.epoch}, the pong says {epoch}"),
    )
    return "; ".join(text for wrong, text in checks if wrong)
