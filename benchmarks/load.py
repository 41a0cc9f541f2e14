"""Loading the whole holding against the raw COPY of its agents.

Ours is `load_holding` on empty tables: 52,550 seats, agents and incumbencies, 181 manifests in the outbox, and
the ledger entries, in one durable transaction. The reference is a binary COPY of the same agent rows, made
beforehand, into a table with the constraints and indexes of `holding_agent` (but no foreign keys), durable
too. The runs also tell the COPY into a table that has none of them.
"""

import argparse
import importlib
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from benchmarks.measuring import Cost, costing, report, servers

FILE = Path(__file__).resolve().parent.parent / "holding" / "data" / "holding.yaml"
SEATS = 52_550
TYPES = ("int8", "int8", "int8", "int4", "varchar", "varchar", "int8", "timestamptz", "varchar")
ROWS = """
select id, unit_id, seat_id, generation, agent_id, subject, blueprint_id, created_at, stage
  from holding_agent order by id
"""
INDEXED: LiteralString = "create table reference (like holding_agent including all)"
BARE: LiteralString = "create table reference (like holding_agent)"
EMPTY = """
do $$
declare names text;
begin
    select string_agg(quote_ident(relname), ', ') into names from pg_class
    where relkind = 'r' and relnamespace = 'public'::regnamespace and relname ~ '^(holding|audit|bus|replacement)_';
    execute 'truncate ' || names || ' restart identity cascade';
end $$
"""


def copy_agents(superuser: psycopg.Connection, table: LiteralString, rows: list[tuple[Any, ...]]) -> Cost:
    """Copy the rows into a new table and commit; return what it cost."""
    superuser.execute("drop table if exists reference")
    superuser.execute(table)
    costs: list[Cost] = []
    with (
        costing(len(rows), costs),
        superuser.transaction(),
        superuser.cursor() as cursor,
        cursor.copy(
            "copy reference (id, unit_id, seat_id, generation, agent_id, subject, blueprint_id, created_at, stage)"
            " from stdin (format binary)"
        ) as copy,
    ):
        copy.set_types(TYPES)
        for row in rows:
            copy.write_row(row)
    return costs[0]


def load(superuser: psycopg.Connection) -> Cost:
    """Load the holding into empty tables; return what it cost."""
    files, services = (importlib.import_module(f"holding.{name}") for name in ("files", "services"))
    superuser.execute("set session_replication_role = replica")  # the ledger refuses to be emptied
    superuser.execute(EMPTY)
    superuser.execute("set session_replication_role = origin")
    data = files.read(FILE)
    superuser.execute("checkpoint")
    costs: list[Cost] = []
    with costing(SEATS, costs):
        result = services.load_holding(data=data, actor="benchmark")
    assert result.seats == SEATS, result.seats
    return costs[0]


def main() -> None:
    """Measure pairs and print the result line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    pairs, runs = [], []
    count = parser.parse_args().pairs
    with servers() as postgres, psycopg.connect(postgres.superuser_url(), autocommit=True) as superuser:
        for number in range(count + 1):
            ours = load(superuser)
            rows = superuser.execute(ROWS).fetchall()
            superuser.execute("checkpoint")
            reference, bare = (copy_agents(superuser, table, rows) for table in (INDEXED, BARE))
            told = {"ours": ours.figures(), "reference": reference.figures(), "bare": bare.figures()}
            print(told, flush=True)
            if number:  # the first pair warms up
                pairs.append((ours.wall, reference.wall))
                runs.append(told)
    report(
        name="load",
        unit="s",
        pairs=pairs,
        target="<= 5x the binary COPY of the agent rows",
        met=lambda _ours, _reference, ratio: ratio <= 5,
        runs=runs,
    )


if __name__ == "__main__":
    main()
