"""Receipts for what is committed, and requests for what never came."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from bus import dispatch, leases, receipts
from bus.commit import Committer
from bus.contract.examples import BODIES
from bus.feeds import Feed, Raw
from bus.models import HandledMessage, QuarantinedMessage, Watermark
from bus.receipts import GapWatch, Received
from claytom_agent.messages import encode

pytestmark = pytest.mark.django_db
AGENT = "org.claytom.pricing.operator.op-0031-g1"
TYPE = "org.claytom.training.result.v1"  # any type of events
BODY = encode({**BODIES["training.result"], "agent": AGENT})


@pytest.fixture(autouse=True)
def lease() -> None:
    leases.note(leases=[leases.Lease("pricing.1", epoch, "host-a", timezone.now()) for epoch in (7, 9)])


@pytest.fixture
def handled(monkeypatch: pytest.MonkeyPatch) -> list[dispatch.Message]:
    """What a handler got that takes stale messages too."""
    got: list[dispatch.Message] = []
    monkeypatch.setattr(dispatch, "_handlers", {TYPE: got.extend})
    monkeypatch.setattr(dispatch, "_takes_stale", {TYPE})
    return got


def event(
    number: int, *, seq: str = "", epoch: int = 9, place: int = 0, headers: dict[str, str] | None = None
) -> Raw:
    """A numbered event as the stream delivers it."""
    named = {
        "ce-type": TYPE, "ce-source": AGENT, "ce-id": f"e-{epoch}-{number}", "Nats-Msg-Id": f"e-{epoch}-{number}",
        "Claytom-Epoch": str(epoch), "Claytom-Seq": seq or f"pricing.1.{epoch}.{number}", **(headers or {}),
    }  # fmt: skip
    block = "".join(f"{name}: {value}\r\n" for name, value in named.items() if value)
    return Raw(
        b"org.claytom.pricing.metrics.training",
        f"NATS/1.0\r\n{block}\r\n".encode(),
        BODY,
        place or number,
        "CT_EVENTS",
        10**9,
    )


def received() -> dict[int, str]:
    with connection.cursor() as cursor:
        cursor.execute("select epoch, received::text from bus_watermark where stream = 'CT_EVENTS'")
        return dict(cursor.fetchall())


def test_events_are_received_by_number_and_receipted_once(handled: list[dispatch.Message]) -> None:
    dispatch.dispatch([event(1), event(2), event(4)])
    assert received() == {9: "{[1,3),[4,5)}"}
    (due,) = receipts.take_due()
    assert (due.key, due.ranges) == (("pricing.1", 9, "CT_EVENTS"), [(1, 2), (4, 4)])
    assert receipts.take_due() == []
    assert [gap.gaps for gap in receipts.open_gaps()] == [[(3, 3)]]
    dispatch.dispatch([event(3)])
    assert receipts.open_gaps() == []
    assert len(handled) == 4


def test_what_comes_again_is_receipted_again_and_changes_nothing(handled: list[dispatch.Message]) -> None:
    dispatch.dispatch([event(1)])
    receipts.take_due()
    dispatch.dispatch([event(1, place=77, headers={"Nats-Msg-Id": "e-9-1~1"})])
    assert len(handled) == 1
    assert [due.ranges for due in receipts.take_due()] == [[(1, 1)]]
    assert HandledMessage.objects.filter(message_id="e-9-1").count() == 1


def test_the_same_event_under_another_number_is_handled_once(handled: list[dispatch.Message]) -> None:
    dispatch.dispatch([event(1)])
    dispatch.dispatch([event(1, seq="pricing.1.9.2", place=2)])
    assert len(handled) == 1
    assert received() == {9: "{[1,3)}"}


def test_an_event_of_a_superseded_host_is_handed_on_as_stale(handled: list[dispatch.Message]) -> None:
    leases.note(leases=[leases.Lease("pricing.1", 11, "host-b", timezone.now().replace(year=1960))])
    dispatch.dispatch([event(1), event(1, epoch=11, place=2)])
    assert [(message.epoch, message.stale) for message in handled] == [(9, True), (11, False)]


def test_a_handler_that_does_not_ask_for_stale_messages_gets_none(
    handled: list[dispatch.Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "_takes_stale", set())
    dispatch.dispatch([event(1, epoch=10**12), event(1, place=2)])
    assert [message.epoch for message in handled] == [9]
    assert received() == {9: "{[1,2)}", 10**12: "{[1,2)}"}, "it is received: its sender need not send it again"
    assert set(HandledMessage.objects.values_list("consumer", "message_id")) == {
        (dispatch.LATE, f"e-{10**12}-1"),
        (dispatch.CONSUMER, "e-9-1"),
    }


def test_what_a_fenced_sender_said_does_not_stand_in_the_way_of_the_holder_s(
    handled: list[dispatch.Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "_takes_stale", set())
    dispatch.dispatch([event(1, epoch=10**12, headers={"ce-id": "esc-7"})])
    dispatch.dispatch([event(1, place=2, headers={"ce-id": "esc-7"})])
    assert [(message.id, message.epoch) for message in handled] == [("esc-7", 9)]


def test_a_type_may_require_an_epoch(handled: list[dispatch.Message], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_needs_epoch", {TYPE})
    dispatch.dispatch([event(1, headers={"Claytom-Epoch": ""}), event(2)])
    assert [message.raw.seq for message in handled] == [2]
    assert QuarantinedMessage.objects.get().stage == "epoch"


@pytest.mark.parametrize("seq", ["pricing.1.9.0", "pricing.1.9.x", "sales.1.9.1", "pricing.1.nine.1", "9.1"])
def test_a_number_that_cannot_be_one_is_refused(handled: list[dispatch.Message], seq: str) -> None:
    dispatch.dispatch([event(1, seq=seq), event(2)])
    assert [message.raw.seq for message in handled] == [2]
    assert QuarantinedMessage.objects.get().stage == "semantic"


def test_what_a_handler_cannot_take_is_in_quarantine_and_received(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(messages: Any) -> None:
        if any(message.raw.seq == 2 for message in messages):
            raise ValueError("no")

    monkeypatch.setattr(dispatch, "_handlers", {TYPE: fail})
    monkeypatch.setattr(dispatch, "_takes_stale", {TYPE})
    feed = Feed(stream="CT_EVENTS", consumer="test", handle=dispatch.dispatch)
    assert Committer(feed, threading.Event()).commit([event(1), event(2), event(3)])
    assert QuarantinedMessage.objects.get().stage == "handler"
    assert received() == {9: "{[1,4)}"}, "else it would be asked for again for ever"


def gap(*ranges: tuple[int, int]) -> Received:
    return Received("pricing.1", 9, "CT_KPI", ranges)


@pytest.fixture
def clock() -> list[float]:
    return [100.0]


@pytest.fixture
def watch(clock: list[float]) -> Callable[[float, Received], list[Any]]:
    watching = GapWatch(lambda: clock[0])

    def at(seconds: float, received: Received) -> list[Any]:
        clock[0] = 100 + seconds
        return [due.ranges for due in watching.due([received])]

    return at


def test_a_gap_is_asked_for_when_it_is_old_and_again_while_it_is_open(
    watch: Callable[[float, Received], list[Any]],
) -> None:
    assert watch(0, gap((3, 9))) == []
    assert watch(4, gap((3, 9))) == []
    assert watch(5, gap((3, 9), (12, 12))) == [[(1, 2)]], "the second gap is young"
    assert watch(6, gap((3, 9), (12, 12))) == []
    assert watch(10, gap((2, 9), (12, 12))) == [[(1, 1), (10, 11)]], "what is left of a gap is as old as it was"
    assert watch(11, gap((1, 12))) == []
    assert watch(30, gap((1, 12), (14, 14))) == []


def test_watermarks_of_former_epochs_are_forgotten_after_a_day() -> None:
    with transaction.atomic():
        for epoch in (7, 9):
            Watermark.objects.create(
                division="pricing.1", stream="CT_KPI", epoch=epoch, received=[],
                updated_at=timezone.now() - timedelta(days=2),
            )  # fmt: skip
    assert receipts.forget() == 1
    assert Watermark.objects.get().epoch == 9
