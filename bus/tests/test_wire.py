"""The bytes of the NATS protocol, cut into messages wherever the network cuts them."""

import asyncio
from typing import Any
from urllib.parse import urlsplit

import pytest

from bus.wire import Refused, Wire, status

HEADERS = b"NATS/1.0\r\nce-source: a\r\n\r\n"
STREAM = (
    b'INFO {"version":"2.15.1"}\r\n'
    b"MSG a.b 1 5\r\nhello\r\n"
    b"PING\r\n"
    b"MSG a.b 1 reply.to 4\r\n\r\n\r\n\r\n"  # a body of line ends
    + b"HMSG a.c 2 reply %d %d\r\n%b{}\r\n" % (len(HEADERS), len(HEADERS) + 2, HEADERS)
    + b"HMSG a.c 2 %d %d\r\n%b\r\n" % (len(HEADERS), len(HEADERS), HEADERS)
    + b"MSG a.b 1 0\r\n\r\n"
)
EXPECTED = [
    (b"a.b", b"", b"", b"hello"),
    (b"a.b", b"reply.to", b"", b"\r\n\r\n"),
    (b"a.c", b"reply", HEADERS, b"{}"),
    (b"a.c", b"", HEADERS, b""),
    (b"a.b", b"", b"", b""),
]


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.sent = b""

    def write(self, data: bytes) -> None:
        self.sent += data


@pytest.mark.parametrize("size", [1, 2, 3, 7, 16, 64, 10_000])
async def test_messages_are_whole_wherever_the_stream_is_cut(size: int) -> None:
    wire, transport = Wire(), Transport()
    wire.connection_made(transport)  # type: ignore[arg-type]
    got: list[tuple[bytes, ...]] = []
    for subject in (b"a.b", b"a.c"):
        wire.subscribe(subject, lambda *message: got.append(message))
    for start in range(0, len(STREAM), size):
        wire.data_received(STREAM[start : start + size])
    assert got == EXPECTED
    assert wire.info == {"version": "2.15.1"}
    assert transport.sent == b"SUB a.b 1\r\nSUB a.c 2\r\nPONG\r\n"


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (b"NATS/1.0\r\na: b\r\n\r\n", (0, "")),
        (b"NATS/1.0 503\r\n\r\n", (503, "")),
        (b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 5\r\n\r\n", (408, "Request Timeout")),
        (b"", (0, "")),
    ],
)
def test_a_status_is_told_from_headers(block: bytes, expected: tuple[int, str]) -> None:
    assert status(block) == expected


async def test_a_message_comes_back(nats_url: str) -> None:
    wire = await Wire.connect(nats_url, name="test")
    got: asyncio.Future[tuple[bytes, ...]] = asyncio.get_running_loop().create_future()
    wire.subscribe(b"test.echo", lambda *message: got.set_result(message))
    wire.publish(b"test.echo", b"body", b"test.reply")
    assert await asyncio.wait_for(got, 5) == (b"test.echo", b"test.reply", b"", b"body")
    wire.close()
    await asyncio.wait_for(wire.lost, 5)
    with pytest.raises(ConnectionError):
        wire.publish(b"test.echo")


async def test_a_wrong_password_is_refused(nats_url: str) -> None:
    address = urlsplit(nats_url).netloc
    with pytest.raises(Refused, match="Authorization"):
        await Wire.connect(f"nats://portal:wrong@{address}", name="test")


async def test_nobody_there_is_a_refused_connection() -> None:
    with pytest.raises(ConnectionRefusedError):
        await Wire.connect("nats://a:b@127.0.0.1:1", name="test")


async def test_a_silent_server_does_not_hold_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bus.wire.ANSWER_SECONDS", 0.2)

    async def say_nothing(_reader: Any, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(1)
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(TimeoutError):
        await Wire.connect(f"nats://a:b@127.0.0.1:{port}", name="test")
    server.close()
