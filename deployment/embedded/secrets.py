"""Passwords, made once per data directory and readable by its owner only."""

import json
import os
import secrets
import tempfile
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Self


def _password() -> str:
    return secrets.token_urlsafe(24)


@dataclass(frozen=True)
class Credentials:
    """Every secret of one embedded installation."""

    postgres_superuser: str = field(default_factory=_password)
    postgres_migrator: str = field(default_factory=_password)
    postgres_app: str = field(default_factory=_password)
    postgres_ingest: str = field(default_factory=_password)
    redis: str = field(default_factory=_password)
    secret_key: str = field(default_factory=lambda: secrets.token_urlsafe(48))
    administrator: str = field(default_factory=_password)
    api_token: str = field(default_factory=_password)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read ``path``; create it, or add what a newer version needs, when something is missing."""
        known = {item.name for item in fields(cls)}
        try:
            stored = json.loads(path.read_text())
        except FileNotFoundError:
            stored = {}
        credentials = cls(**{name: value for name, value in stored.items() if name in known})
        if asdict(credentials) != stored:
            credentials.save(path)
        return credentials

    def appear_in(self, url: str) -> bool:
        """Whether ``url`` names one of the servers that these secrets were made for."""
        return any(value and value in url for value in asdict(self).values())

    def save(self, path: Path) -> None:
        """Write all of it atomically, mode 0600."""
        write_private(path, json.dumps(asdict(self), indent=2) + "\n")


def write_private(path: Path, text: str) -> None:
    """Replace ``path`` by a file of mode 0600; a reader sees the old text or the new, never half of it."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    Path(name).replace(path)
