"""What the tests of the launcher share."""

import os
import uuid
from pathlib import Path

import pytest

MARK = "CLAYTOM_TEST_MARK"


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> str:
    """A word in the environment of every process that this test starts, directly or not."""
    word = f"{MARK}={uuid.uuid4()}"
    monkeypatch.setenv(*word.split("="))
    for name in ("DATABASE_URL", "REDIS_URL", "NATS_URL", "SECRET_KEY", "LIVE_URL", "DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    return word


def marked(word: str) -> list[int]:
    """The live processes with this word in their environment, but for the test itself."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                environment = (entry / "environ").read_bytes()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if word.encode() in environment and state not in "ZX":
                found.append(int(entry.name))
    return found
