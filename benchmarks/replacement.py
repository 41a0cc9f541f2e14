"""True replacements at scale: agents of live hosts fail, of one subsidiary and then of all of them at once.

Ours: seconds from the order to fail until every failed agent has a live successor (reported failed by its host,
decided, recorded, audited, told to the hosts, reported back); the daily cap is raised, as a standing delegation
would. Reference, in the same run: publishing as many messages and inserting as many rows, in batches of 500. The
memory of the processes that decide is read before and after, to show that it stays as it is.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.measuring import report
from claytom_agent.client import Bus, Outgoing
from tests.stack import RunningHolding

UNITS = ("pricing", "logistics", "energy", "software", "people", "finance", "risk")
TARGET_S, TARGET_ALL_S = 5.0, 60.0
PATIENCE_S = 180.0
BATCH = 500
DECIDERS = ("bus", "ingest", "worker", "beat")
MOST_GROWTH_MB = 64.0
RESTORED = """
    select count(*) from replacement_replacement r join holding_agent a on a.id = r.old_agent_id
     where a.subject = any(%s) and r.live_at is not null
"""
UNRECORDED = """
    select count(*) from replacement_replacement r
     where r.decided_at > %s and not exists (
           select from audit_ledgerentry e
             join holding_seat s on s.id = r.seat_id join holding_unit u on u.id = s.unit_id
            where e.action = 'seat.appoint' and e.at >= %s and e.object = 'seat/' || u.slug || '/' || s.code)
"""


def raise_caps(holding: RunningHolding) -> None:
    """Let as many be replaced as fail, and count an agent as lasting after a second: rounds follow each other."""
    with psycopg.connect(holding.env["DATABASE_URL"]) as connection:
        connection.execute("update replacement_staffingrule set daily_cap = 1000, stable_s = 1")


def settle(holding: RunningHolding) -> None:
    """Wait until every unit has once been seen at its floor."""
    query = "select count(*) from replacement_unitfloor where reached_at is null"
    holding.until(lambda: holding.value(query) == 0, seconds=60, step=0.5)


def fail(holding: RunningHolding, unit: str) -> list[str]:
    """Let all agents of a unit fail; return their subjects."""
    agents = holding.agents(unit)

    async def send(bus: Bus) -> None:
        headers = {"ce-type": "org.claytom.host.config.v1", "ce-source": "portal/test"}
        for start in range(0, len(agents), BATCH):
            body = json.dumps({"fail": agents[start : start + BATCH]}).encode()
            await bus.publish(f"org.claytom.{unit}.command.config", body, headers)
        await bus.flush()

    holding.with_bus(send)
    return agents


def replaced(holding: RunningHolding, units: Sequence[str]) -> dict[str, Any]:
    """Let every agent of the units fail at once; return how many there were, and what it took."""
    at = holding.value("select clock_timestamp()")
    before = memory(holding)
    began = time.perf_counter()
    failed = [subject for unit in units for subject in fail(holding, unit)]
    step = 0.1 + len(failed) / 50_000  # to ask about all of them takes the database a while
    holding.until(lambda: holding.value(RESTORED, failed) == len(failed), seconds=PATIENCE_S, step=step)
    seconds = time.perf_counter() - began
    after = memory(holding)
    return {
        "agents": len(failed),
        "seconds": round(seconds, 3),
        "unrecorded": holding.value(UNRECORDED, at, at),
        "duplicates": holding.duplicates() + holding.value("select count(*) from replacement_doubleholder"),
        "grown_mb": {name: round(after[name] - before[name], 1) for name in before},
    }


def memory(holding: RunningHolding) -> dict[str, float]:
    """Return the resident memory of the processes that decide, and of their children, in MB."""
    return {name: _rss_mb(holding.ready["processes"][name]) for name in DECIDERS}


def _rss_mb(pid: int) -> float:
    own = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 1e6
    children = Path(f"/proc/{pid}/task/{pid}/children")
    below = children.read_text().split() if children.exists() else []
    return own + sum(_rss_mb(int(child)) for child in below)


def reference(holding: RunningHolding, count: int) -> float:
    """Return the seconds to publish so many messages and to insert so many rows, both in batches of 500."""
    stamp = time.time_ns()
    messages = [
        Outgoing(
            "org.claytom.corporate.command.scale", b'{"reference":true}', {"Nats-Msg-Id": f"reference-{stamp}-{n}"}
        )
        for n in range(count)
    ]

    async def publish(bus: Bus) -> float:
        began = time.perf_counter()
        for start in range(0, len(messages), BATCH):
            await bus.js_publish_batch(messages[start : start + BATCH])
        return time.perf_counter() - began

    seconds = holding.with_bus(publish)
    with psycopg.connect(holding.env["DATABASE_URL"]) as connection, connection.cursor() as cursor:
        cursor.execute("create temp table reference (id bigint primary key, subject text, at timestamptz)")
        connection.commit()
        began = time.perf_counter()
        for start in range(0, count, BATCH):
            cursor.executemany(
                "insert into reference values (%s, %s, now())",
                [(number, "org.claytom.pricing.operator.op-0042-g2") for number in range(start, start + BATCH)],
            )
            connection.commit()
        return seconds + time.perf_counter() - began


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5, help="subsidiaries that lose everybody (1 to 7)")
    parser.add_argument("--agents-per-subsidiary", type=int, default=0, help="fewer agents (0: all)")
    parser.add_argument("--without-all", action="store_true", help="leave the round with all subsidiaries out")
    given = parser.parse_args(arguments)
    scale = ["--agents-per-subsidiary", str(given.agents_per_subsidiary)] if given.agents_per_subsidiary else []
    pairs: list[tuple[float, float]] = []
    runs: list[dict[str, Any]] = []
    with RunningHolding(arguments=scale) as holding:
        raise_caps(holding)
        settle(holding)
        for unit in UNITS[: given.pairs]:
            run = {"unit": unit, **replaced(holding, [unit])}
            run["reference_s"] = round(reference(holding, run["agents"]), 3)
            pairs.append((run["seconds"], run["reference_s"]))
            runs.append(run)
            print(run, flush=True)
        if not given.without_all:
            subsidiaries = [
                slug for (slug,) in holding.rows("select slug from holding_unit where kind <> 'corporate'")
            ]
            runs.append({"unit": "all", **replaced(holding, subsidiaries)})
            print(runs[-1], flush=True)
        verified = json.loads(holding.manage("verify_ledger", "--json").stdout)
        runs.append({"ledger_ok": verified["ok"], "entries": verified["entries"]})
    rounds = [run for run in runs if "agents" in run]
    sound = verified["ok"] and not any(run["unrecorded"] or run["duplicates"] for run in rounds)
    flat = all(grown <= MOST_GROWTH_MB for run in rounds[1:] for grown in run["grown_mb"].values())
    whole = all(run["seconds"] <= TARGET_ALL_S for run in rounds if run["unit"] == "all")
    report(
        name="replacement",
        unit="seconds until every agent of a subsidiary that failed at once has a live successor",
        pairs=pairs,
        target="<= 5 s for 1,500; <= 60 s for 52,500; all in the ledger, no duplicates, memory flat",
        met=lambda ours, _reference, _ratio: sound and flat and whole and ours <= TARGET_S,
        runs=runs,
    )


if __name__ == "__main__":
    main()
