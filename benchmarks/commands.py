"""Pause and resume of every agent: from the order to the last division whose presence shows that it is obeyed.

Reference, in the same run: reading every agent's row once from the database, as an order that wrote a row per agent
would at least have to.
"""

import argparse
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.measuring import report
from tests.stack import RunningHolding

TARGET_S = 5.0
PATIENCE_S = 60.0
COUNTED = """
    select count(*) filter (where state = 'acknowledged'), count(*),
           extract(epoch from max(acknowledged_at) - min(begun_at))::float,
           extract(epoch from max(sent_at) - min(begun_at))::float
      from commands_target where command_id = %s
"""
PAUSED = "select count(*) filter (where state = 'paused'), count(*) from replacement_seatstate"


def order(holding: RunningHolding, verb: str) -> dict[str, Any]:
    """Give one command about everybody, wait until it is obeyed everywhere, and return what it took (seconds)."""
    began = time.perf_counter()
    done = holding.manage("command", verb, "--all", "--reason", "measured", "--no-wait")
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    number = int(holding.value("select max(id) from commands_command"))
    holding.until(lambda: _obeyed(holding, number), PATIENCE_S)
    acknowledged, total, obeyed, sent = holding.rows(COUNTED, number)[0]
    paused, seats = holding.rows(PAUSED)[0]
    agents = int(holding.value("select agents from commands_command where id = %s", number))
    return {
        "verb": verb,
        "agents": agents,
        "divisions": [acknowledged, total],
        "paused": [paused, seats],
        "sent_s": round(sent, 3),
        "obeyed_s": round(obeyed, 3),
        "with_the_command_line_s": round(time.perf_counter() - began, 2),
    }


def _obeyed(holding: RunningHolding, number: int) -> bool:
    acknowledged, total, *_ = holding.rows(COUNTED, number)[0]
    return bool(total) and acknowledged == total


def reading(holding: RunningHolding) -> float:
    """Return the seconds in which every agent's subject is read."""
    began = time.perf_counter()
    holding.agents()
    return time.perf_counter() - began


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--agents-per-subsidiary", type=int, default=0, help="fewer agents (0: all)")
    given = parser.parse_args(arguments)
    scale = ["--agents-per-subsidiary", str(given.agents_per_subsidiary)] if given.agents_per_subsidiary else []
    runs: list[dict[str, Any]] = []
    pairs: list[tuple[float, float]] = []
    with RunningHolding(arguments=scale) as holding:
        for _ in range(given.pairs):
            pair = [order(holding, verb) for verb in ("pause", "resume")]
            pairs.append((max(one["obeyed_s"] for one in pair), reading(holding)))
            runs.extend(pair)
            print(*pair, sep="\n", flush=True)
    whole = all(one["paused"][0] == (one["paused"][1] if one["verb"] == "pause" else 0) for one in runs)
    report(
        name="commands",
        unit="seconds from the order to the last division that obeys, the slower of pause and resume of all",
        pairs=pairs,
        target="<= 5 s, confirmed by observed generation, every agent paused and resumed",
        met=lambda ours, _reference, _ratio: whole and ours <= TARGET_S,
        runs=runs,
    )


if __name__ == "__main__":
    main()
