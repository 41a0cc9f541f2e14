"""`/live/`: server-sent events that say what has changed, never what it has changed to.

A pure ASGI application for the process `live`: it answers `/live/` and `/healthz`, everything else is 404.
One hub per process asks for the versions of all topics once a second while somebody listens; each client gets
`state` (the versions of what its account sees) when it connects, `change` (those that changed) afterwards,
`beat` when nothing changes, `end` when its session is over. What changed is then asked for over HTTP, where
permissions are checked.
"""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, replace
from http.cookies import CookieError, SimpleCookie
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.base import SessionBase
from django.db import DatabaseError, InterfaceError, connections
from django.http.request import split_domain_port, validate_host
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from holding.models import Unit
from holding.scope import EVERYTHING, VIEW, Units, assumed, opened
from iam.access.grants import open_for
from iam.access.models import User
from portal.versions import APPROVALS_OF, approvals, narrowed, versions

log = logging.getLogger("portal.live")

POLL_SECONDS = 1.0
BEAT_SECONDS = 15.0
CHECK_SECONDS = 60.0  # how often the session of an open stream is checked again
RETRY_MS = 3000
MOST_CLIENTS = 2000  # per process; more are asked to come later
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Listener:
    """Whose stream it is: when the session ends (seconds of the epoch), and what may be noticed."""

    ends: float
    slugs: frozenset[str] | None = None  # of the units in view; None for all
    ledger: bool = True
    approvals: frozenset[str] | None = None  # of the units whose approvals are in view; None for all

    def hears(self, found: Mapping[str, str]) -> dict[str, str]:
        """Return the versions that the listener may know."""
        everything = self.slugs is None and self.ledger
        heard = dict(found) if everything else narrowed(found, self.slugs, ledger=self.ledger)
        whole = {topic: version for topic, version in heard.items() if not topic.startswith(APPROVALS_OF)}
        return {**whole, "approvals": approvals(found, self.approvals)}


class Hub:
    """The versions of all topics, polled once a second while anybody listens."""

    def __init__(self) -> None:
        self.versions: dict[str, str] = {}
        self.clients = 0
        self._changed = asyncio.Condition()
        self._ready = asyncio.Event()
        self._serial = 0
        self._task: asyncio.Task[None] | None = None

    async def join(self) -> None:
        """Count a client in; the first one starts the polling."""
        self.clients += 1
        if self._task is None or self._task.done():
            self._ready.clear()  # what was known when the last client left may be old
            self._task = asyncio.create_task(self._poll())
        await self._ready.wait()

    def leave(self) -> None:
        """Count a client out; the polling ends with the last one."""
        self.clients -= 1

    async def next(self, serial: int, seconds: float) -> int:
        """Wait until something changes after `serial`, at most `seconds`; return the present serial."""
        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: self._serial > serial)
        except TimeoutError:
            pass
        return self._serial

    async def _poll(self) -> None:
        while self.clients:
            try:
                found = await sync_to_async(_read_versions, thread_sensitive=False)()
            except (DatabaseError, InterfaceError) as error:
                log.warning("The versions cannot be read: %s", error)
                found = self.versions
            if found != self.versions:
                async with self._changed:
                    self.versions = found
                    self._serial += 1
                    self._changed.notify_all()
            self._ready.set()
            await asyncio.sleep(POLL_SECONDS)


def _read_versions() -> dict[str, str]:
    try:
        with opened(EVERYTHING):
            return versions(timezone.now())
    finally:
        connections.close_all()  # back to the pool: no request ends here that would do it


