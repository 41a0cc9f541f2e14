"""The connection of an agent or host: core NATS, JetStream publishes, atomic batches and small KV access.

Thin over nats-py, for what it lacks or does wrong for us: the first `flush()` is the login result (nats-py
may say "connected" before the server has checked the password), denied calls reach the log, JetStream answers
are one msgspec decode, and atomic batches (ADR-50) are sent by their headers.
"""

import asyncio
import contextlib
import logging
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec
import nats.errors
from nats.aio.client import PING_PROTO, Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from claytom_agent.login import CredentialsError, Login, split_url

log = logging.getLogger("claytom_agent.client")

MAX_BATCH: Final = 500
"""Messages of one atomic batch; the server's own limit is 1,000."""
RETRY_DELAYS: Final = (0.5, 1.0, 2.0)
WRONG_LAST_SEQUENCE: Final = frozenset({10071, 10164})
BATCH_HAS_KNOWN_ID: Final = 10201
BATCHES_TOO_MANY: Final = 10210
BATCHES_NOT_ALLOWED: Final = 10174
NO_MESSAGE: Final = 10037
REFUSED_PAUSE_S: Final = 0.1

MessageHandler = Callable[[Msg], Awaitable[None]]
Headers = Mapping[str, str]


class Disconnected(ConnectionError):  # noqa: N818 - a state of the line, named as callers speak of it
    """The connection is down now; nats-py goes on trying to restore it."""


class LoginRefusedError(ConnectionError):
    """The server refused the credential, or the user and password."""


class NoAnswerError(TimeoutError):
    """Nobody answered in time; what was asked for may or may not have happened."""


class NobodyThereError(LookupError):
    """No responder has subscribed to the subject (or no stream captures it)."""


class BusError(RuntimeError):
    """JetStream refused; `code` is its error code."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"{description} ({code})")
        self.code = code


class CasConflictError(BusError):
    """The key has another revision than the one expected."""


class _ApiError(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class PubAck(msgspec.Struct):
    """What JetStream says of a stored message; `duplicate` means that its id was already known."""

    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    batch: str = ""
    count: int = 0
    error: _ApiError | None = None


class _Stored(msgspec.Struct):
    seq: int = 0
    data: bytes = b""
    hdrs: bytes = b""


class _StoredAnswer(msgspec.Struct):
    message: _Stored = msgspec.field(default_factory=_Stored)
    error: _ApiError | None = None


_decode_ack = msgspec.json.Decoder(PubAck).decode
_decode_stored = msgspec.json.Decoder(_StoredAnswer).decode


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish: subject, body, headers (see `event_headers`)."""

    subject: str
    body: bytes
    headers: Headers


@dataclass(frozen=True, slots=True)
class KvEntry:
    """One value of a bucket, or the marker of its removal (`value` is None)."""

    key: str
    value: bytes | None
    revision: int
    expired: bool = False
    """Whether a marker stands for a value that reached its time to live, rather than was deleted."""


@dataclass(frozen=True, slots=True)
class BatchResult:
    """How a batch went: messages stored now, and messages that the stream already knew."""

    stored: int
    duplicates: int


def iso(moment: datetime | None = None) -> str:
    """Format as RFC 3339 in UTC with milliseconds and `Z`; the present if none is given."""
    moment = datetime.now(UTC) if moment is None else moment.astimezone(UTC)
    return moment.isoformat(timespec="milliseconds")[:-6] + "Z"


def event_headers(
    *,
    ce_type: str,
    source: str,
    id: str,
    time: str,
    epoch: int | None = None,
    seq: str | None = None,
    generation: int | None = None,
    dedup: bool = True,
) -> dict[str, str]:
    """Build the headers of a binary CloudEvent; `dedup` repeats `id` as `Nats-Msg-Id` (JetStream only)."""
    headers = {
        "ce-specversion": "1.0",
        "ce-id": id,
        "ce-type": ce_type,
        "ce-source": source,
        "ce-time": time,
        "Content-Type": "application/json",
    }
    if dedup:
        headers["Nats-Msg-Id"] = id
    if epoch is not None:
        headers["Claytom-Epoch"] = str(epoch)
    if seq is not None:
        headers["Claytom-Seq"] = seq
    if generation is not None:
        headers["Claytom-Generation"] = str(generation)
    return headers


