"""The outbox: a message stands or falls with its transaction, and a repeated act sends once."""

from datetime import datetime, timedelta

import msgspec
import pytest
from django.db import transaction
from django.utils import timezone

from bus.models import HandledMessage, OutboxMessage
from bus.services import MAX_BODY, Message, publish, publish_many, retain

SUBJECT = "org.claytom.pricing.command.sync"


def send(dedup: str = "", body: object = None) -> None:
    publish(
        subject=SUBJECT, type="org.claytom.manifest.sync.v1", source="portal/tests",
        body={"n": 1} if body is None else body, dedup=dedup, headers={"Claytom-Epoch": "7"},
    )  # fmt: skip


@pytest.mark.django_db
def test_a_message_waits_with_its_headers() -> None:
    send("sync-pricing.1-7")
    row = OutboxMessage.objects.get()
    assert (row.subject, row.sent_at, row.attempts) == (SUBJECT, None, 0)
    assert msgspec.json.decode(bytes(row.payload)) == {"n": 1}
    time = row.headers.pop("ce-time")
    assert abs(datetime.fromisoformat(time) - timezone.now()) < timedelta(minutes=1)
    assert row.headers == {
        "ce-specversion": "1.0",
        "ce-id": "sync-pricing.1-7",
        "ce-type": "org.claytom.manifest.sync.v1",
        "ce-source": "portal/tests",
        "Content-Type": "application/json",
        "Nats-Msg-Id": "sync-pricing.1-7",
        "Claytom-Epoch": "7",
    }


@pytest.mark.django_db
def test_the_same_act_twice_sends_once() -> None:
    send("same")
    send("same", body={"n": 2})
    assert msgspec.json.decode(bytes(OutboxMessage.objects.get().payload)) == {"n": 1}


@pytest.mark.django_db
def test_acts_without_an_id_are_different_acts() -> None:
    send()
    send()
    assert OutboxMessage.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_a_message_outside_a_transaction_is_refused() -> None:
    with pytest.raises(RuntimeError, match="open atomic"):
        send()


@pytest.mark.django_db(transaction=True)
def test_a_message_of_a_change_that_failed_is_never_sent() -> None:
    def fail() -> None:
        with transaction.atomic():
            send()
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        fail()
    assert not OutboxMessage.objects.exists()


@pytest.mark.django_db
def test_a_body_has_at_most_256_kib() -> None:
    fits = "x" * (MAX_BODY - 2)  # and two quotation marks
    send(body=fits)
    with pytest.raises(ValueError, match=rf"{SUBJECT}: {MAX_BODY + 1} bytes"):
        send(body=fits + "x")
    with pytest.raises(ValueError, match="a body has at most"):
        publish_many(messages=[Message(SUBJECT, "t", "s", {}), Message(SUBJECT, "t", "s", "é" * (MAX_BODY // 2))])
    assert OutboxMessage.objects.count() == 1


@pytest.mark.django_db
def test_what_is_old_and_done_is_forgotten_and_nothing_else() -> None:
    now = timezone.now()
    for name, age, sent in [("old", 3, True), ("new", 1, True), ("waiting", 99, False)]:
        send(name)
        OutboxMessage.objects.filter(dedup=name).update(
            created_at=now - timedelta(days=age), sent_at=now - timedelta(days=age) if sent else None
        )
        HandledMessage.objects.create(consumer="c", message_id=name)
        HandledMessage.objects.filter(message_id=name).update(handled_at=now - timedelta(days=age))
    assert retain(sent_for=timedelta(days=2), handled_for=timedelta(days=5)) == (1, 1)
    assert set(OutboxMessage.objects.values_list("dedup", flat=True)) == {"new", "waiting"}
    assert set(HandledMessage.objects.values_list("message_id", flat=True)) == {"old", "new"}
