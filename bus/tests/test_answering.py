"""Requests that are answered together: what is wrong with one of them must not cost the others their answer."""

import asyncio
import contextlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import OperationalError
from nats.aio.msg import Msg

from bus.answering import ASK_AGAIN, Desk, reply
from bus.dispatch import Message
from bus.models import QuarantinedMessage

pytestmark = pytest.mark.django_db(transaction=True)

SUBJECT = "org.claytom.pricing.command.hello"


def hello(division: str) -> Msg:
    body = {"protocol": "claytom/1", "shard": {"division": division, "agents": 3}, "host": "host-a", "epoch": 7}
    headers = {"ce-type": "org.claytom.agent.hello.v1", "ce-source": "host/host-a"}
    return Msg(None, SUBJECT, "_INBOX.x", json.dumps(body).encode(), headers)  # type: ignore[arg-type]


def division(message: Message) -> str:
    return str(message.body.shard.division)  # type: ignore[attr-defined]


def answers(messages: Sequence[Message]) -> list[Mapping[str, object]]:
    if any(division(message) == "pricing.9" for message in messages):
        raise LookupError("a mistake in the program")
    return [{"division": division(message), "together": len(messages)} for message in messages]


def unable(messages: Sequence[Message]) -> list[Mapping[str, object]]:
    raise OperationalError(f"the database is away, {len(messages)} wait")


def decoded(replies: Sequence[bytes]) -> list[object]:
    return [json.loads(text) if text else None for text in replies]


def test_what_arrives_together_is_answered_together_each_in_its_place() -> None:
    replies = decoded(reply(answers, [hello("pricing.2"), hello("pricing.1")]))
    assert replies == [{"division": "pricing.2", "together": 2}, {"division": "pricing.1", "together": 2}]


def test_one_that_cannot_be_answered_costs_the_others_nothing(caplog: pytest.LogCaptureFixture) -> None:
    replies = decoded(reply(answers, [hello("pricing.1"), hello("pricing.9"), hello("pricing.2")]))
    assert replies == [{"division": "pricing.1", "together": 1}, None, {"division": "pricing.2", "together": 1}]
    assert [record.exc_info is not None for record in caplog.records] == [True]


def test_one_that_is_not_understood_is_refused_with_the_reason_and_kept() -> None:
    broken = Msg(None, SUBJECT, "_INBOX.x", b"{", hello("pricing.1").headers)  # type: ignore[arg-type]
    refusal, answered = decoded(reply(answers, [broken, hello("pricing.1")]))
    assert answered == {"division": "pricing.1", "together": 1}
    assert isinstance(refusal, dict)
    assert refusal["code"] == "json"
    assert QuarantinedMessage.objects.get().source == "host/host-a"


def test_without_the_database_nobody_is_answered_and_all_ask_again(caplog: pytest.LogCaptureFixture) -> None:
    assert reply(unable, [hello("pricing.1"), hello("pricing.2")]) == [ASK_AGAIN, ASK_AGAIN]
    assert [record.getMessage() for record in caplog.records] == [
        f"{SUBJECT} (2 in all) not answered: the database is away, 2 wait"
    ]


class Line:
    """Keeps what is published."""

    def __init__(self) -> None:
        self.sent: list[object] = []
        self.said = asyncio.Event()

    async def publish(self, subject: str, body: bytes) -> None:
        self.sent.append((subject, json.loads(body)))
        self.said.set()


def miscounting(messages: Sequence[Message]) -> list[Mapping[str, object]]:
    return [] if division(messages[0]) == "pricing.9" else answers(messages)


async def test_a_desk_goes_on_after_what_nobody_thought_of(caplog: pytest.LogCaptureFixture) -> None:
    line = Line()
    with ThreadPoolExecutor(1) as executor:
        desk = Desk(line, miscounting, executor)  # type: ignore[arg-type]
        clerk = asyncio.create_task(desk.serve())
        for number in (9, 1):
            await desk.take(hello(f"pricing.{number}"))
            await asyncio.sleep(0)  # the clerk takes the first, which is a batch of its own
        async with asyncio.timeout(10):
            await line.said.wait()
        clerk.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await clerk
    assert line.sent == [("_INBOX.x", {"division": "pricing.1", "together": 1})]
    assert "1 requests like" in caplog.text
