"""Streams and consumers as declared, on the server: created, updated in place, and compared with what it returns.

An old server accepts settings that it does not know and drops them in silence. So what counts is not that
it said yes but what it says it has.
"""

import json
from typing import Any

from bus.streams import CONSUMERS, STREAMS
from claytom_agent.client import Bus

LEAST_VERSION = (2, 14)  # CONSUMER.RESET, with which the ingest begins a session
STREAM_NOT_FOUND = 10059
CONSUMER_NOT_FOUND = 10014


class StreamsDifferError(RuntimeError):
    """The server cannot do what the streams need; `differences` has one line for each setting."""

    def __init__(self, differences: list[str]) -> None:
        super().__init__(
            "The NATS server does not keep these settings:\n  "
            + "\n  ".join(differences)
            + "\nUse nats-server 2.14 or later with JetStream on."
        )
        self.differences = differences


async def ensure_streams(bus: Bus) -> list[str]:
    """Bring streams and consumers to their declaration; return what was created or changed, in words.

    Nothing that a stream holds is lost by an update. Raises StreamsDifferError if the server then has
    something else, and RuntimeError if it is too old or, with its words, if it refuses.
    """
    if bus.server_version < LEAST_VERSION:
        raise RuntimeError(
            f"nats-server {'.'.join(map(str, bus.server_version))} is too old: "
            f"use {'.'.join(map(str, LEAST_VERSION))} or later."
        )
    done: list[str] = []
    lacking: list[str] = []
    for wanted in STREAMS:
        name = wanted["name"]
        current = await _call(bus, f"STREAM.INFO.{name}", None, missing=STREAM_NOT_FOUND)
        verb = "CREATE" if current is None else "UPDATE"
        if current is None or differences(wanted, current["config"]):
            current = await _call(bus, f"STREAM.{verb}.{name}", wanted)
            done.append(f"stream {name} {verb.lower()}d")
        lacking += [f"{name}.{line}" for line in differences(wanted, (current or {})["config"])]
    for wanted in CONSUMERS:
        stream, config = wanted["stream"], wanted["config"]
        name = config["durable_name"]
        current = await _call(bus, f"CONSUMER.INFO.{stream}.{name}", None, missing=CONSUMER_NOT_FOUND)
        if current is None or differences(config, current["config"]):
            request = {"stream_name": stream, "config": config}
            current = await _call(bus, f"CONSUMER.DURABLE.CREATE.{stream}.{name}", request)
            done.append(f"consumer {stream}/{name} brought to its declaration")
        lacking += [f"{stream}/{name}.{line}" for line in differences(config, (current or {})["config"])]
    if lacking:
        raise StreamsDifferError(lacking)
    return done


async def _call(bus: Bus, verb: str, request: Any, *, missing: int = 0) -> dict[str, Any] | None:
    payload = b"" if request is None else json.dumps(request).encode()
    reply = await bus.request(f"$JS.API.{verb}", payload, timeout_s=10.0)
    answer: dict[str, Any] = json.loads(reply.data)
    if error := answer.get("error"):
        if missing and error.get("err_code") == missing:
            return None
        raise RuntimeError(f"JetStream refused {verb}: {error.get('description')} ({error.get('err_code')}).")
    return answer


def differences(wanted: dict[str, Any], got: dict[str, Any]) -> list[str]:
    """Return each setting that differs. A setting that the server leaves out has its zero value."""
    lines = []
    for key, value in wanted.items():
        have = got.get(key, _zero(value))
        if have != value:
            lines.append(f"{key}: wanted {value!r}, the server has {have!r}")
    return lines


def _zero(value: Any) -> Any:
    return type(value)() if not isinstance(value, str) else ""
