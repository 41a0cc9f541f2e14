"""The connections of a host: one for each unit, under the unit's own credential, and one of the host itself.

What a host says for a subsidiary goes over that subsidiary's line, so the server itself refuses that one speaks for
another. Only what spans units goes over the host's own: who may run what (leases and manifests, read) and the card
with which it announces itself. A server without credentials (user and password in the URL) knows one identity for
all of this, and there is one line then.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from pathlib import Path
from typing import Final

from claytom_agent.client import Bus, LoginRefusedError
from claytom_agent.login import split_url, with_credentials
from claytom_agent.subjects import CORPORATE, SubjectError, check_subsidiary

log = logging.getLogger("claytom_agent.lines")

HOST_FILE: Final = "_host.creds"
SUFFIX: Final = ".creds"
LOOK_EVERY_S: Final = 5.0
ALL: Final = "*"
"""Stands for every unit: of the one line of a server without credentials."""

Opened = Callable[[str, Bus], Awaitable[None]]
"""Told of each new line: the unit that it speaks for (or `ALL`) and the connection."""


class NoLineError(LookupError):
    """The host has no credential for a unit."""


class Lines:
    """The connections of one host. `open()`, `run()` until cancelled, `close()`."""

    def __init__(self, url: str, *, host: str, only: Iterable[str] = (), opened: Opened | None = None) -> None:
        """`url` names a directory with `_host.creds` and a `<unit>.creds` for each unit, or has a password.

        `only` are the units that are wanted; none means all for which there is a credential.
        """
        self._url = url
        self._id = host
        self._only = frozenset(only)
        self._opened = opened
        _, self._directory = split_url(url)
        self._lines: dict[str, Bus] = {}
        self.host: Bus
        """The host's own line."""
        self.closed = asyncio.Event()
        """Set when a line was given up for good."""
        self._watchers: dict[str, asyncio.Task[None]] = {}

    async def open(self, *, timeout_s: float | None = None) -> None:
        """Connect the host's own line and all others that can be.

        Raises `LoginRefusedError` if the host's own is refused, `TimeoutError` after `timeout_s` seconds.
        """
        own = self._url if self._directory is None else with_credentials(self._url, self._directory / HOST_FILE)
        # By this name the portal notices at once that a host is gone; the other lines have other names.
        self.host = await Bus.connect(own, name=f"host:{self._id}", timeout_s=timeout_s)
        self._follow("", self.host)
        if self._directory is None:
            await self._add(ALL, self.host)
        else:
            await self._look(self._directory)

    def of(self, unit: str) -> Bus:
        """Return the line that speaks for a unit. Raises `NoLineError`."""
        line = self._lines.get(unit) or self._lines.get(ALL)
        if line is None:
            raise NoLineError(f"host {self._id} has no credential for {unit}")
        return line

    def up(self, unit: str) -> bool:
        """Whether the unit has a line and it is connected now."""
        line = self._lines.get(unit) or self._lines.get(ALL)
        return line is not None and line.connected

    @property
    def units(self) -> Collection[str]:
        """The units that this host may run; empty if it may run all."""
        return self._only if ALL in self._lines else frozenset(self._lines)

    def serves(self, unit: str) -> bool:
        """Whether this host may run divisions of the unit."""
        return unit in self._lines or (ALL in self._lines and (not self._only or unit in self._only))

    @property
    def connected(self) -> bool:
        """Whether every line is up now."""
        return self.host.connected and all(line.connected for line in self._lines.values())

    async def run(self) -> None:
        """Take up the credentials that are added to the directory, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if self._directory is not None:
                try:
                    await self._look(self._directory)
                except OSError as error:  # its disk is away for a moment: what is connected stays so
                    log.warning("the credentials cannot be looked for: %s", error)

    async def close(self) -> None:
        """Close every line."""
        for task in self._watchers.values():
            task.cancel()
        lines = {id(line): line for line in (*self._lines.values(), self.host)}
        await asyncio.gather(*(line.close() for line in lines.values()), return_exceptions=True)

    async def _look(self, directory: Path) -> None:
        found = await asyncio.to_thread(self._credentials, directory)
        await asyncio.gather(*(self._connect(unit, path) for unit, path in found if unit not in self._lines))

    def _credentials(self, directory: Path) -> list[tuple[str, Path]]:
        found = []
        for path in sorted(directory.glob(f"*{SUFFIX}")):
            unit = path.name.removesuffix(SUFFIX)
            if path.name == HOST_FILE or (self._only and unit not in self._only):
                continue
            with contextlib.suppress(SubjectError):
                found.append((unit if unit == CORPORATE else check_subsidiary(unit), path))
        return found

    async def _connect(self, unit: str, path: Path) -> None:
        url = with_credentials(self._url, path)
        try:
            line = await Bus.connect(url, name=f"unit:{self._id}:{unit}", timeout_s=10.0)
        except (LoginRefusedError, TimeoutError) as error:
            log.error("no line for %s: %s", unit, error)  # noqa: TRY400 - the sentence says it all; it is tried again
            return
        self._follow(unit, line)
        await self._add(unit, line)

    async def _add(self, unit: str, line: Bus) -> None:
        self._lines[unit] = line
        if self._opened is not None:
            await self._opened(unit, line)

    def _follow(self, unit: str, line: Bus) -> None:
        async def until_closed() -> None:
            await line.closed.wait()
            self.closed.set()

        self._watchers[unit] = asyncio.get_running_loop().create_task(until_closed())
