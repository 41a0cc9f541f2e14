"""Streams and consumers as declared, on the server: created, updated in place, and compared with what it returns.

An old server accepts settings that it does not know and drops them in silence. So what counts is not that
it said yes but what it says it has. And a change in place can cost what a stream holds (a shorter age, a lower
limit): such a change is not made while it would.
"""

import asyncio
import json
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from bus.streams import STREAMS, consumers
from claytom_agent.client import Bus

LEAST_VERSION: Final = (2, 14)  # CONSUMER.RESET, with which the ingest begins a session
STREAM_NOT_FOUND: Final = 10059
SUBJECTS_OVERLAP: Final = 10065
PARALLEL: Final = 32
ANSWER_S: Final = 10.0
T = TypeVar("T")
Config = Mapping[str, Any]


class StreamsDifferError(RuntimeError):
    """The server cannot do what the streams need; `differences` has one line for each setting."""

    def __init__(self, differences: list[str]) -> None:
        super().__init__(
            "The NATS server does not keep these settings:\n  "
            + "\n  ".join(differences)
            + "\nUse nats-server 2.14 or later with JetStream on."
        )
        self.differences = differences


class JetStreamError(RuntimeError):
    """JetStream refused a call; `code` is its error code."""

    def __init__(self, verb: str, error: Mapping[str, Any]) -> None:
        super().__init__(f"JetStream refused {verb}: {error.get('description')} ({error.get('err_code')}).")
        self.code: int = error.get("err_code", 0)


class ChangeRefusedError(RuntimeError):
    """Some of what is declared cannot be had in place. Everything else is as declared, and nothing is lost."""

    def __init__(self, refusals: Sequence[str]) -> None:
        super().__init__("\n".join(refusals))
        self.refusals = refusals


async def ensure_streams(bus: Bus, subsidiaries: Iterable[str] = ()) -> list[str]:
    """Bring streams and consumers to their declaration; return what was created or changed, in words.

    `subsidiaries` are those whose roles have queues of work. Nothing that a stream holds is lost. Raises
    ChangeRefusedError for what cannot be changed in place, once all else is done; StreamsDifferError if the
    server then has something else; RuntimeError if it is too old.
    """
    if bus.server_version < LEAST_VERSION:
        raise RuntimeError(
            f"nats-server {'.'.join(map(str, bus.server_version))} is too old: "
            f"use {'.'.join(map(str, LEAST_VERSION))} or later."
        )
    run = _Run(bus)
    await run.streams(STREAMS)
    await run.consumers(consumers(subsidiaries))
    if run.refusals:
        raise ChangeRefusedError(run.refusals)
    if run.lacking:
        raise StreamsDifferError(run.lacking)
    return run.done


