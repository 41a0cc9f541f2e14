"""Whatever happens to NATS and its store, each promised message is in the database once, within a minute.

`make test` runs a share, with the run's seed; `make test-full` all of it.
"""

import asyncio
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holding.tests.factories import make_holding
from subsidiaries.performance import services
from subsidiaries.replacement import observing
from tests.faults.driver import Faults, PowerCut, Result, Rig

pytestmark = pytest.mark.django_db(transaction=True)
UNITS = ("pricing", "sales")


@pytest.fixture(autouse=True)
def holding(redis_url: str) -> None:
    make_holding(subsidiaries=UNITS)
    observing.ensure_states()
    services.maintain_partitions()


@pytest.fixture
def dice() -> random.Random:
    seed = int(os.environ.get("FAULTS_SEED") or random.randrange(10**6))
    sys.stdout.write(f"FAULTS_SEED={seed}\n")  # of a failed test, pytest shows it
    return random.Random(seed)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[PowerCut]:
    if reason := PowerCut.why_not():
        pytest.skip(reason)
    with PowerCut(tmp_path) as disk:
        yield disk


def suffer(
    name: str,
    directory: Path,
    database: str,
    dice: random.Random,
    disk: PowerCut | None = None,
    load_s: float = 2.0,
) -> Result:
    async def run() -> Result:
        store = disk.mount / "nats" if disk is not None else None
        async with Rig(directory, database, units=UNITS, store=store) as rig:
            fault = getattr(Faults(rig, dice, disk), name)
            return await rig.suffer(name, fault, load_s=load_s, blind=name not in ("restart", "stop"))

    result = asyncio.run(run())
    sys.stdout.write(f"{result}\n")
    return result


def assert_each_once(result: Result) -> None:
    assert result.promised > 500
    assert (result.lost, result.doubled, result.gaps) == (0, 0, 0)
    assert result.refilled_s <= 60, "the gaps were not found and refilled in time"
    assert result.returned_s <= 60, "the fleet did not come back"


@pytest.mark.parametrize("name", ["flip", "truncate"])
def test_a_damaged_store_loses_nothing(
    name: str, tmp_path: Path, postgres_superuser_dsn: str, dice: random.Random
) -> None:
    result = suffer(name, tmp_path, postgres_superuser_dsn, dice)
    assert_each_once(result)
    assert result.lost_by_stream > 0, "the damage must have cost acknowledged messages, or nothing was tried"
    assert result.sent_again > 0, "but for what the portal had in hand, it must come again"


@pytest.mark.full
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ["flip", "truncate"])
def test_a_damaged_store_loses_nothing_wherever_it_is_damaged(
    name: str, seed: int, tmp_path: Path, postgres_superuser_dsn: str
) -> None:
    assert_each_once(suffer(name, tmp_path, postgres_superuser_dsn, random.Random(seed), load_s=4))


@pytest.mark.full
def test_a_restart_under_load_loses_nothing(
    tmp_path: Path, postgres_superuser_dsn: str, dice: random.Random
) -> None:
    assert_each_once(suffer("restart", tmp_path, postgres_superuser_dsn, dice))


@pytest.mark.full
def test_a_minute_without_nats_loses_nothing_and_the_fleet_returns(
    tmp_path: Path, postgres_superuser_dsn: str, dice: random.Random
) -> None:
    assert_each_once(suffer("stop", tmp_path, postgres_superuser_dsn, dice))


@pytest.mark.full
@pytest.mark.parametrize("round_", range(3))
def test_a_power_cut_loses_nothing(
    round_: int, tmp_path: Path, postgres_superuser_dsn: str, dice: random.Random, disk: PowerCut
) -> None:
    assert_each_once(suffer("power", tmp_path, postgres_superuser_dsn, dice, disk))
