"""An agent of level L1 on a plain socket: Python's standard library and the text protocol of NATS, nothing else.

    CLAYTOM_SUBJECT=org.claytom.pricing.operator.op-0042-g2 NATS_URL=nats://… [CLAYTOM_CREDS=agent.creds] \
        python examples/raw/agent.py

It shows that the protocol needs no library. A real agent in Python should use `claytom_agent.agent.Agent`: this one
works on one item at a time in one thread, and when the line breaks it ends, to be started again.
"""

import base64
import hashlib
import json
import os
import re
import select
import signal
import socket
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

SUBJECT = os.environ["CLAYTOM_SUBJECT"]
URL = urlsplit(os.environ["NATS_URL"])
CREDS = os.environ.get("CLAYTOM_CREDS", "")
_, _, UNIT, ROLE, ID = SUBJECT.split(".")
INBOX = f"_INBOX_{UNIT}_{ROLE}_{ID}" if CREDS else "_INBOX_host"
JSON = dict[str, Any]


# --- Ed25519 (RFC 8032), to answer the server's challenge with the seed of a credential ----------------------

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int, int, int]
BASE_Y = 4 * pow(5, -1, P) % P


def _base() -> Point:
    square = (BASE_Y * BASE_Y - 1) * pow(D * BASE_Y * BASE_Y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    x = P - x if x & 1 else x
    return x, BASE_Y, 1, x * BASE_Y % P


def _add(a: Point, b: Point) -> Point:
    r, s = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    t, z = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = s - r, z - t, z + t, s + r
    return e * f % P, g * h % P, f * g % P, e * h % P


def _times(factor: int) -> bytes:
    """Multiply the base point; return it compressed."""
    result, step = (0, 1, 1, 0), _base()
    while factor:
        if factor & 1:
            result = _add(result, step)
        step, factor = _add(step, step), factor >> 1
    inverse = pow(result[2], -1, P)
    x, y = result[0] * inverse % P, result[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _number(*parts: bytes) -> int:
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little") % L


def sign(seed: bytes, message: bytes) -> bytes:
    """Sign with Ed25519."""
    digest = hashlib.sha512(seed).digest()
    secret = int.from_bytes(digest[:32], "little") & (1 << 254) - 8 | 1 << 254
    public = _times(secret)
    nonce = _number(digest[32:], message)
    point = _times(nonce)
    return point + ((nonce + _number(point, public, message) * secret) % L).to_bytes(32, "little")


def login(info: JSON) -> JSON:
    """Answer the server's greeting: by the credential file, else by user and password."""
    if not CREDS:
        return {"user": unquote(URL.username or ""), "pass": unquote(URL.password or "")}
    jwt, seed = re.findall(r"-----BEGIN [A-Z ]+-----\s*(\S+)", Path(CREDS).read_text())
    raw = base64.b32decode(seed + "=" * (-len(seed) % 8))[2:34]
    signature = base64.urlsafe_b64encode(sign(raw, info["nonce"].encode())).decode().rstrip("=")
    return {"jwt": jwt, "sig": signature}


# --- the text protocol of NATS ------------------------------------------------------------------------------


class Message:
    """A message as it came."""

    def __init__(self, subject: str, reply: str, head: bytes, body: bytes) -> None:
        self.subject, self.reply, self.body = subject, reply, body
        first, *lines = head.decode().split("\r\n")
        self.status = first.removeprefix("NATS/1.0").strip()[:3]
        pairs = (line.partition(":") for line in lines if ":" in line)
        self.headers = {name: value.strip() for name, _, value in pairs}


class Line:
    """One connection: publish, subscribe, and read what comes."""

    def __init__(self) -> None:
        self.socket = socket.create_connection((URL.hostname or "127.0.0.1", URL.port or 4222), timeout=5)
        self.buffer = b""
        self.early: list[Message] = []
        """What came while an answer was waited for."""
        self.asked = 0
        info = json.loads(self._line().partition(b" ")[2])
        options = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True, "protocol": 1}
        hello = json.dumps({**options, "name": f"agent:{ID}", **login(info)}).encode()
        self.socket.sendall(b"CONNECT " + hello + b"\r\nPING\r\n")
        answer = self._line()
        if answer != b"PONG":
            raise SystemExit(f"the server refuses the login: {answer.decode()}")

    def subscribe(self, subject: str, number: int) -> None:
        """Ask for the messages of a subject."""
        self.socket.sendall(f"SUB {subject} {number}\r\n".encode())

    def publish(self, subject: str, body: bytes, headers: JSON | None = None, reply: str = "") -> None:
        """Publish, with headers if there are any."""
        head = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        block = f"NATS/1.0\r\n{head}\r\n".encode() if head else b""
        word, sizes = ("HPUB", f"{len(block)} {len(block) + len(body)}") if head else ("PUB", f"{len(body)}")
        self.socket.sendall(f"{word} {subject} {reply} {sizes}\r\n".encode() + block + body + b"\r\n")

    def request(self, subject: str, body: JSON, headers: JSON, seconds: float = 5.0) -> JSON:
        """Ask and wait for the answer; raise TimeoutError."""
        self.asked += 1
        inbox = f"{INBOX}.{self.asked}"
        self.publish(subject, json.dumps(body).encode(), headers, inbox)
        until = time.monotonic() + seconds
        while message := self._next(until):
            if message.subject != inbox:
                self.early.append(message)
            elif message.status:
                break  # 503: nobody is there
            else:
                answer: JSON = json.loads(message.body)
                return answer
        raise TimeoutError(f"no answer on {subject}")

    def next(self, until: float) -> Message | None:
        """Return the next message, or None when none came until then (monotonic seconds)."""
        return self.early.pop(0) if self.early else self._next(until)

    def _next(self, until: float) -> Message | None:
        while True:
            while b"\r\n" in self.buffer:
                word, size = self._frame()
                if len(self.buffer) < size:
                    break
                frame, self.buffer = self.buffer[:size], self.buffer[size:]
                if word == b"PING":
                    self.socket.sendall(b"PONG\r\n")
                elif word == b"-ERR":
                    print(frame.decode().strip(), file=sys.stderr)
                elif word in (b"MSG", b"HMSG"):
                    return _message(frame)
            left = until - time.monotonic()
            if left <= 0 or not select.select([self.socket], [], [], left)[0]:
                return None
            self._fill()

    def _frame(self) -> tuple[bytes, int]:
        """Return the first word of what is in the buffer, and how many bytes belong to it."""
        line = self.buffer[: self.buffer.index(b"\r\n") + 2]
        words = line.split()
        size = int(words[-1]) + 2 if words[0] in (b"MSG", b"HMSG") else 0
        return words[0], len(line) + size

    def _line(self) -> bytes:
        while b"\r\n" not in self.buffer:
            self._fill()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def _fill(self) -> None:
        data = self.socket.recv(65_536)
        if not data:
            raise SystemExit("the server closed the connection")
        self.buffer += data


def _message(frame: bytes) -> Message:
    line, _, rest = frame.partition(b"\r\n")
    word, subject, _, *more = line.decode().split()
    sizes = 2 if word == "HMSG" else 1
    head = int(more[-2]) if sizes == 2 else 0
    return Message(subject, more[0] if len(more) > sizes else "", rest[:head], rest[head:-2])


# --- the agent ----------------------------------------------------------------------------------------------


def now() -> str:
    """The time, as the protocol writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Agent:
    """Says hello, is seen, answers, reports, works."""

    def __init__(self) -> None:
        self.line = Line()
        self.epoch = 0
        self.state = "starting"
        self.done = self.in_time = self.presences = 0
        self.began = time.monotonic()
        self.line.subscribe(f"{INBOX}.*", 1)
        self.line.subscribe(SUBJECT, 2)
        self.terms = self.hello()
        self.state = "idle"

    def head(self, kind: str, identity: str, *, store: bool = False) -> JSON:
        """Build the headers of a message; `store` adds the id by which a stream knows it again."""
        head = {
            "ce-specversion": "1.0", "ce-id": identity, "ce-type": f"org.claytom.{kind}.v1", "ce-source": SUBJECT,
            "ce-time": now(), "Content-Type": "application/json", "Claytom-Epoch": self.epoch,
        }  # fmt: skip
        return {**head, "Nats-Msg-Id": identity} if store else head

    def hello(self) -> JSON:
        """Ask for terms until welcome."""
        card = {"id": ID, "role": ROLE, "name": "raw-example", "version": "1"}
        body = {"protocol": "claytom/1", "agent": card, "worker": {"kind": "callable", "lang": "python"}}
        wait = 1.0
        while True:
            try:
                terms = self.line.request(
                    f"org.claytom.{UNIT}.command.hello", body, self.head("agent.hello", now())
                )
                if "epoch" in terms:
                    self.epoch = terms["epoch"]
                    return terms
                print("hello refused:", terms.get("code"), terms.get("reason", ""), file=sys.stderr)
                if terms.get("code") in ("fenced", "not-enrolled", "protocol"):
                    raise SystemExit(1)
                wait = terms.get("retry_after_s", wait)
            except TimeoutError as error:
                print(error, file=sys.stderr)
            time.sleep(wait)
            wait = min(2 * wait, 60.0)

    def store(self, token: str, kind: str, identity: str, body: JSON) -> None:
        """Publish to a stream, wait for its PubAck; repeat with the same id."""
        for wait in (0.5, 1.0, 2.0, 0.0):
            try:
                head = self.head(kind, identity, store=True)
                answer = self.line.request(f"org.claytom.{UNIT}.metrics.{token}", body, head)
                if "error" not in answer:
                    return
            except TimeoutError as error:
                print(error, file=sys.stderr)
            time.sleep(wait)
        raise SystemExit("the stream does not take what it is sent")

    def run(self) -> None:
        """Do what is due, and answer what comes, until stopped."""
        presence = kpi = pull = 0.0
        while True:
            moment = time.monotonic()
            if moment >= presence:
                self.presence()
                presence = moment + self.terms.get("presence_interval_s", 5.0)
            if moment >= kpi:
                self.kpi()
                kpi = moment + self.terms.get("kpi_interval_s", 60.0)
            if moment >= pull:
                ask = b'{"batch": 1, "expires": 5000000000}'
                self.line.publish(f"$JS.API.CONSUMER.MSG.NEXT.CT_WORK.{UNIT}-{ROLE}", ask, reply=f"{INBOX}.work")
                pull = moment + 7.0
            message = self.line.next(min(presence, kpi, pull))
            if message is None:
                continue
            if message.subject == SUBJECT:
                self.answer(message)
            elif message.status:
                pull = time.monotonic() + (0.0 if message.status == "408" else 1.0)
            elif message.reply:
                self.work(message)
                pull = 0.0

    def answer(self, message: Message) -> None:
        """Answer a ping; say of all else that it is not understood."""
        pong = {"agent": SUBJECT, "state": self.state, "epoch": self.epoch, "host": f"a-{ID}"}
        known = message.headers.get("ce-type") == "org.claytom.agent.ping.v1"
        body = pong if known else {"status": "rejected", "code": "unknown-type"}
        if message.reply:
            self.line.publish(message.reply, json.dumps(body).encode())

    def presence(self) -> None:
        """Be seen."""
        self.presences += 1
        body = {
            "ts": now(), "subsidiary": UNIT, "host": f"a-{ID}", "division": f"{UNIT}.a-{ID}", "epoch": self.epoch,
            "observed_generation": 0, "total": 1, "counts": {self.state: 1}, "full": True,
            "agents": [[ID, self.state, self.done, 0]],
        }  # fmt: skip
        head = self.head("host.presence", f"pr-{ID}-{self.epoch}-{self.presences}")
        self.line.publish(f"org.claytom.{UNIT}.metrics.presence", json.dumps(body).encode(), head)

    def kpi(self) -> None:
        """Send the standard JSON, as counted since the start; what this agent does not do is 0."""
        days = max((time.monotonic() - self.began) / 86_400, 1 / 24)
        kpis = {
            "throughput_per_day": self.done / days, "quality_score": 100,
            "sla_met_pct": 100 * self.in_time / self.done if self.done else 100,
            "innovation_landings_mo": 0, "training_hours_w": 0,
        }  # fmt: skip
        body = {"ts": now(), "subsidiary": UNIT, "role": ROLE, "kpis": kpis, "okrs": {"O1": "Echo in time"}}
        interval = self.terms.get("kpi_interval_s", 60.0)
        self.store("kpi", "kpi.sample", f"kpi-{UNIT}-{ID}-{int(time.time() // interval * interval)}", body)

    def work(self, message: Message) -> None:
        """Do an item: publish the result, wait for the PubAck, and only then take it off the queue."""
        try:
            item = json.loads(message.body)
        except ValueError as error:
            self.line.publish(message.reply, f"+TERM {error}".encode())
            return
        body = {
            "ts": now(), "work_id": item["id"], "agent": SUBJECT, "status": "completed",
            "output": {"echo": item.get("input")}, "attempt": int(message.reply.split(".")[-5]),
        }  # fmt: skip
        self.store("result", "work.result", f"res-{item['id']}", body)
        self.line.publish(message.reply, b"+ACK")
        self.done += 1
        self.in_time += datetime.now(UTC) <= datetime.fromisoformat(item["deadline"])

    def goodbye(self) -> None:
        """Leave; best effort."""
        body = {"agent": SUBJECT, "epoch": self.epoch, "reason": "stopped"}
        try:
            head = self.head("agent.goodbye", f"goodbye-{ID}-{self.epoch}")
            self.line.request(f"org.claytom.{UNIT}.command.goodbye", body, head, 2.0)
        except TimeoutError as error:
            print(error, file=sys.stderr)


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    agent = Agent()
    try:
        agent.run()
    except KeyboardInterrupt:
        agent.goodbye()
