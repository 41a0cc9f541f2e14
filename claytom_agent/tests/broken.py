"""A small agent, written from the protocol alone and not on the SDK, that can be told to do one thing wrong."""

import asyncio
import json
import time
from datetime import UTC, datetime
from typing import Any

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from claytom_agent.login import Login, split_url
from claytom_agent.tests.single import SUBJECT

FAULTS = (
    "no-pong",
    "wrong-pong",
    "late-presence",
    "no-presence",
    "presence-epoch",
    "presence-source",
    "no-hello",
    "hello-protocol",
    "kpi-source",
    "kpi-extra",
    "kpi-range",
    "no-kpi",
    "no-work",
    "ack-first",
    "no-ack",
    "result-id",
    "result-source",
    "result-epoch",
    "result-unacknowledged",
    "dies-of-nonsense",
    "deaf-to-orders",
    "lies-about-pause",
    "works-while-paused",
    "rejects-cancel",
    "slow",
)


class SmallAgent:
    """Says hello, is seen, answers, works; wrong in the ways named by `faults`."""

    def __init__(self, url: str, *faults: str) -> None:
        assert set(faults) <= set(FAULTS)
        self.url = url
        self.faults = set(faults)
        self.epoch = 0
        self.paused = False
        self.deaf = False
        self.client: Client
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> "SmallAgent":
        server, path = split_url(self.url)
        options: dict[str, Any] = {"inbox_prefix": "_INBOX_host"}
        if path is not None:
            file = Login(path)
            prefix = file.read().claims.inbox_prefix
            options = {"inbox_prefix": prefix, "user_jwt_cb": file.jwt, "signature_cb": file.answer}
        self.client = await nats.connect(server, **options)
        await self.client.subscribe(SUBJECT, cb=self._on_address)
        await self._hello()
        for work in (self._presence(), self._kpis(), self._pull()):
            self._tasks.append(asyncio.create_task(work))
        return self

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.client.close()

    def _headers(self, name: str, id: str, **changes: str) -> dict[str, str]:
        return {
            "ce-specversion": "1.0",
            "ce-id": id,
            "ce-type": f"org.claytom.{name}.v1",
            "ce-source": SUBJECT,
            "Claytom-Epoch": str(self.epoch),
            "Nats-Msg-Id": id,
            **changes,
        }

    async def _hello(self) -> None:
        protocol = "claytom/0" if "hello-protocol" in self.faults else "claytom/1"
        card = {"id": "op-0042-g2", "role": "operator"}
        body = {"protocol": protocol, "agent": card, "resume": {"last_epoch": self.epoch}}
        if "no-hello" in self.faults:
            return
        headers = self._headers("agent.hello", "hello")
        subject = "org.claytom.pricing.command.hello"
        reply = await self.client.request(subject, json.dumps(body).encode(), headers=headers, timeout=2)
        self.epoch = json.loads(reply.data)["epoch"]

    async def _presence(self) -> None:
        while "no-presence" not in self.faults:
            epoch = self.epoch + ("presence-epoch" in self.faults)
            state = "paused" if self.paused else "idle"
            body = {
                "ts": _now(), "subsidiary": "pricing", "host": "a-op-0042-g2", "division": "pricing.a-op-0042-g2",
                "epoch": epoch, "observed_generation": 0, "total": 1, "counts": {state: 1}, "full": True,
                "agents": [["op-0042-g2", state, 0, 0]],
            }  # fmt: skip
            changes = {"Claytom-Epoch": str(epoch)}
            if "presence-source" in self.faults:
                changes["ce-source"] = "org.claytom.pricing.operator.op-0043-g1"
            headers = self._headers("host.presence", str(time.time()), **changes)
            await self.client.publish(
                "org.claytom.pricing.metrics.presence", json.dumps(body).encode(), headers=headers
            )
            await asyncio.sleep(1.5 if "late-presence" in self.faults else 0.3)

    async def _kpis(self) -> None:
        while "no-kpi" not in self.faults:
            kpis = {
                "throughput_per_day": 1, "quality_score": 50, "sla_met_pct": 50, "innovation_landings_mo": 0,
                "training_hours_w": 900 if "kpi-range" in self.faults else 1,
            }  # fmt: skip
            body: dict[str, Any] = {
                "ts": _now(), "subsidiary": "pricing", "role": "operator", "kpis": kpis, "okrs": {},
            }  # fmt: skip
            if "kpi-extra" in self.faults:
                body["mood"] = "good"
            changes = (
                {"ce-source": "org.claytom.pricing.operator.op-0043-g1"} if "kpi-source" in self.faults else {}
            )
            headers = self._headers("kpi.sample", f"kpi-pricing-op-0042-g2-{int(time.time())}", **changes)
            await self.client.publish("org.claytom.pricing.metrics.kpi", json.dumps(body).encode(), headers=headers)
            await asyncio.sleep(0.7)

    async def _pull(self) -> None:
        inbox = self.client.new_inbox()
        arrivals = await self.client.subscribe(inbox)
        ask = json.dumps({"batch": 1, "expires": 1_000_000_000}).encode()
        while not self.faults & {"no-work", "slow"}:
            if self.paused and "works-while-paused" not in self.faults:
                await asyncio.sleep(0.05)
                continue
            await self.client.publish("$JS.API.CONSUMER.MSG.NEXT.CT_WORK.pricing-operator", ask, reply=inbox)
            message = await arrivals.next_msg(timeout=3)
            if (message.headers or {}).get("Status") is None:
                await self._work(json.loads(message.data)["id"], message.reply)

    async def _work(self, work_id: str, reply: str) -> None:
        if "ack-first" in self.faults:
            await self.client.publish(reply, b"+ACK")
        body = {"ts": _now(), "work_id": work_id, "agent": SUBJECT, "status": "completed", "output": {}}
        changes = {}
        if "result-source" in self.faults:
            changes["ce-source"] = "org.claytom.pricing.operator.op-0043-g1"
        if "result-epoch" in self.faults:
            changes["Claytom-Epoch"] = str(self.epoch - 1)
        id = "mine" if "result-id" in self.faults else f"res-{work_id}"
        headers = self._headers("work.result", id, **changes)
        data, subject = json.dumps(body).encode(), "org.claytom.pricing.metrics.result"
        if "result-unacknowledged" in self.faults:
            await self.client.publish(subject, data, headers=headers)
        else:
            await self.client.request(subject, data, headers=headers, timeout=2)
        if not self.faults & {"ack-first", "no-ack"}:
            await self.client.publish(reply, b"+ACK")

    async def _on_address(self, message: Msg) -> None:
        kind = (message.headers or {}).get("ce-type", "").removeprefix("org.claytom.").removesuffix(".v1")
        if kind == "check.nonsense" and "dies-of-nonsense" in self.faults:
            self.deaf = True
        if self.deaf or not message.reply:
            return
        answer = self._answer(kind)
        if answer is not None:
            await self.client.publish(message.reply, json.dumps(answer).encode())

    def _answer(self, kind: str) -> dict[str, Any] | None:
        if kind == "agent.ping":
            if "no-pong" in self.faults:
                return None
            agent = SUBJECT.replace("0042", "0043") if "wrong-pong" in self.faults else SUBJECT
            state = "paused" if self.paused and "lies-about-pause" not in self.faults else "idle"
            return {"agent": agent, "state": state, "epoch": self.epoch, "host": "a-op-0042-g2"}
        if kind in ("agent.pause", "agent.resume"):
            if "deaf-to-orders" in self.faults:
                return None
            self.paused = kind == "agent.pause"
            return {"status": "accepted"}
        if kind == "work.cancel" and "rejects-cancel" not in self.faults:
            return {"status": "accepted"}
        code = "busy" if kind == "work.offer" else "unknown-type"
        return {"status": "rejected", "code": code}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
