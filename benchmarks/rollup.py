"""KPIs of an hour from millions of raw samples, and what pages read instead.

Ours is the query that the portal would send for an hour by unit and role, through the ORM; the reference is
the same GROUP BY written by hand. Pages never do this: the reads that they do are timed beside it, at full
data (52,550 seats, a day of minutes).
"""

import argparse

from benchmarks import measuring

TARGET_RATIO = 1.1
TARGET_READ_MS = 2.0


def main() -> None:
    """Run the pairs and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000, help="raw samples, over seven hours")
    parser.add_argument("--pairs", type=int, default=7)
    options = parser.parse_args()
    with measuring.servers(role="ingest") as postgres:
        from benchmarks import kpi_tables

        tables = kpi_tables.Tables(postgres)
        tables.fill(options.rows)
        pairs = [(tables.hour_by_orm(), tables.hour_by_hand()) for _ in range(options.pairs + 1)][1:]
        reads = tables.page_reads()
    for name, ms in reads.items():
        print(f"  {name}: {ms:.2f} ms")
    measuring.report(
        name="rollup",
        unit="ms",
        pairs=pairs,
        target=f"<= {TARGET_RATIO}x the same GROUP BY; <= {TARGET_READ_MS:g} ms for each read of a page",
        met=lambda _ours, _reference, ratio: ratio <= TARGET_RATIO and max(reads.values()) <= TARGET_READ_MS,
        runs=[{"rows": options.rows, "pairs_ms": pairs, "reads_ms": reads}],
    )


if __name__ == "__main__":
    main()
