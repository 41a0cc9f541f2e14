"""Forgetting 1.25 million expired samples: dropping their partition, against DELETE of as many rows."""

import argparse

from benchmarks import measuring

TARGET_MS = 60.0


def main() -> None:
    """Run the pairs and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_250_000)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    pairs = []
    with measuring.servers(role="ingest") as postgres:
        from benchmarks import kpi_tables

        tables = kpi_tables.Tables(postgres)
        for run in range(1, options.pairs + 1):
            pairs.append((tables.drop_expired(options.rows), tables.delete_expired(options.rows)))
            print(f"  {run}: drop {pairs[-1][0]:.1f} ms, DELETE {pairs[-1][1]:.0f} ms")
    measuring.report(
        name="retention",
        unit="ms",
        pairs=pairs,
        target=f"<= {TARGET_MS:g} ms",
        met=lambda ours, _reference, _ratio: ours <= TARGET_MS,
        runs=[{"drop_ms": round(ours, 2), "delete_ms": round(reference, 1)} for ours, reference in pairs],
    )


if __name__ == "__main__":
    main()
