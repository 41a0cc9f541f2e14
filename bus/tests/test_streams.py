"""The declared streams, on a real server."""

import asyncio
import json
from collections.abc import Iterator
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from bus import ensure, streams
from claytom_agent.client import Bus


async def _config(url: str, stream: str) -> dict[str, object]:
    bus = await Bus.connect(url, name="test", inbox_prefix="_INBOX_test", timeout_s=10)
    try:
        reply = await bus.request(f"$JS.API.STREAM.INFO.{stream}")
        config: dict[str, object] = json.loads(reply.data)["config"]
        return config
    finally:
        await bus.close()


@pytest.fixture
def declared(nats_clean: str) -> Iterator[str]:
    call_command("ensure_streams", stdout=StringIO())
    yield nats_clean
    call_command("ensure_streams", stdout=StringIO())


def test_every_stream_exists_with_the_settings_that_were_asked_for(declared: str) -> None:
    for wanted in streams.STREAMS:
        config = asyncio.run(_config(declared, str(wanted["name"])))
        assert config["subjects"] == wanted["subjects"]
        assert config.get("allow_atomic", False) == wanted.get("allow_atomic", False)


def test_a_second_run_changes_nothing(declared: str) -> None:
    out = StringIO()
    call_command("ensure_streams", stdout=out)
    assert out.getvalue().splitlines() == ["The streams are as declared."]


def test_a_changed_declaration_is_applied_in_place(declared: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = [{**s, "max_age": 7200 * 10**9} if s["name"] == "CT_PRESENCE" else s for s in streams.STREAMS]
    out = StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(ensure, "STREAMS", changed)
        call_command("ensure_streams", stdout=out)
    assert "stream CT_PRESENCE updated" in out.getvalue()
    assert asyncio.run(_config(declared, "CT_PRESENCE"))["max_age"] == 7200 * 10**9


def test_a_setting_that_the_server_refuses_is_named(declared: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = [{**s, "a_setting_of_2031": 5} if s["name"] == "CT_CORP" else s for s in streams.STREAMS]
    with monkeypatch.context() as patch:
        patch.setattr(ensure, "STREAMS", changed)
        with pytest.raises(CommandError, match=r"STREAM.UPDATE.CT_CORP.*a_setting_of_2031"):
            call_command("ensure_streams", stdout=StringIO())


def test_a_server_that_is_too_old_is_refused(declared: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(ensure, "LEAST_VERSION", (99, 0))
        with pytest.raises(CommandError, match=r"nats-server 2\.\d+ is too old: use 99\.0 or later"):
            call_command("ensure_streams", stdout=StringIO())


def test_a_setting_that_a_server_drops_in_silence_is_a_difference() -> None:
    returned = {"max_age": 5, "subjects": ["a"]}  # as nats-server 2.9 answers
    wanted = {"max_age": 5, "subjects": ["a"], "allow_msg_ttl": True, "compression": "s2"}
    assert ensure.differences(wanted, returned) == [
        "allow_msg_ttl: wanted True, the server has False",
        "compression: wanted 's2', the server has ''",
    ]


@pytest.mark.parametrize(
    ("subject", "stream"),
    [
        ("org.claytom.pricing.metrics.kpi", "CT_KPI"),
        ("org.claytom.corporate.metrics.presence", "CT_PRESENCE"),
        ("org.claytom.pricing.metrics.state", "CT_EVENTS"),
        ("org.claytom.pricing.operator.any", "CT_WORK"),
        ("org.claytom.pricing.command.sync", "CT_CONTROL"),
        ("org.claytom.corporate.escalation.pricing", "CT_CORP"),
        ("$KV.CT_SEATS.pricing.1", "KV_CT_SEATS"),
        ("org.claytom.pricing.command.hello", None),
        ("org.claytom.pricing.command.report", None),
        ("org.claytom.pricing.operator.op-0042-g3", None),
        ("org.claytom.corporate.c-suite.ceo", None),
        ("org.claytom", None),
    ],
)
def test_a_subject_belongs_to_the_stream_that_captures_it(subject: str, stream: str | None) -> None:
    found = streams.stream_of(subject)
    assert (found["name"] if found else None) == stream
