"""What a single agent meets: a desk that welcomes it, and the queue of its role."""

import asyncio
import json
import time
from typing import Any

from nats.aio.msg import Msg

from bus.streams import SECOND
from claytom_agent.client import Bus, Outgoing, event_headers, iso
from claytom_agent.login import with_credentials
from claytom_agent.messages import ce_type
from claytom_agent.tests.conftest import NatsServer

UNIT = "pricing"
ROLE = "operator"
SUBJECT = "org.claytom.pricing.operator.op-0042-g2"
QUEUE = {
    "durable_name": f"{UNIT}-{ROLE}",
    "filter_subject": f"org.claytom.{UNIT}.{ROLE}.any",
    "ack_policy": "explicit",
    "ack_wait": 2 * SECOND,
    "max_deliver": 5,
    "max_ack_pending": 2000,
    "deliver_policy": "all",
    "replay_policy": "instant",
}


async def make_queue(portal: Bus) -> None:
    """Create the queue's consumer, with a shorter time to acknowledge."""
    body = json.dumps({"stream_name": "CT_WORK", "config": QUEUE}).encode()
    reply = await portal.request(f"$JS.API.CONSUMER.DURABLE.CREATE.CT_WORK.{UNIT}-{ROLE}", body)
    assert "error" not in json.loads(reply.data), reply.data


async def queue_emptied(portal: Bus, within_s: float = 5.0) -> None:
    """Wait until nothing waits and nothing is out; an acknowledgement follows the result that one sees first."""
    deadline = time.monotonic() + within_s
    while True:
        reply = await portal.request(f"$JS.API.CONSUMER.INFO.CT_WORK.{UNIT}-{ROLE}")
        state = json.loads(reply.data)
        left = (state["num_pending"], state["num_ack_pending"])
        if left == (0, 0):
            return
        assert time.monotonic() < deadline, f"(waiting, out) is {left} after {within_s} s"
        await asyncio.sleep(0.02)


class Desk:
    """Answers hello as the portal does: the epoch is the revision of the agent's key in CT_LEASES."""

    def __init__(self, portal: Bus) -> None:
        self.portal = portal
        self.hellos: list[dict[str, Any]] = []
        self.goodbyes: list[dict[str, Any]] = []
        self.refusal: dict[str, Any] | None = None
        self.epochs: list[int] = []
        self.terms: dict[str, Any] = {"kpi_interval_s": 1.0, "presence_interval_s": 0.3}

    async def open(self) -> "Desk":
        await self.portal.subscribe(f"org.claytom.{UNIT}.command.hello", self._hello)
        await self.portal.subscribe(f"org.claytom.{UNIT}.command.goodbye", self._goodbye)
        return self

    async def _hello(self, message: Msg) -> None:
        self.hellos.append(json.loads(message.data))
        answer = self.refusal
        if answer is None:
            card = self.hellos[-1]["agent"]
            resumed = self.hellos[-1].get("resume", {}).get("last_epoch", 0)
            if not self.epochs or resumed != self.epochs[-1]:
                self.epochs.append(await self.portal.kv_put("CT_LEASES", f"{UNIT}.a-{card['id']}", b"{}"))
            answer = {"epoch": self.epochs[-1], **self.terms}
        await self.portal.publish(message.reply, json.dumps(answer).encode())

    async def _goodbye(self, message: Msg) -> None:
        self.goodbyes.append(json.loads(message.data))
        await self.portal.publish(message.reply, b'{"ok": true}')


async def put_work(portal: Bus, work_id: str, input: Any = None, **more: Any) -> int:
    """Put an item into the queue; return its number there."""
    body = {"id": work_id, "kind": "echo", "deadline": "2099-01-01T00:00:00Z", "input": input, **more}
    headers = event_headers(ce_type=ce_type("work.assigned"), source="portal/test", id=work_id, time=iso())
    ack = await portal.js_publish(Outgoing(f"org.claytom.{UNIT}.{ROLE}.any", json.dumps(body).encode(), headers))
    return ack.seq


class Ear:
    """Keeps what passes: (kind of metrics, headers, body)."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, str], dict[str, Any]]] = []

    async def on(self, portal: Bus) -> "Ear":
        async def hear(message: Msg) -> None:
            kind = message.subject.rpartition(".")[2]
            self.heard.append((kind, dict(message.headers or {}), json.loads(message.data)))

        await portal.subscribe(f"org.claytom.{UNIT}.metrics.*", hear)
        return self

    def bodies(self, kind: str) -> list[dict[str, Any]]:
        return [body for known, _, body in self.heard if known == kind]

    def headers(self, kind: str) -> list[dict[str, str]]:
        return [headers for known, headers, _ in self.heard if known == kind]


async def ask(portal: Bus, name: str, body: Any = None, subject: str = SUBJECT) -> dict[str, Any]:
    """Ask the agent something."""
    headers = event_headers(ce_type=ce_type(name), source="portal/test", id=iso(), time=iso(), dedup=False)
    reply = await portal.request(subject, json.dumps(body or {}).encode(), headers=headers, timeout_s=2.0)
    answer: dict[str, Any] = json.loads(reply.data)
    return answer


def login(server: NatsServer, subject: str = SUBJECT) -> str:
    """Make the login of a single agent, as the portal would; return the URL that names it."""
    path = server.directory / f"{subject.rpartition('.')[2]}.creds"
    path.write_text(server.store.issue_agent(subject).creds_text)
    return with_credentials(server.address, path)
