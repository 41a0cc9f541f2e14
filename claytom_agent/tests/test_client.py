import asyncio
import logging

import pytest

from claytom_agent.client import (
    Bus,
    BusError,
    CasConflictError,
    Disconnected,
    LoginRefusedError,
    NoAnswerError,
    NobodyThereError,
    Outgoing,
    event_headers,
)
from claytom_agent.tests.conftest import NatsServer, wait_until

KPI = "org.claytom.pricing.metrics.kpi"


def messages(count: int, prefix: str = "m", subject: str = KPI) -> list[Outgoing]:
    return [
        Outgoing(subject, b"{}", event_headers(ce_type="t", source="s", id=f"{prefix}-{n}", time="t"))
        for n in range(count)
    ]


async def test_a_batch_is_stored_once_however_often_it_is_sent(portal: Bus) -> None:
    batch = messages(500)
    assert (await portal.js_publish_batch(batch)).stored == 500
    again = await portal.js_publish_batch(batch)
    assert (again.stored, again.duplicates) == (0, 500)


async def test_a_batch_with_one_known_id_stores_the_others(portal: Bus) -> None:
    await portal.js_publish(messages(1)[0])
    result = await portal.js_publish_batch(messages(10))
    assert (result.stored, result.duplicates) == (9, 1)


async def test_more_open_batches_than_the_server_takes_are_all_stored(portal: Bus) -> None:
    results = await asyncio.gather(*(portal.js_publish_batch(messages(20, f"b{n}")) for n in range(80)))
    assert sum(result.stored for result in results) == 1600


async def test_a_stream_without_batches_gets_its_messages_singly(portal: Bus) -> None:
    result = await portal.js_publish_batch(messages(3, subject="org.claytom.corporate.broadcast.pmo"))
    assert result.stored == 3


async def test_too_many_messages_and_a_missing_stream_are_refused(portal: Bus) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        await portal.js_publish_batch(messages(501))
    with pytest.raises(NobodyThereError):
        await portal.js_publish(Outgoing("org.claytom.nowhere", b"", {}), tries=1)


async def test_cas_writes_only_over_the_revision_it_knows(portal: Bus) -> None:
    first = await portal.kv_cas("CT_LEASES", "pricing.1", b"a", last=0)
    with pytest.raises(CasConflictError):
        await portal.kv_cas("CT_LEASES", "pricing.1", b"b", last=0)
    second = await portal.kv_cas("CT_LEASES", "pricing.1", b"b", last=first)
    entry = await portal.kv_get("CT_LEASES", "pricing.1")
    assert entry is not None
    assert (entry.value, entry.revision) == (b"b", second)
    marker = await portal.kv_delete("CT_LEASES", "pricing.1", last=second)
    entry = await portal.kv_get("CT_LEASES", "pricing.1")
    assert entry is None or (entry.value is None and entry.revision == marker)
    assert await portal.kv_get("CT_LEASES", "pricing.9") is None


async def test_a_wrong_password_is_refused_at_once(nats_with_passwords: NatsServer) -> None:
    with pytest.raises(LoginRefusedError, match="user or password"):
        await Bus.connect(nats_with_passwords.url("host", "wrong"), name="t", timeout_s=10)


async def test_no_server_is_a_timeout(nats: NatsServer) -> None:
    nats.kill()
    with pytest.raises(TimeoutError):
        await Bus.connect(nats.url("portal"), name="t", timeout_s=0.5)


async def test_what_the_server_denies_reaches_the_log(
    portal: Bus, nats: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    bus = await Bus.connect(nats.url("host") + "/pricing.creds", name="t", timeout_s=10)
    try:
        with caplog.at_level(logging.WARNING), pytest.raises((NoAnswerError, BusError)):
            await bus.request("$JS.API.STREAM.DELETE.CT_KPI", timeout_s=0.5)
        assert "ermissions" in caplog.text.replace("Permissions", "permissions")
    finally:
        await bus.close()


async def test_without_a_line_nothing_is_buffered(portal: Bus, nats: NatsServer) -> None:
    nats.kill()
    await wait_until(lambda: not portal.connected)
    with pytest.raises(Disconnected):
        await portal.publish("org.claytom.pricing.metrics.presence", b"")
    nats.start()
    await wait_until(lambda: portal.connected)
    assert (await portal.js_publish_batch(messages(5))).stored == 5


async def test_a_complaint_of_the_server_costs_the_connection_only_for_a_moment(portal: Bus) -> None:
    await portal._client._send_command(b"NONSENSE\r\n")  # the server says what is wrong, and hangs up
    await portal._client._flush_pending()
    await wait_until(lambda: not portal.connected, 5)
    await wait_until(lambda: portal.connected, 10)
    assert not portal.closed.is_set()
    assert (await portal.js_publish(messages(1, "after")[0])).seq > 0


async def test_a_flush_is_answered_after_all_that_was_said_before(
    portal: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is marked as sent after it must have reached the server."""
    written: list[bytes] = []
    transport = portal._client._transport
    assert transport is not None

    def write(payload: bytes) -> None:
        written.append(payload)
        straight(payload)

    def write_all(payloads: list[bytes]) -> None:
        written.extend(payloads)
        together(payloads)

    straight, together = transport.write, transport.writelines
    monkeypatch.setattr(transport, "write", write)
    monkeypatch.setattr(transport, "writelines", write_all)
    await portal.publish("org.claytom.pricing.metrics.presence", b"{}")
    await portal.flush()
    said = b"".join(written)
    assert said.index(b"PUB org.claytom.pricing.metrics.presence") < said.index(b"PING")
