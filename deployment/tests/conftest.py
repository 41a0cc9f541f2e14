"""What the tests of the launcher share."""

import os
import uuid
from pathlib import Path

import pytest

MARK = "CLAYTOM_TEST_MARK"
OF_THE_TESTS = (
    "DATABASE_URL",
    "DATABASE_OWNER_URL",
    "DATABASE_INGEST_URL",
    "REDIS_URL",
    "NATS_URL",
    "NATS_KEYS",
    "DATA_DIR",
)


def mark_environment(patch: pytest.MonkeyPatch) -> str:
    """Mark every process that is started from now on, directly or not, and forget the tests' own servers."""
    word = f"{MARK}={uuid.uuid4()}"
    patch.setenv(*word.split("="))
    for name in OF_THE_TESTS:
        patch.delenv(name, raising=False)
    return word


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> str:
    """The word that marks the processes of one test."""
    return mark_environment(monkeypatch)


def marked(word: str, directory: Path | None = None) -> list[int]:
    """The live processes with this word in their environment, or at work in this directory, but for the test.

    PostgreSQL writes its titles over its environment, so only its working directory tells.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                environment = (entry / "environ").read_bytes()
                place = (entry / "cwd").readlink()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            ours = word.encode() in environment or (directory is not None and place.is_relative_to(directory))
            if ours and state not in "ZX":
                found.append(int(entry.name))
    return found
