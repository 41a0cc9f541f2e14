"""The event stream tells nobody of a unit that is not in their view: `/live/`, asked in this process."""

import asyncio
import json
from typing import Any

import pytest
from django.conf import settings
from django.db import connections

from portal.live import LiveApplication
from tests.planted import plant
from tests.principals import OTHER, OWN, THIRD, UNITS, make_principals, named

pytestmark = pytest.mark.django_db(transaction=True)
SECONDS = 20


async def first_event(cookie: str) -> tuple[int, dict[str, str]]:
    """Open the stream; return its status and the topics of the first event."""
    started: list[int] = []
    heard: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(SECONDS)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            started.append(message["status"])
        elif not heard.done() and (started[0] != 200 or b"data: " in message["body"]):
            data = message["body"].decode().partition("data: ")[2].strip()
            heard.set_result(json.loads(data) if data else {})

    address: Any = {
        "type": "http", "method": "GET", "path": "/live/",
        "headers": [(b"host", b"localhost"), (b"cookie", f"{settings.SESSION_COOKIE_NAME}={cookie}".encode())],
    }  # fmt: skip
    asking = asyncio.create_task(LiveApplication()(address, receive, send))
    try:
        topics = await asyncio.wait_for(heard, SECONDS)
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    return started[0], topics


def topics_of(names: list[str]) -> dict[str, tuple[int, set[str]]]:
    """Return for principals the status of their stream and the units that it names."""
    principals = make_principals()

    def cookie(name: str) -> str:
        found = named(principals, name).client().cookies.get(settings.SESSION_COOKIE_NAME)
        return found.value if found else ""

    cookies = {name: cookie(name) for name in names}

    async def ask() -> dict[str, tuple[int, dict[str, str]]]:
        return {name: await first_event(value) for name, value in cookies.items()}

    try:
        answers = asyncio.run(ask())
    finally:
        connections.close_all()
        pool: Any = connections["default"]
        pool.close_pool()  # the application gives its connections back showing nothing; the tests see everything
    return {
        name: (status, {topic.removeprefix("unit:") for topic in topics if topic.startswith("unit:")})
        for name, (status, topics) in answers.items()
    }


@pytest.mark.usefixtures("redis_clean")
def test_those_who_see_all_hear_of_all_and_strangers_of_nothing() -> None:
    plant()
    heard = topics_of(["executive", "auditor", "anonymous", "uncleared", "inactive"])
    assert heard["executive"] == heard["auditor"] == (200, set(UNITS))
    assert heard["anonymous"] == heard["uncleared"] == heard["inactive"] == (401, set())


@pytest.mark.usefixtures("redis_clean")
def test_the_stream_names_units_in_view_only() -> None:
    plant()
    heard = topics_of(["head", "head-of-another", "viewer-of-two", "head-of-the-parent", "expired", "tomorrow"])
    units = {name: found for name, (_status, found) in heard.items()}
    assert units == {
        "head": {OWN}, "head-of-another": {OTHER}, "viewer-of-two": {OWN, THIRD}, "head-of-the-parent": set(UNITS),
        "expired": set(), "tomorrow": set(),
    }  # fmt: skip
