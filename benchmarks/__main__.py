"""`python -m benchmarks [NAME]`: run every benchmark, or one; keep the results as JSON and as a table."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SHARED = {"__init__", "__main__", "measuring", "kpi_load", "kpi_tables"}


def names() -> list[str]:
    """Return the benchmarks there are."""
    return sorted(path.stem for path in HERE.glob("*.py") if path.stem not in SHARED)


def run(name: str) -> dict[str, Any]:
    """Run one benchmark in a process of its own, showing what it prints; return its last line."""
    print(f"== {name}", flush=True)
    last = ""
    with subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.{name}"], cwd=HERE.parent, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line
    if process.returncode:
        raise SystemExit(f"benchmark {name} failed (exit {process.returncode})")
    result: dict[str, Any] = json.loads(last)
    return result


def table(results: list[dict[str, Any]]) -> str:
    """Return the results as a Markdown table."""
    lines = ["| benchmark | ours | reference | ratio | unit | target | met |", "|---|---|---|---|---|---|---|"]
    lines += [
        f"| {r['name']} | {r['ours']} | {r['reference']} | {r['ratio']} | {r['unit']} | {r['target']}"
        f" | {'yes' if r['met'] else 'no'} |"
        for r in results
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what was asked for and keep the results."""
    asked = sys.argv[1:] or names()
    if unknown := set(asked) - set(names()):
        raise SystemExit(f"No benchmark {', '.join(sorted(unknown))}. There are: {', '.join(names())}.")
    results = [run(name) for name in asked]
    content = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "results": results}
    (HERE / "results.json").write_text(json.dumps(content, indent=2) + "\n")
    (HERE / "results.md").write_text(table(results))
    print(table(results))


if __name__ == "__main__":
    main()
