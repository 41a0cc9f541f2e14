"""KPI ingest from a full stream, against raw COPY of the same rows.

Ours is the whole path in one process: pull from JetStream, check, drop duplicates, COPY, sums, commit,
acknowledge. The reference is one process that copies the same rows, packed beforehand, into a table of the
same form, in transactions of the same size. Both on durable servers; pairs alternate. A first pair is not
counted: in it the process meets each of its 52,500 senders for the first time.
"""

import argparse

from benchmarks import measuring

TARGET_RATIO = 0.2
TARGET_ROWS = 50_000
TARGET_CPU = 10.0


def main() -> None:
    """Run the pairs and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=105_000, help="samples in the stream for each run")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--profile", action="store_true", help="print where our time goes in the last run")
    options = parser.parse_args()
    pairs = []
    with measuring.servers(role="ingest") as postgres:
        from benchmarks import kpi_load
        from bus import pull

        load = kpi_load.Load(postgres)
        pull.spare_the_collector()  # as the process does
        for run in range(options.pairs + 1):
            rows = load.fill(options.rows, epoch=run + 1)
            ours = load.ingest(options.rows, profile=options.profile and run == options.pairs)
            reference = load.copy(options.rows, rows)
            if run:
                pairs.append((ours, reference))
            print(
                f"  {run or 'first'}: ours {ours.per_second:,.0f} rows/s, {ours.cpu_us:.1f} us CPU a row; "
                f"COPY {reference.per_second:,.0f} rows/s, {reference.cpu_us:.2f} us"
            )
        load.verify(options.rows * (options.pairs + 1))
    cpu = measuring.median([ours.cpu_us for ours, _ in pairs])
    measuring.report(
        name="ingest",
        unit="rows/s",
        pairs=[(ours.per_second, reference.per_second) for ours, reference in pairs],
        target=f">= {TARGET_ROWS} rows/s; >= {TARGET_RATIO} of COPY; <= {TARGET_CPU:g} us CPU a row",
        met=lambda rows, _, ratio: rows >= TARGET_ROWS and ratio >= TARGET_RATIO and cpu <= TARGET_CPU,
        runs=[
            {"ours": ours.figures(), "reference": reference.figures(), "cpu_us": round(ours.cpu_us, 2)}
            for ours, reference in pairs
        ],
    )


if __name__ == "__main__":
    main()
