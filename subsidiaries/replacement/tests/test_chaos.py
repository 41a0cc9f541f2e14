"""Faults on purpose: refused unless they are allowed, the same by the same seed, and in the ledger."""

from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from django.core.management import CommandError, call_command

from audit.models import LedgerEntry
from bus.models import OutboxMessage
from claytom_agent.messages import HostConfig, decode
from holding.models import Seat
from subsidiaries.replacement import chaos
from subsidiaries.replacement.chaos import ChaosError, Selection
from subsidiaries.replacement.tests.factories import make_staffed_holding

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def holding(db: None, settings: Any) -> None:
    make_staffed_holding()
    OutboxMessage.objects.all().delete()
    settings.CHAOS_ENABLED = True


def orders() -> list[HostConfig]:
    return [decode(HostConfig, bytes(row.payload)) for row in OutboxMessage.objects.order_by("id")]


@pytest.mark.parametrize(
    "arguments",
    [
        ("kill-agents", "--unit=pricing"),
        ("silence", "--unit=pricing"),
        ("kill-host",),
        ("corrupt", "--unit=pricing", "--blueprint=operator/1"),
    ],
)
def test_nothing_is_done_where_chaos_is_off(settings: Any, arguments: tuple[str, ...]) -> None:
    settings.CHAOS_ENABLED = False
    with pytest.raises(CommandError, match="CHAOS_ENABLED=1"):
        call_command("chaos", *arguments)
    assert not OutboxMessage.objects.exists()
    assert not LedgerEntry.objects.filter(action__startswith="chaos.").exists()


def test_agents_are_drawn_by_the_seed_and_told_to_fail() -> None:
    chosen = chaos.kill_agents(selection=Selection("pricing", "operator", share=0.6, seed=7))
    assert len(chosen) == 3
    assert all(subject.startswith("org.claytom.pricing.operator.op-") for subject in chosen)
    assert chaos.kill_agents(selection=Selection("pricing", "operator", share=0.6, seed=7)) == chosen
    assert any(
        chaos.kill_agents(selection=Selection("pricing", "operator", share=0.6, seed=seed)) != chosen
        for seed in range(5)
    )
    assert orders()[0].fail == chosen
    entry = LedgerEntry.objects.filter(action="chaos.kill-agents").earliest("id")
    details = msgspec.json.decode(bytes(entry.body))["details"]
    assert (details["seed"], details["agents"], details["role"]) == (7, 3, "operator")
    assert (entry.actor, entry.object) == ("operator/chaos", "unit/pricing")


def test_many_agents_are_told_in_several_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaos, "ORDER_SIZE", 10)
    chosen = chaos.kill_agents(selection=Selection("pricing"))
    assert [len(order.fail) for order in orders()] == [10, 10, 10, 5]
    assert [subject for order in orders() for subject in order.fail] == chosen


def test_agents_with_a_connection_of_their_own_are_left_alone() -> None:
    Seat.objects.filter(unit__slug="pricing", code="op-0031").update(external=True)
    chosen = chaos.kill_agents(selection=Selection("pricing", "operator"))
    assert len(chosen) == 4
    assert not any("op-0031" in subject for subject in chosen)


def test_a_share_of_a_unit_falls_silent_for_a_while() -> None:
    out = StringIO()
    call_command("chaos", "silence", unit="pricing", share=0.6, seconds=45, seed=3, stdout=out)
    (order,) = orders()
    assert (order.silence_s, len(order.silence)) == (45, 3)
    assert "silent for 45 s (seed 3)" in out.getvalue()
    assert LedgerEntry.objects.filter(action="chaos.silence", object="unit/pricing").count() == 1


def test_a_version_is_corrupted_until_it_is_mended() -> None:
    out = StringIO()
    call_command("chaos", "corrupt", unit="pricing", blueprint=["operator/1"], stdout=out)
    call_command("chaos", "corrupt", unit="pricing", stdout=out)
    assert [order.corrupt for order in orders()] == [["operator/1"], []]
    assert "New agents of pricing of operator/1 crash" in out.getvalue()
    assert "New agents of pricing are well again" in out.getvalue()
    assert LedgerEntry.objects.filter(action="chaos.corrupt", object="unit/pricing").count() == 2


def test_a_version_is_not_corrupted_for_some_of_its_agents() -> None:
    with pytest.raises(CommandError, match="leave --role, --count and --share out"):
        call_command("chaos", "corrupt", unit="pricing", blueprint=["operator/1"], count=3)
    assert not OutboxMessage.objects.exists()


@pytest.mark.parametrize(
    ("version", "there"),
    [("operator/9", "operator/1"), ("pilot/1", "as in operator/1"), ("operator", "operator/1")],
)
def test_a_version_that_does_not_exist_cannot_be_corrupted(version: str, there: str) -> None:
    with pytest.raises(ChaosError, match=f"no blueprint version '{version}'. Versions: {there}"):
        chaos.corrupt(unit="pricing", versions=[version])
    assert not OutboxMessage.objects.exists()


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        (Selection("pricng"), "There is no unit 'pricng'"),
        (Selection("pricing", "pilot"), "Nothing in pricing matches"),
        (Selection("pricing", count=0), "above 0"),
        (Selection("pricing", share=1.5), "at most 1"),
    ],
)
def test_what_cannot_be_meant_is_refused(selection: Selection, words: str) -> None:
    with pytest.raises(ChaosError, match=words):
        chaos.kill_agents(selection=selection)
    assert not OutboxMessage.objects.exists()


def test_a_silence_that_is_no_while_is_refused() -> None:
    with pytest.raises(ChaosError, match="from 1 to 3600"):
        chaos.silence(selection=Selection("pricing"), seconds=0)


def test_only_hosts_of_an_installation_of_ours_are_killed(settings: Any, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path
    with pytest.raises(CommandError, match="No holding of ours runs"):
        call_command("chaos", "kill-host")
    assert not LedgerEntry.objects.filter(action="chaos.kill-host").exists()
