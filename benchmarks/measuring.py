"""What the benchmarks share: own servers that leave nothing, costs in wall and processor time, the result line."""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import django
from django.core.management import call_command

from deployment.embedded.postgres import Postgres
from deployment.embedded.secrets import Credentials
from deployment.embedded.stack import Stack

median = statistics.median


@dataclass(frozen=True, slots=True)
class Cost:
    """What handling `n` rows took: seconds on the wall and of this process's processor time."""

    n: int
    wall: float
    cpu: float

    @property
    def per_second(self) -> float:
        """Rows per second."""
        return self.n / self.wall

    @property
    def cpu_us(self) -> float:
        """Microseconds of processor time per row, of this process."""
        return self.cpu / self.n * 1e6

    def figures(self) -> dict[str, float]:
        """Return it for the result line."""
        return {"wall_s": round(self.wall, 4), "cpu_s": round(self.cpu, 4), "per_s": round(self.per_second)}


@contextmanager
def costing(n: int, costs: list[Cost]) -> Iterator[None]:
    """Append what the block costs."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    costs.append(Cost(n, time.perf_counter() - wall, time.process_time() - cpu))


@contextmanager
def servers(role: str = "app") -> Iterator[Postgres]:
    """Start durable servers on free ports in a temporary directory, migrate, and set Django up for `role`."""
    with tempfile.TemporaryDirectory(prefix="claytom-bench-", ignore_cleanup_errors=True) as directory:
        credentials = Credentials()
        stack = Stack(
            directory=Path(directory), credentials=credentials, logs=Path(directory) / "logs", usual_ports=False
        )
        os.environ.update(
            stack.urls(),
            SECRET_KEY=credentials.secret_key,
            DATA_DIR=directory,
            DATABASE_ROLE=role,
            DJANGO_SETTINGS_MODULE="config.settings",
            SCOPE="everything",
            LOG_LEVEL="WARNING",
        )
        try:
            stack.start()
            django.setup()
            call_command("migrate", database="owner", verbosity=0, interactive=False, skip_checks=True)
            yield cast(Postgres, stack.postgres)
        finally:
            stack.stop()


def report(
    *,
    name: str,
    unit: str,
    pairs: Sequence[tuple[float, float]],
    target: str,
    met: Callable[[float, float, float], bool],
    runs: Sequence[Any],
) -> None:
    """Print the result as one JSON object: medians of ours and the reference, and of the pairs' ratios."""
    ours, reference = median([pair[0] for pair in pairs]), median([pair[1] for pair in pairs])
    ratio = median([pair[0] / pair[1] for pair in pairs])
    result = {
        "name": name,
        "ours": round(ours, 4),
        "reference": round(reference, 4),
        "unit": unit,
        "ratio": round(ratio, 4),
        "target": target,
        "met": met(ours, reference, ratio),
        "runs": list(runs),
    }
    print(json.dumps(result))
