"""``python -m deployment.embedded up|stop|reset``: what the Makefile calls."""

import argparse
import sys
from pathlib import Path

from deployment.embedded import up
from deployment.embedded.directory import DataDirectory
from deployment.embedded.environment import default_data_directory
from deployment.embedded.errors import EmbeddedError


def main(arguments: list[str]) -> int:
    """Run one verb and return the exit code."""
    if arguments[:1] == ["up"]:
        return up.main(arguments[1:])
    parser = argparse.ArgumentParser(prog="python -m deployment.embedded")
    parser.add_argument("verb", choices=["up", "stop", "reset"])
    parser.add_argument("--data-dir", type=Path, default=default_data_directory())
    given = parser.parse_args(arguments)
    directory = DataDirectory(given.data_dir)
    try:
        sys.stdout.write(stop(directory))
        if given.verb == "reset":
            sys.stdout.write(reset(directory))
    except EmbeddedError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def stop(directory: DataDirectory) -> str:
    """Stop what runs on the directory; say what happened."""
    holder = directory.stop_holder()
    return f"Stopped process {holder.pid}.\n" if holder else f"Nothing runs on {directory.path}.\n"


def reset(directory: DataDirectory) -> str:
    """Delete the directory; say what happened."""
    if not directory.path.exists():
        return f"{directory.path} does not exist.\n"
    directory.delete()
    return f"Deleted {directory.path}.\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