class _Client(Client):
    """nats-py, except that a flush waits for all that was published before, and that whatever the server complains
    of, the connection is made anew.

    nats-py closes for good when the server says that a credential expired or was revoked, or that a limit is
    exceeded; and it is, by a login whose signing key has just gone: with its scope go all that it was allowed.
    """

    async def _send_ping(self, future: asyncio.Future[bool] | None = None) -> None:
        # nats-py's overtakes what is still to be written, and then its answer proves nothing about that.
        self._pongs.append(asyncio.get_running_loop().create_future() if future is None else future)
        await self._send_command(PING_PROTO)
        await self._flush_pending()

    async def _process_err(self, err_msg: str) -> None:
        text = err_msg.lower()
        if "permissions violation" in text or "stale connection" in text:
            await super()._process_err(err_msg)  # the one is told, the other reconnects already
            return
        error = nats.errors.Error(f"nats: {err_msg.strip(chr(39))}")
        await self._error_cb(error)
        await self._process_op_err(error)


def _is_refusal(text: str) -> bool:
    """Whether the server says that this login is not, or no longer, good."""
    text = text.lower()
    return "authorization violation" in text or "authentication" in text


class Bus:
    """One connection. Make it with `Bus.connect`; `close()` it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._batches = asyncio.Semaphore(8)
        self.closed = asyncio.Event()
        """Set when the connection is given up: by `close()`, or by a server that refuses the login."""
        self.closing = False
        self.refusals = 0
        """How often in a row the server has refused to take the connection back."""
        self._refused = False
        self._complaints: dict[str, float] = {}
        self.on_reconnect: list[Callable[[], None]] = []

    @classmethod
    async def connect(
        cls, url: str, *, name: str, inbox_prefix: str = "_INBOX_host", timeout_s: float | None = None
    ) -> "Bus":
        """Connect and log in; wait for the server as long as `timeout_s` seconds (None: for ever).

        `url` carries user and password, or names a credential file (`claytom_agent.login`); the file then says
        the inbox prefix too. Raises `LoginRefusedError` if the server refuses the login or the file cannot be
        used, `TimeoutError` after that.
        """
        client = _Client()
        bus = cls(client)
        server, path = split_url(url)
        login = Login(path) if path is not None else None
        if login is not None:
            try:
                inbox_prefix = login.read().claims.inbox_prefix
            except CredentialsError as error:
                raise LoginRefusedError(str(error)) from error
        refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def on_error(error: Exception) -> None:
            # Denied publishes and JetStream calls appear nowhere else: their callers only see a timeout.
            bus.complain(str(error) or type(error).__name__)
            if not isinstance(error, nats.errors.AuthorizationError) and not _is_refusal(str(error)):
                return
            if not refused.done():
                refused.set_result(None)
            elif not bus.closing:
                await bus.pause_after_refusal()  # nats-py awaits this before it tries again

        async def on_disconnect() -> None:
            if not bus.closing:
                log.warning("NATS connection lost")
            bus.give_up_requests()

        async def on_reconnect() -> None:
            log.info("NATS connection restored")
            bus.refusals = 0
            for callback in bus.on_reconnect:
                callback()

        async def on_closed() -> None:
            bus.closed.set()

        async def log_in() -> None:
            await client.connect(
                server,
                name=name,
                inbox_prefix=inbox_prefix,
                signature_cb=None if login is None else login.answer,
                user_jwt_cb=None if login is None else login.jwt,
                error_cb=on_error,
                disconnected_cb=on_disconnect,
                reconnected_cb=on_reconnect,
                closed_cb=on_closed,
                reconnect_time_wait=0.25,  # type: ignore[arg-type]  # a float works; the annotation says int
                max_reconnect_attempts=-1,
                ping_interval=5,
                max_outstanding_pings=2,
                pending_size=8 * 1024 * 1024,
            )
            await client.flush()

        task = asyncio.ensure_future(log_in())
        done, _ = await asyncio.wait({task, refused}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if task in done and not refused.done():
            await task
            refused.set_result(None)  # from now on a refusal is waited out
            return bus
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task
        if refused.done():
            what = "the user or password of this process" if path is None else f"the credential {path}"
            raise LoginRefusedError(f"NATS refuses {what}")
        raise TimeoutError(f"NATS does not answer after {timeout_s} s")

    async def pause_after_refusal(self) -> None:
        """Wait a moment, longer each time, before the server is asked again with what the file then holds."""
        self.refusals += 1
        self._refused = True
        try:
            await asyncio.sleep(min(REFUSED_PAUSE_S * 2 ** min(self.refusals, 4), 2.0) * random.uniform(0.7, 1.0))
        finally:
            self._refused = False

    def give_up_requests(self) -> None:
        """Let those who wait for an answer know that it was lost with the line, rather than time out."""
        waiting: dict[str, asyncio.Future[Msg]] = getattr(self._client, "_resp_map", None) or {}
        for future in list(waiting.values()):
            if not future.done():
                future.set_exception(NoAnswerError("the connection was lost before the answer came"))

    def complain(self, text: str) -> None:
        """Log a fault of the line, the same one at most every 30 s: four a second would bury the rest."""
        now = time.monotonic()
        if now - self._complaints.get(text, -60.0) > 30.0 and not self.closing:
            if len(self._complaints) > 100:
                self._complaints.clear()
            self._complaints[text] = now
            log.warning("NATS: %s", text)

    @property
    def connected(self) -> bool:
        """Whether the line is up now: not while a refusal is waited out, when nats-py may still think so."""
        return self._client.is_connected and not self._refused

    @property
    def server_version(self) -> tuple[int, int]:
        """Major and minor version of the server."""
        version = self._client.connected_server_version
        return version.major, version.minor

    async def publish(self, subject: str, body: bytes, headers: Headers | None = None, *, reply: str = "") -> None:
        """Publish without acknowledgement; raise `Disconnected` when the line is down.

        Answers, if any are wanted, go to the subject `reply`.
        """
        self._require_line()
        try:
            await self._client.publish(
                subject, body, reply=reply, headers=dict(headers) if headers is not None else None
            )
        except (nats.errors.ConnectionClosedError, nats.errors.OutboundBufferLimitError) as error:
            raise Disconnected(str(error)) from error
        _heed_cancellation()

    async def request(
        self, subject: str, body: bytes = b"", *, headers: Headers | None = None, timeout_s: float = 5.0
    ) -> Msg:
        """Ask and wait; raise `NobodyThereError`, `NoAnswerError` or `Disconnected`."""
        self._require_line()
        try:
            return await self._client.request(
                subject, body, timeout=timeout_s, headers=dict(headers) if headers is not None else None
            )
        except nats.errors.NoRespondersError as error:
            raise NobodyThereError(f"nobody answers on {subject}") from error
        except nats.errors.TimeoutError as error:
            _heed_cancellation()
            raise NoAnswerError(f"no answer on {subject} in {timeout_s} s") from error
        except (nats.errors.ConnectionClosedError, nats.errors.OutboundBufferLimitError) as error:
            raise Disconnected(str(error)) from error

    async def subscribe(self, subject: str, handler: MessageHandler, *, queue: str = "") -> Subscription:
        """Deliver each message of `subject` to `handler`, one at a time and in order.

        Subscribers of the same `queue` share the messages: each one reaches one of them.
        """
        return await self._client.subscribe(subject, queue=queue, cb=handler)

    def new_inbox(self) -> str:
        """Make a subject under this connection's own inbox prefix."""
        return self._client.new_inbox()

    async def js_publish(self, message: Outgoing, *, timeout_s: float = 5.0, tries: int = 4) -> PubAck:
        """Publish to a stream and wait for its PubAck; retry with the same id after 0.5, 1 and 2 s.

        Raises the last of `NoAnswerError`, `NobodyThereError` (no stream), `Disconnected`; `BusError` at
        once, since a refusal does not change by asking again.
        """
        for attempt in range(tries):
            try:
                return await self._store(message.subject, message.body, message.headers, timeout_s)
            except (NoAnswerError, NobodyThereError, Disconnected):
                if attempt + 1 == tries:
                    raise
                delay = RETRY_DELAYS[min(attempt, len(RETRY_DELAYS) - 1)]
                await asyncio.sleep(delay * random.uniform(1.0, 1.25))
        raise AssertionError("unreachable: the last try returns or raises")

    async def js_publish_batch(self, messages: Sequence[Outgoing], *, timeout_s: float = 10.0) -> BatchResult:
        """Store all messages or none, as one atomic batch of one stream (at most 500).

        A batch that holds a known id is refused as a whole; it is then sent message by message, and the
        stream drops the known ones. So is a batch for a stream that takes none. Raises
        as `js_publish` does; the caller tries again with the same ids.
        """
        if len(messages) > MAX_BATCH:
            raise ValueError(f"{len(messages)} messages do not fit in one batch of {MAX_BATCH}")
        if len(messages) < 2:
            acks = [await self.js_publish(message, timeout_s=timeout_s) for message in messages]
            return BatchResult(sum(not a.duplicate for a in acks), sum(a.duplicate for a in acks))
        for attempt in range(8):
            try:
                async with self._batches:
                    await self._send_batch(messages, timeout_s)
                return BatchResult(len(messages), 0)
            except BusError as error:
                if error.code in (BATCH_HAS_KNOWN_ID, BATCHES_NOT_ALLOWED):
                    return await self._publish_singly(messages, timeout_s)
                if error.code != BATCHES_TOO_MANY or attempt == 7:
                    raise
                await asyncio.sleep(random.uniform(0.01, 0.05 * 2 ** min(attempt, 5)))
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def kv_get(self, bucket: str, key: str, *, timeout_s: float = 2.0) -> KvEntry | None:
        """Read the last value or marker of a key from the store; None if there is nothing.

        Not by a direct get: its answer is the stored message itself, with its headers, on whatever subject the
        request names for it. Who may ask for that can speak as anyone.
        """
        question = msgspec.json.encode({"last_by_subj": f"$KV.{bucket}.{key}"})
        reply = await self.request(f"$JS.API.STREAM.MSG.GET.KV_{bucket}", question, timeout_s=timeout_s)
        answer = _decode_stored(reply.data)
        if answer.error is not None:
            if answer.error.err_code == NO_MESSAGE:
                return None
            raise BusError(answer.error.err_code or answer.error.code, answer.error.description)
        stored = answer.message
        return entry_of(key, stored.data, _parse_headers(stored.hdrs), stored.seq)

    async def kv_put(self, bucket: str, key: str, value: bytes, *, ttl_s: int | None = None) -> int:
        """Write a key without looking; return its revision."""
        headers = {} if ttl_s is None else {"Nats-TTL": f"{ttl_s}s"}
        return (await self._store(f"$KV.{bucket}.{key}", value, headers, 2.0)).seq

    async def kv_cas(
        self,
        bucket: str,
        key: str,
        value: bytes,
        *,
        last: int,
        ttl_s: int | None = None,
        timeout_s: float = 2.0,
    ) -> int:
        """Write a key only if its last revision is `last` (0: it never was); return the new revision.

        Raises `CasConflictError`; `NoAnswerError` leaves open whether the write happened.
        """
        headers = {"Nats-Expected-Last-Subject-Sequence": str(last)}
        if ttl_s is not None:
            headers["Nats-TTL"] = f"{ttl_s}s"
        return (await self._store(f"$KV.{bucket}.{key}", value, headers, timeout_s)).seq

    async def kv_delete(self, bucket: str, key: str, *, last: int | None = None) -> int:
        """Leave a deletion marker, only over revision `last` if given; return the marker's revision."""
        headers = {"KV-Operation": "DEL"}
        if last is not None:
            headers["Nats-Expected-Last-Subject-Sequence"] = str(last)
        return (await self._store(f"$KV.{bucket}.{key}", b"", headers, 2.0)).seq

    async def flush(self, timeout_s: float = 5.0) -> None:
        """Wait until the server has taken all that was published."""
        await self._client.flush(timeout=timeout_s)  # type: ignore[arg-type]  # a float works

    async def close(self) -> None:
        """Send what is pending and close."""
        self.closing = True
        await self._client.close()

    def _require_line(self) -> None:
        # nats-py would buffer and send after the line is back: for a lease that is a lie about time.
        if not self._client.is_connected:
            raise Disconnected("not connected to NATS")

    async def _store(self, subject: str, body: bytes, headers: Headers, timeout_s: float) -> PubAck:
        ack = _decode_ack((await self.request(subject, body, headers=headers, timeout_s=timeout_s)).data)
        _raise_refusal(ack)
        return ack

    async def _send_batch(self, messages: Sequence[Outgoing], timeout_s: float) -> None:
        batch = uuid.uuid4().hex
        last = len(messages)
        # The first answer tells at once whether a batch may be opened; the last one is the PubAck.
        await self._ask_batch(messages[0], {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": "1"}, timeout_s)
        await self._send_raw(
            [
                _hpub(message, f"Nats-Batch-Id: {batch}\r\nNats-Batch-Sequence: {number}\r\n")
                for number, message in enumerate(messages[1:-1], 2)
            ]
        )
        commit = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(last), "Nats-Batch-Commit": "1"}
        await self._ask_batch(messages[-1], commit, timeout_s)

    async def _ask_batch(self, message: Outgoing, batch: Headers, timeout_s: float) -> None:
        headers = {**message.headers, **batch}
        reply = await self.request(message.subject, message.body, headers=headers, timeout_s=timeout_s)
        if reply.data:
            _raise_refusal(_decode_ack(reply.data))

    async def _send_raw(self, commands: list[bytes]) -> None:
        """Hand publish commands to the connection in one piece: nats-py takes a third of a sample's time."""
        self._require_line()
        if any(len(command) > self._client.max_payload for command in commands):
            raise ValueError(f"a message is longer than the server's {self._client.max_payload} bytes")
        self._client.stats["out_msgs"] += len(commands)
        await self._client._send_command(b"".join(commands))
        _heed_cancellation()

    async def _publish_singly(self, messages: Sequence[Outgoing], timeout_s: float) -> BatchResult:
        stored = duplicates = 0
        for start in range(0, len(messages), 32):
            acks = await asyncio.gather(
                *(self.js_publish(message, timeout_s=timeout_s) for message in messages[start : start + 32])
            )
            duplicates += sum(ack.duplicate for ack in acks)
            stored += sum(not ack.duplicate for ack in acks)
        return BatchResult(stored, duplicates)


def _hpub(message: Outgoing, more: str) -> bytes:
    """Build the protocol's HPUB command; `more` are complete header lines.

    Raises `ValueError` for a line break in subject or headers, which would be a command of its own.
    """
    lines = "".join([f"{name}: {value}\r\n" for name, value in message.headers.items()])
    if lines.count("\n") != len(message.headers) or lines.count("\r") != len(message.headers):
        raise ValueError("a header holds a line break")
    if not message.subject.isprintable() or " " in message.subject:
        raise ValueError(f"subject {message.subject!r} holds white space")
    block = f"NATS/1.0\r\n{lines}{more}\r\n".encode()
    size = len(block)
    head = f"HPUB {message.subject} {size} {size + len(message.body)}\r\n".encode()
    return b"".join((head, block, message.body, b"\r\n"))


def _heed_cancellation() -> None:
    """Raise the cancellation that nats-py swallows while it flushes; else a cancelled task would go on."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _raise_refusal(ack: PubAck) -> None:
    if ack.error is not None:
        kind = CasConflictError if ack.error.err_code in WRONG_LAST_SEQUENCE else BusError
        raise kind(ack.error.err_code or ack.error.code, ack.error.description)


def _parse_headers(block: bytes) -> dict[str, str]:
    lines = block.decode(errors="replace").split("\r\n")[1:]
    return {name.strip(): value.strip() for name, colon, value in (line.partition(":") for line in lines) if colon}


def entry_of(key: str, data: bytes, headers: Headers, revision: int) -> KvEntry:
    """Read a stored KV message: a value, or a marker left by a deletion or by the time to live."""
    expired = headers.get("Nats-Marker-Reason") == "MaxAge"
    if expired or "Nats-Marker-Reason" in headers or headers.get("KV-Operation") in ("DEL", "PURGE"):
        return KvEntry(key, None, revision, expired)
    return KvEntry(key, data, revision)
