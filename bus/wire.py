"""A NATS connection cut down to what the ingest needs: publish, subscribe, and parsing at full speed.

nats-py spends about 33 us on a fetched message, nine tenths of an ingester's processor time. Here a chunk
from the socket is cut into messages in one loop without objects or regular expressions in between.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Final, cast
from urllib.parse import unquote, urlsplit

from claytom_agent.login import Login, split_url

log = logging.getLogger("bus.wire")

PING_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 5.0
CRLF: Final = b"\r\n"
HMSG, MSG = b"HM"  # the first byte tells messages from everything else that a server says

Arrived = Callable[[bytes, bytes, bytes, bytes], None]
"""Takes (subject, reply subject or b"", raw header block or b"", body)."""


class Refused(ConnectionError):  # noqa: N818 - what the server did, named as it is logged
    """The server does not let us in, or let us in and then reported an error that ends the connection."""


class Wire(asyncio.Protocol):
    """One connection; made by `connect`. It does not reconnect: its owner starts anew and knows it did."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.info: dict[str, object] = {}
        self.inbox_prefix = "_INBOX"
        """Below it are the only inboxes that this login may read."""
        self.lost: asyncio.Future[None] = loop.create_future()
        """Done as soon as the connection is gone."""
        self._greeted: asyncio.Future[None] = loop.create_future()
        self._logged_in: asyncio.Future[None] = loop.create_future()
        self._handlers: dict[bytes, Arrived] = {}
        self._rest = b""
        self._error: Exception | None = None
        self._answered = True
        self._transport: asyncio.Transport | None = None
        self._keepalive: asyncio.TimerHandle | None = None

    @classmethod
    async def connect(cls, url: str, *, name: str) -> "Wire":
        """Connect and log in with the user and password of `url`, or with the credential file that it names.

        Raises OSError, TimeoutError or Refused.
        """
        server, path = split_url(url)
        parts = urlsplit(server)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(ANSWER_SECONDS):
            _, wire = await loop.create_connection(cls, parts.hostname or "127.0.0.1", parts.port or 4222)
            try:
                await wire._greeted
                if path is None:
                    login = {"user": unquote(parts.username or ""), "pass": unquote(parts.password or "")}
                else:
                    content = Login(path).read()
                    login = {"jwt": content.jwt, "sig": content.sign(str(wire.info.get("nonce", "")))}
                    wire.inbox_prefix = content.claims.inbox_prefix
                options = {
                    "name": name,
                    "lang": "python",
                    "version": "1",
                    "verbose": False,
                    "pedantic": False,
                    "headers": True,
                    "no_responders": True,
                }
                wire.write(b"CONNECT " + json.dumps(login | options).encode() + b"\r\nPING\r\n")
                await wire._logged_in  # the first PONG settles the login, not the connection
            except BaseException:
                wire.close()
                raise
        wire._keepalive = loop.call_later(PING_SECONDS, wire._ping)
        return wire

    @property
    def is_lost(self) -> bool:
        """Whether the connection is gone."""
        return self.lost.done()

    def write(self, data: bytes) -> None:
        """Send protocol bytes; raise ConnectionError if the connection is gone."""
        if self._transport is None or self.is_lost:
            raise ConnectionError("The connection to NATS is lost.")
        self._transport.write(data)

    def publish(self, subject: bytes, body: bytes = b"", reply: bytes = b"") -> None:
        """Publish a message without headers."""
        target = subject + b" " + reply if reply else subject
        self.write(b"PUB %b %d\r\n%b\r\n" % (target, len(body), body))

    def subscribe(self, subject: bytes, arrived: Arrived) -> None:
        """Call `arrived` for each message on `subject`."""
        sid = b"%d" % (len(self._handlers) + 1)
        self._handlers[sid] = arrived
        self.write(b"SUB %b %b\r\n" % (subject, sid))

    def close(self) -> None:
        """Send what is pending and close."""
        if self._keepalive is not None:
            self._keepalive.cancel()
        if self._transport is not None:
            self._transport.close()

    # asyncio.Protocol -------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport (called by asyncio)."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell all who wait (called by asyncio)."""
        if self._keepalive is not None:
            self._keepalive.cancel()
        error = self._error or exc or ConnectionError("NATS closed the connection.")
        for waiting in (self._greeted, self._logged_in):
            if not waiting.done():
                waiting.set_exception(error)
                waiting.exception()  # `connect` may have given up waiting: then nobody asks for it
        if not self.lost.done():
            self.lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Cut what arrived into messages (called by asyncio); the incomplete rest waits for the next chunk."""
        buffer = self._rest + data if self._rest else data
        find, size, handlers = buffer.find, len(buffer), self._handlers
        at = 0
        while (end := find(CRLF, at)) >= 0:
            kind = buffer[at]
            if kind in (HMSG, MSG):
                fields = buffer[at:end].split(b" ")  # (H)MSG subject sid [reply] [header length] length
                start = end + 2
                stop = start + int(fields[-1])
                if stop + 2 > size:
                    break
                at = stop + 2
                body_at = start + int(fields[-2]) if kind == HMSG else start
                reply = fields[3] if len(fields) == (6 if kind == HMSG else 5) else b""
                handlers[fields[2]](fields[1], reply, buffer[start:body_at], buffer[body_at:stop])
            else:
                self._control(buffer[at:end])
                at = end + 2
        self._rest = buffer[at:] if at < size else b""

    def _control(self, line: bytes) -> None:
        if line.startswith(b"PING"):
            self.write(b"PONG\r\n")
        elif line.startswith(b"PONG"):
            self._answered = True
            if not self._logged_in.done():
                self._logged_in.set_result(None)
        elif line.startswith(b"INFO "):
            self.info = json.loads(line[5:])
            if not self._greeted.done():
                self._greeted.set_result(None)
        elif line.startswith(b"-ERR"):
            self._error = Refused(f"NATS: {line[5:].decode('utf-8', 'replace')}")
            log.warning("%s", self._error)

    def _ping(self) -> None:
        """Drop a connection whose other end has fallen silent: TCP would notice it only after minutes."""
        if self.is_lost or self._transport is None:
            return
        if not self._answered:
            self._error = ConnectionError("NATS does not answer.")
            self._transport.abort()
            return
        self._answered = False
        self.write(b"PING\r\n")
        self._keepalive = asyncio.get_running_loop().call_later(PING_SECONDS, self._ping)


def status(headers: bytes) -> tuple[int, str]:
    """Return code and description of a status message, (0, "") of an ordinary one."""
    if headers[8:9] != b" ":
        return 0, ""
    line = headers[9 : headers.index(CRLF)].decode("utf-8", "replace")
    code, _, description = line.partition(" ")
    return int(code), description