class LiveApplication:
    """The ASGI application of the process `live`."""

    def __init__(self) -> None:
        self.hub = Hub()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
            if scope["path"] == "/healthz":
                await _answer(send, 200, "ok\n")
            elif scope["path"] != "/live/":
                await _answer(send, 404, "Only /live/ and /healthz are here.\n")
            else:
                await self._live(scope, headers, receive, send)

    async def _live(self, scope: Scope, headers: Mapping[str, str], receive: Receive, send: Send) -> None:
        if scope["method"] != "GET":
            await _answer(send, 405, "GET only.\n", [(b"allow", b"GET")])
            return
        try:
            cors = allowed_origin(headers)
        except PermissionError as error:
            await _answer(send, 403, f"{error}\n")
            return
        key = session_key(headers)
        try:
            listener = await sync_to_async(find_listener, thread_sensitive=False)(key)
        except (DatabaseError, InterfaceError):
            await _answer(send, 503, "The database does not answer.\n", [*cors, (b"retry-after", b"5")])
            return
        if listener is None:
            await _answer(send, 401, "Sign in first.\n", cors)
        elif self.hub.clients >= MOST_CLIENTS:
            await _answer(send, 503, "Too many listeners.\n", [*cors, (b"retry-after", b"30")])
        else:
            await self._stream(key, listener, cors, receive, send)

    async def _stream(self, key: str, listener: Listener, cors: Headers, receive: Receive, send: Send) -> None:
        await send({
            "type": "http.response.start",
            "status": 200,
            "headers": [
                (b"content-type", b"text/event-stream; charset=utf-8"),
                (b"cache-control", b"no-store, no-transform"),
                (b"x-accel-buffering", b"no"),
                *cors,
            ],
        })  # fmt: skip
        writing = asyncio.create_task(self._write(key, listener, send))
        leaving = asyncio.create_task(_disconnected(receive))
        _done, pending = await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(writing, leaving, return_exceptions=True)

    async def _write(self, key: str, listener: Listener, send: Send) -> None:
        await self.hub.join()
        try:
            known = listener.hears(self.hub.versions)
            serial = await self.hub.next(-1, 0.01)
            await _event(send, "state", known, prefix=f"retry: {RETRY_MS}\n")
            checked = spoke = time.time()
            while True:
                left = listener.ends - time.time()
                serial = await self.hub.next(serial, max(0.0, min(BEAT_SECONDS - (time.time() - spoke), left)))
                if time.time() - checked >= CHECK_SECONDS:
                    checked, listener = time.time(), await _still(key, listener)
                if time.time() >= listener.ends:
                    await _event(send, "end", {}, more=False)
                    return
                current = listener.hears(self.hub.versions)
                changed = {topic: version for topic, version in current.items() if known.get(topic) != version}
                known = current
                if changed or time.time() - spoke >= BEAT_SECONDS:
                    spoke = time.time()
                    await _event(send, "change" if changed else "beat", changed)
        finally:
            self.hub.leave()


async def _still(key: str, listener: Listener) -> Listener:
    """Who listens, as known now; with an end in the past when the session is over already."""
    try:
        found = await sync_to_async(find_listener, thread_sensitive=False)(key)
    except (DatabaseError, InterfaceError):
        return listener
    return found or replace(listener, ends=0.0)


async def _event(send: Send, name: str, data: Mapping[str, str], *, prefix: str = "", more: bool = True) -> None:
    text = f"{prefix}event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"
    await send({"type": "http.response.body", "body": text.encode(), "more_body": more})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _answer(send: Send, status: int, text: str, headers: Headers | None = None) -> None:
    body = text.encode()
    common = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*common, *(headers or [])]})
    await send({"type": "http.response.body", "body": body})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def allowed_origin(headers: Mapping[str, str]) -> Headers:
    """Return the CORS headers for a page of the portal: of `PORTAL_URL`, or of this host under another port.

    Raises PermissionError for any other origin, and for a host that is not allowed.
    """
    host, _port = split_domain_port(headers.get("host", ""))
    if not host or not validate_host(host, settings.ALLOWED_HOSTS):
        raise PermissionError("This host is not served.")
    origin = headers.get("origin", "")
    if not origin:
        return []  # same origin, behind one proxy
    parts = urlsplit(origin)
    same_host = parts.scheme in ("http", "https") and split_domain_port(parts.netloc)[0] == host
    if not same_host and origin != settings.PORTAL_URL:
        raise PermissionError("This origin may not listen.")
    return [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-allow-credentials", b"true"),
        (b"vary", b"Origin"),
    ]


def session_key(headers: Mapping[str, str]) -> str:
    """Return the key of the session cookie, or an empty string."""
    try:
        cookies = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return ""
    found = cookies.get(settings.SESSION_COOKIE_NAME)
    return found.value if found else ""


def find_listener(key: str) -> Listener | None:
    """Return who listens with this session; None when it is nobody who may see a unit.

    Raises DatabaseError when that cannot be known.
    """
    if not key:
        return None
    try:
        session = import_module(settings.SESSION_ENGINE).SessionStore(key)
        person = _person_of(session)
        if person is None:
            return None
        given = open_for(person)
        if not given.has(VIEW):
            return None
        with assumed(given):
            slugs, decided = (_slugs(given.units(code)) for code in (VIEW, "authority.view"))
        ends = float(session.get_expiry_date().timestamp())
        return Listener(ends=ends, slugs=slugs, ledger=given.has("ledger.view"), approvals=decided)
    finally:
        connections.close_all()


def _slugs(units: Units) -> frozenset[str] | None:
    return None if units is None else frozenset(Unit.objects.filter(pk__in=units).values_list("slug", flat=True))


def _person_of(session: SessionBase) -> User | None:
    """Return whose session it is. Unlike `get_user` this never renews its key: no stream can tell a browser."""
    signed = session.get(HASH_SESSION_KEY, "")
    person = User.objects.filter(pk=session.get(SESSION_KEY, 0), is_active=True).first()
    if person is None:
        return None
    good = [person.get_session_auth_hash(), *person.get_session_auth_fallback_hash()]
    return person if any(constant_time_compare(signed, one) for one in good) else None
