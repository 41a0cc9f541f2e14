"""The start: `manage.py up` until every agent is live and the overview answers; on empty data, and again.

Reference: the three servers alone, in the same run (empty data, then again).
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measuring import report
from deployment.embedded.secrets import Credentials
from deployment.embedded.stack import Stack
from tests.stack import RunningHolding


def servers_alone() -> float:
    """Return the seconds in which PostgreSQL, Redis and NATS come up on empty data."""
    with tempfile.TemporaryDirectory(prefix="claytom-bench-", ignore_cleanup_errors=True) as directory:
        stack = Stack(
            directory=Path(directory), credentials=Credentials(), logs=Path(directory) / "logs", usual_ports=False
        )
        began = time.perf_counter()
        try:
            stack.start()
            return time.perf_counter() - began
        finally:
            stack.stop()


def once() -> dict[str, Any]:
    """Return the seconds of a first and a second start, of both stops, and what was live."""
    with RunningHolding() as holding:
        first = holding.seconds
        overview = holding.get("/api/v1/overview/")
        first_stop = holding.stop()
        holding.start()
        second = holding.seconds
        live = holding.get("/api/v1/overview/")["live"]
        return {
            "first_s": round(first, 2),
            "second_s": round(second, 2),
            "stops_s": [round(first_stop, 2), round(holding.stop(), 2)],
            "live": [overview["live"], live],
        }


def main() -> None:
    """Run the benchmark and print its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    wanted = parser.parse_args().pairs
    pairs: list[tuple[float, float]] = []
    runs: list[dict[str, Any]] = []
    for _ in range(wanted):
        run, alone = once(), servers_alone()
        pairs.append((run["first_s"], alone))
        runs.append({**run, "servers_alone_s": round(alone, 2)})
        print(runs[-1])
    second = sorted(run["second_s"] for run in runs)[len(runs) // 2]
    report(
        name="start",
        unit="seconds to 52,550 live agents and an answering overview",
        pairs=pairs,
        target="<= 60 s on empty data, <= 20 s again",
        met=lambda ours, _reference, _ratio: ours <= 60 and second <= 20,
        runs=runs,
    )


if __name__ == "__main__":
    main()