class _Run:
    """One comparison of everything: what was done, what was refused, and what the server has otherwise."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._refused: set[str] = set()
        self.done: list[str] = []
        self.refusals: list[str] = []
        self.lacking: list[str] = []

    async def streams(self, wanted: Sequence[Config]) -> None:
        """Bring the streams to their declaration.

        A subject that moves from one stream to another overlaps until the other one has let it go: such a
        stream comes again, after the others.
        """
        found = await side_by_side(self._stream(config["name"]) for config in wanted)
        waiting = list(zip(wanted, found, strict=True))
        while waiting:
            again: list[tuple[Config, Any]] = []
            overlap: JetStreamError | None = None
            for config, info in waiting:
                try:
                    await self._bring(config, info)
                except JetStreamError as error:
                    if error.code != SUBJECTS_OVERLAP:
                        raise
                    overlap = error
                    again.append((config, info))
            if overlap is not None and len(again) == len(waiting):
                names = ", ".join(config["name"] for config, _ in again)
                raise RuntimeError(
                    f"{overlap} The subjects of {names} belong to a stream that is not declared: remove it."
                )
            waiting = again

    async def _bring(self, wanted: Config, info: Any) -> None:
        name = wanted["name"]
        differing = differences(wanted, info["config"]) if info else []
        if info and differing:
            if lost := await self._losses(wanted, info):
                self._refuse(name, info, f"it would lose {'; '.join(lost)}", differing)
                return
            try:
                info = await self._call(f"STREAM.UPDATE.{name}", wanted)
            except JetStreamError as error:
                if error.code == SUBJECTS_OVERLAP or _unknown_setting(error):
                    raise
                self._refuse(name, info, str(error), differing)
                return
            self.done.append(f"stream {name} updated")
        elif not info:
            info = await self._call(f"STREAM.CREATE.{name}", wanted)
            self.done.append(f"stream {name} created")
        self.lacking += [f"{name}.{line}" for line in differences(wanted, info["config"])]

    def _refuse(self, name: str, info: Any, reason: str, differing: Sequence[str]) -> None:
        self._refused.add(name)
        held = info["state"]["messages"]
        self.refusals.append(
            f"Stream {name} stays as it is, with its {held} messages: {reason.rstrip('.')}. It differs in: "
            f"{'; '.join(differing)}. Declare what it has, or move what it holds first "
            "(docs/bus.md, Changing a stream)."
        )

    async def _stream(self, name: str) -> Any:
        return await self._call(f"STREAM.INFO.{name}", None, missing=STREAM_NOT_FOUND)

    async def _losses(self, wanted: Config, info: Any) -> list[str]:
        """Return what the stream would drop by taking these limits, in words."""
        state, current = info["state"], info["config"]
        if not state["messages"]:
            return []
        lost = []
        first = datetime.fromisoformat(state["first_ts"])
        if _tighter(wanted, current, "max_age") and first < datetime.now(UTC) - timedelta(
            microseconds=wanted["max_age"] / 1000
        ):
            lost.append(f"messages since {first:%Y-%m-%d %H:%M} that are older than its new max_age")
        for limit, has in (("max_msgs", state["messages"]), ("max_bytes", state["bytes"])):
            if _tighter(wanted, current, limit) and has > wanted[limit]:
                lost.append(f"what is beyond its new {limit} ({has} of {wanted[limit]})")
        if _tighter(wanted, current, "max_msgs_per_subject"):
            counted = await self._call(f"STREAM.INFO.{wanted['name']}", {"subjects_filter": ">"})
            subjects = (counted["state"].get("subjects") or {}).items()
            most, subject = max(((count, subject) for subject, count in subjects), default=(0, ""))
            if most > wanted["max_msgs_per_subject"]:
                lost.append(f"what is beyond its new max_msgs_per_subject ({most} on {subject})")
        return lost

    async def consumers(self, wanted: Sequence[Config]) -> None:
        """Bring the consumers to their declaration, side by side: there are some hundred and eighty."""
        streams = sorted({one["stream"] for one in wanted})
        found = await side_by_side(self._consumers_of(stream) for stream in streams)
        existing = {
            (stream, name): config for stream, named in zip(streams, found, strict=True) for name, config in named
        }
        changed = [
            one
            for one in wanted
            if (current := existing.get((one["stream"], one["config"]["durable_name"]))) is None
            or differences(one["config"], current)
        ]
        await side_by_side(self._bring_consumer(one, existing) for one in changed)

    async def _consumers_of(self, stream: str) -> list[tuple[str, Config]]:
        found: list[tuple[str, Config]] = []
        while True:
            answer = await self._call(f"CONSUMER.LIST.{stream}", {"offset": len(found)})
            page = answer.get("consumers") or []
            found += [(one["name"], one["config"]) for one in page]
            if not page or len(found) >= answer.get("total", 0):
                return found

    async def _bring_consumer(self, wanted: Config, existing: Mapping[tuple[str, str], Config]) -> None:
        stream, config = wanted["stream"], wanted["config"]
        name = config["durable_name"]
        current = existing.get((stream, name))
        request = {"stream_name": stream, "config": config}
        try:
            answer = await self._call(f"CONSUMER.DURABLE.CREATE.{stream}.{name}", request)
        except JetStreamError as error:
            if current is None or _unknown_setting(error):
                raise
            self.refusals.append(
                f"Consumer {stream}/{name} stays as it is: {error} It differs in: "
                f"{'; '.join(differences(config, current))}. Delete it to have it made anew, knowing that what it "
                "had acknowledged is then forgotten."
            )
            return
        self.done.append(f"consumer {stream}/{name} {'updated' if current else 'created'}")
        self.lacking += [f"{stream}/{name}.{line}" for line in differences(config, answer["config"])]

    async def _call(self, verb: str, request: Any, *, missing: int = 0) -> Any:
        payload = b"" if request is None else json.dumps(request).encode()
        reply = await self._bus.request(f"$JS.API.{verb}", payload, timeout_s=ANSWER_S)
        answer: dict[str, Any] = json.loads(reply.data)
        if error := answer.get("error"):
            if missing and error.get("err_code") == missing:
                return None
            raise JetStreamError(verb, error)
        return answer


async def side_by_side(calls: Iterable[Awaitable[T]]) -> list[T]:
    """Await all calls, some at once; return their results in order. The first failure is raised."""
    room = asyncio.Semaphore(PARALLEL)

    async def one(call: Awaitable[T]) -> T:
        async with room:
            return await call

    return await asyncio.gather(*map(one, calls))


def _tighter(wanted: Config, current: Config, limit: str) -> bool:
    """Return whether a limit (0 or less: there is none) is lower than it was."""
    new, old = wanted.get(limit, 0), current.get(limit, 0)
    return bool(new > 0 and (old <= 0 or new < old))


def _unknown_setting(error: JetStreamError) -> bool:
    return "unknown field" in str(error)


def differences(wanted: Config, got: Config) -> list[str]:
    """Return each setting that differs. A setting that the server leaves out has its zero value."""
    lines = []
    for key, value in wanted.items():
        have = got.get(key, _zero(value))
        if have != value:
            lines.append(f"{key}: wanted {value!r}, the server has {have!r}")
    return lines


def _zero(value: Any) -> Any:
    return type(value)() if not isinstance(value, str) else ""
