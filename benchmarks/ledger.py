"""What the ledger costs, and how fast it verifies.

Ours is appointing a successor to every operator of a division (294 seats: agents, incumbencies, manifest, outbox,
and one ledger entry each) in one durable transaction; the reference is the same without the entries. Besides,
a ledger of 100,000 sealed entries is verified: every byte, column, leaf and tree head.
"""

import argparse
import importlib
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.measuring import Cost, costing, report, servers

FILE = Path(__file__).resolve().parent.parent / "holding" / "data" / "holding.yaml"
ENTRIES = 100_000
BATCH = 5_000
SLOWEST = 50_000  # entries verified per second
DEAREST = 1.3


def appoint(seats: Iterable[int], generation: int) -> Cost:
    """Appoint a successor to each seat; return what it cost."""
    services, django_db = importlib.import_module("holding.services"), importlib.import_module("django.db")
    wanted = [(seat, generation) for seat in seats]
    costs: list[Cost] = []
    with costing(len(wanted), costs), django_db.transaction.atomic():
        done = services.appoint(seats=wanted, actor="benchmark", reason="failed")
    assert len(done) == len(wanted)
    return costs[0]


def appoint_untold(seats: Iterable[int], generation: int) -> Cost:
    """The same without the ledger."""
    with patch("audit.services.record_many", lambda **_: []):
        return appoint(seats, generation)


def verified_per_second() -> dict[str, Any]:
    """Write and seal `ENTRIES` entries, and verify them; return the rates per second."""
    audit, django_db = importlib.import_module("audit.services"), importlib.import_module("django.db")
    act = {"reason": "failed", "old": "org.claytom.pricing.operator.op-0042-g2", "generation": 3}
    written = time.perf_counter()
    for first in range(0, ENTRIES, BATCH):
        with django_db.transaction.atomic():
            audit.record_many(
                acts=[
                    audit.Act(actor="arp", action="seat.appoint", object=f"seat/pricing/op-{n}", details=act)
                    for n in range(first, first + BATCH)
                ]
            )
    sealed = time.perf_counter()
    while audit.seal(limit=BATCH):
        pass
    started = time.perf_counter()
    result = audit.verify()
    ended = time.perf_counter()
    assert result.ok, result.faults
    return {
        "entries": result.size,
        "written_per_s": round(ENTRIES / (sealed - written)),
        "sealed_per_s": round(result.size / (started - sealed)),
        "verified_per_s": round(result.size / (ended - started)),
    }


def main() -> None:
    """Measure pairs and print the result line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=9)
    count = parser.parse_args().pairs
    pairs: list[tuple[float, float]] = []
    runs: list[dict[str, Any]] = []
    with servers():
        files, services, models = (
            importlib.import_module(f"holding.{name}") for name in ("files", "services", "models")
        )
        services.load_holding(data=files.read(FILE), actor="benchmark")
        operators = models.Seat.objects.filter(division__key="pricing.1", role__slug="operator")
        seats = list(operators.values_list("id", flat=True))
        for number in range(count + 1):
            ours = appoint(seats, 2 * number + 1)
            reference = appoint_untold(seats, 2 * number + 2)
            if number:  # the first pair warms up
                pairs.append((ours.wall, reference.wall))
                runs.append({"ours": ours.figures(), "reference": reference.figures()})
        rates = verified_per_second()
        runs.append(rates)
    report(
        name="ledger",
        unit="s",
        pairs=pairs,
        target=f"<= {DEAREST}x the same writes without it; verify >= {SLOWEST} entries/s",
        met=lambda _ours, _reference, ratio: ratio <= DEAREST and rates["verified_per_s"] >= SLOWEST,
        runs=runs,
    )


if __name__ == "__main__":
    main()
