"""The file ``DATA_DIR/env``: how every other command finds the running stack."""

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from deployment.embedded.secrets import write_private

REPOSITORY = Path(__file__).resolve().parents[2]
_LINE = re.compile(r"export ([A-Z_]+)=(.*)")


def default_data_directory() -> Path:
    """DATA_DIR of the environment, else ``var`` in the repository."""
    return Path(os.environ.get("DATA_DIR") or REPOSITORY / "var").absolute()


def write(path: Path, variables: Mapping[str, str]) -> None:
    """Write a file that ``sh`` can source, mode 0600."""
    lines = [f"export {name}='{value.replace(chr(39), _QUOTE)}'\n" for name, value in sorted(variables.items())]
    write_private(path, "".join(lines))


_QUOTE = "'\\''"


def read(path: Path) -> dict[str, str]:
    """The variables of such a file; none when it does not exist."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return {}
    found = [match.groups() for match in map(_LINE.fullmatch, lines) if match]
    return {name: "".join(shlex.split(value)) for name, value in found}


def adopt() -> None:
    """Let this process talk to the stack of the data directory, unless it was told another database."""
    if not os.environ.get("DATABASE_URL"):
        for name, value in read(default_data_directory() / "env").items():
            os.environ.setdefault(name, value)
