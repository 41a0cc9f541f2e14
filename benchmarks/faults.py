"""NATS damaged, cut off, restarted and stopped under load: how long until every promised message is committed.

A host runs agents and keeps what they say in its spool; the faults hit while messages are stored in the stream and
received by nobody. Ours is how many promised messages were lost or doubled, by identity; the reference is what the
stream lost of those that it had acknowledged. Each run says how long it took from NATS being back until everything
that was promised before was committed. A fault that this machine cannot simulate is named with the reason.
"""

import argparse
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import measuring
from deployment.embedded.postgres import Postgres
from tests.faults.driver import Faults, PowerCut, Result, Rig

UNITS = ("pricing", "sales", "data")
ALL = ("flip", "truncate", "restart", "stop", "power")
TARGET_S = 60.0


def main() -> None:
    """Run the faults and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--rounds", type=int, default=2, help="of each fault; the minute without NATS comes once")
    parser.add_argument("--agents", type=int, default=150, help="per subsidiary")
    parser.add_argument(
        "faults", nargs="*", default=[], metavar="FAULT", help=f"of {', '.join(ALL)}; all without any"
    )
    options = parser.parse_args()
    results: list[Result] = []
    skipped: dict[str, str] = {}
    with measuring.servers() as postgres:
        _load(options.agents)
        for name in options.faults or ALL:
            if name == "power" and (reason := PowerCut.why_not()):
                skipped[name] = reason
                print(f"  {name}: not tried: {reason}")
                continue
            for number in range(1 if name == "stop" else options.rounds):
                results.append(_suffer(name, postgres, random.Random(f"{options.seed}-{name}-{number}")))
                print(f"  {results[-1]}", flush=True)
    _report(results, skipped, options.seed)


def _load(agents: int) -> None:
    from holding.tests.factories import make_holding
    from subsidiaries.performance import services
    from subsidiaries.replacement import observing

    make_holding(agents=agents, subsidiaries=UNITS)
    observing.ensure_states()
    services.maintain_partitions()


def _suffer(name: str, postgres: Postgres, dice: random.Random) -> Result:
    """Let one fault happen to a NATS, a spool and tables of its own."""
    _forget()

    async def run(directory: Path, disk: PowerCut | None) -> Result:
        store = disk.mount / "nats" if disk is not None else None
        async with Rig(directory, postgres.superuser_url(), units=UNITS, store=store) as rig:
            fault = getattr(Faults(rig, dice, disk), name)
            return await rig.suffer(name, fault, load_s=4.0, blind=name not in ("restart", "stop"))

    with tempfile.TemporaryDirectory(prefix="claytom-faults-", ignore_cleanup_errors=True) as directory:
        if name != "power":
            return uvloop.run(run(Path(directory), None))
        with PowerCut(Path(directory)) as disk:
            return uvloop.run(run(Path(directory), disk))


def _forget() -> None:
    """Let nothing of the fault before be in the database: its epochs come again with the next server."""
    from django.db import connection

    from bus.models import OutboxMessage

    with connection.cursor() as cursor:
        for table in ("performance_kpisample", "performance_kpiminute", "performance_kpilatest", "bus_watermark",
                      "bus_lease", "bus_handledmessage"):  # fmt: skip
            cursor.execute(f"delete from {table}")  # noqa: S608 - names of ours
        cursor.execute("update replacement_divisionstate set epoch = 0, seen_at = null, reported_at = null")
    OutboxMessage.objects.filter(subject__startswith="$KV.CT_SEATS.").update(sent_at=None)  # a new server has none


def _report(results: list[Result], skipped: dict[str, str], seed: int) -> None:
    harmed = sum(result.lost + result.doubled for result in results)
    lost_by_stream = sum(result.lost_by_stream for result in results)
    line: dict[str, Any] = {
        "name": "faults",
        "ours": harmed,
        "reference": lost_by_stream,
        "unit": "messages lost or doubled",
        "ratio": round(harmed / lost_by_stream, 4) if lost_by_stream else 0.0,
        "target": f"0 of all promised; every gap refilled and the fleet back within {TARGET_S:g} s",
        "met": bool(results) and all(result.good for result in results),
        "runs": [result.figures() for result in results],
        "skipped": skipped,
        "seed": seed,
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
