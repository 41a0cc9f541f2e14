"""The credential files of an installation: one for each process of the portal, and a directory for hosts.

    logins/portal/bus.creds, ingest.creds, web.creds, worker.creds, fastpath.creds, console.creds
    logins/host/_host.creds, <unit>.creds ...

`renew` writes what is missing, what has lived half of its life, and what a rotation made old. It is called once a
minute by whoever keeps the installation; the processes read their file anew at each login.
"""

import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bus.credentials.keystore import LIFE_S, KeyStore, write_private
from bus.credentials.permissions import CONSOLE, FASTPATH, HOST, PORTAL_KINDS, UNIT
from claytom_agent.login import CredentialsError, Login

PORTAL_FILES: Final = (*PORTAL_KINDS, FASTPATH, CONSOLE)
HOST_FILE: Final = "_host.creds"


@dataclass(frozen=True, slots=True)
class File:
    """One credential file and what it is for."""

    path: Path
    kind: str
    unit: str = ""

    @property
    def scope(self) -> str:
        """The scoped key that signs it."""
        return f"{self.kind}.{self.unit}" if self.unit else self.kind


class Logins:
    """The files below a directory, minted from a key store."""

    def __init__(self, store: KeyStore, *, name: str = "here", directory: Path | None = None) -> None:
        """`name` distinguishes the machine; `directory` is `logins/` of the store unless given."""
        self._store = store
        self._name = name
        self.directory = directory or directory_of(store.path)

    def portal(self, kind: str) -> Path:
        """The file of a process of the portal."""
        return portal_file(self.directory, kind)

    @property
    def host(self) -> Path:
        """The directory of a host on this machine."""
        return host_directory(self.directory)

    def files(self, units: Collection[str] = ()) -> Iterator[File]:
        """Every file that there ought to be; of the hosts' only those of `units`, if any are given."""
        for kind in PORTAL_FILES:
            yield File(self.portal(kind), kind)
        yield from self.host_files(self.host, units)

    def host_files(self, directory: Path, units: Collection[str] = ()) -> Iterator[File]:
        """The files of a host's directory."""
        yield File(directory / HOST_FILE, HOST)
        for scope in self._store.scopes():
            kind, _, unit = scope.partition(".")
            if kind == UNIT and (not units or unit in units):
                yield File(directory / f"{unit}.creds", UNIT, unit)

    def renew(self, life_s: float = LIFE_S) -> list[Path]:
        """Write the files that are due; return them."""
        return [file.path for file in self.files() if self._is_due(file) and self.write(file, life_s)]

    def write(self, file: File, life_s: float = LIFE_S) -> str:
        """Mint a login, put it in its file, and return its public key."""
        for directory in (self.directory, file.path.parent):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        credential = self._store.mint(file.kind, unit=file.unit, name=self._name, ttl=life_s)
        write_private(file.path, credential.creds_text)
        return credential.public_key

    def public_keys(self, files: Collection[File]) -> list[str]:
        """The users that these files hold now; a file that is missing or broken holds none."""
        found = []
        for file in files:
            with suppress(CredentialsError):
                found.append(Login(file.path).read().claims.sub)
        return found

    def _is_due(self, file: File) -> bool:
        try:
            content = Login(file.path).read()
        except CredentialsError:
            return True
        claims = content.claims
        return time.time() > (claims.iat + claims.exp) / 2 or not self._store.is_current(content.jwt)


def directory_of(keys: Path) -> Path:
    """Where a key store keeps the credential files."""
    return keys / "logins"


def portal_file(directory: Path, kind: str) -> Path:
    """The file of a process of the portal."""
    return directory / "portal" / f"{kind}.creds"


def host_directory(directory: Path) -> Path:
    """The directory of a host."""
    return directory / "host"
