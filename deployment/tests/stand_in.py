"""`python -m deployment.tests.stand_in up-options…`: the real supervisor with a stand-in for the portal.

Its processes have children of their own, as granian and Celery do, and one dies again and again.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deployment.embedded.options import parse
from deployment.embedded.programs import Program
from deployment.embedded.readiness import Agents
from deployment.embedded.up import Plan, Progress, Watch, up

PARENT = "import subprocess, sys, time; subprocess.Popen(['sleep', '600']); time.sleep(600)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
COUNTER = "import os, pathlib; p = pathlib.Path(os.environ['DATA_DIR'], 'starts'); p.open('a').write('x'); exit(3)"


def stand_ins(*, env: Mapping[str, str], logs: Path, **_options: Any) -> list[Program]:
    """A process with a child, one that dies, and on request one that does not want to end."""
    code = {"parent": PARENT, "crasher": COUNTER}
    if os.environ.get("STAND_IN_STUBBORN"):
        code["stubborn"] = STUBBORN
    return [Program(name, [sys.executable, "-c", text], env, logs) for name, text in code.items()]


class Ready(Watch):
    """Is satisfied at once, and needs no database."""

    def __init__(self, dsn: str, url: str) -> None:
        self.agents = Agents(0, 0)

    def close(self) -> None:
        """There is nothing to close."""

    def is_up(self, progress: Progress) -> bool:
        """Say that one agent of one lives."""
        self.agents = Agents(1, 1)
        return True


if __name__ == "__main__":
    fails = os.environ.get("STAND_IN_FAILS")
    prepare = [sys.executable, "-c", "exit('the holding file is broken')" if fails else "print('=> Prepared')"]
    sys.exit(up(parse(sys.argv[1:]), Plan(prepare=prepare, programs=stand_ins, watch=Ready)))
