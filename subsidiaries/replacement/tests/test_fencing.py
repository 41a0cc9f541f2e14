"""Hosts that act without holding their division are noted, told of once, and change nothing."""

from datetime import timedelta

import pytest
from django.utils import timezone

from audit.models import LedgerEntry
from bus.fencing import Fenced, report
from bus.leases import BOOK, Claim
from bus.throttle import Throttle
from subsidiaries.replacement import fencing, handlers, observing
from subsidiaries.replacement.models import DivisionState, FencedHost
from subsidiaries.replacement.tests.factories import bring_to_life, give_lease, make_report, make_staffed_holding

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def holding() -> None:
    make_staffed_holding()
    bring_to_life("pricing", epoch=9)
    assert handlers.__name__  # the import registers who is told of fenced hosts


def presence(epoch: int, host: str) -> observing.Observed:
    """Let a report arrive of whoever says so."""
    reports = [make_report("pricing.1", epoch=epoch, host=host)]
    return observing.observe(reports=reports, roster=observing.Roster())


def test_a_made_up_epoch_takes_no_division_and_is_shown() -> None:
    outcome = presence(10**15, "host-x")
    assert (outcome.taken, outcome.stale) == (0, 1)
    state = DivisionState.objects.get(division__key="pricing.1")
    assert (state.epoch, state.host) == (9, "host-a")
    assert presence(9, "host-a").taken == 1, "the host in charge goes on"
    fenced = FencedHost.objects.get()
    assert (fenced.host, fenced.standing, fenced.epoch, fenced.current_epoch, fenced.current_host) == (
        "host-x", "unknown", 10**15, 9, "host-a"
    )  # fmt: skip


def test_the_epoch_of_another_host_takes_no_division() -> None:
    assert presence(9, "host-x").stale == 1
    assert FencedHost.objects.get().standing == "impostor"
    assert DivisionState.objects.get(division__key="pricing.1").host == "host-a"


def test_a_returned_zombie_is_counted_by_what_it_sends_and_told_of_once() -> None:
    give_lease("pricing.1", 12, "host-b")
    for _ in range(3):
        presence(9, "host-a")
    claim = Claim("pricing.1", 9)
    verdict = BOOK.judge([claim])[claim]
    report([Fenced("pricing.1", 9, "host-a", verdict, "kpi.sample", 40, timezone.now())])
    fenced = FencedHost.objects.get()
    assert (fenced.standing, fenced.messages, fenced.current_host) == ("superseded", 43, "host-b")
    assert fenced.sent == {"host.presence": 3, "kpi.sample": 40}
    (entry,) = LedgerEntry.objects.filter(action="host.fence")
    assert (entry.object, entry.actor) == ("division/pricing.1", "portal/fencing")


def test_what_a_host_delivers_late_is_no_intrusion() -> None:
    give_lease("pricing.1", 12, "host-b")
    claim = Claim("pricing.1", 9)
    verdict = BOOK.judge([claim])[claim]
    before = timezone.now() - timedelta(minutes=1)
    report([Fenced("pricing.1", 9, "host-a", verdict, "kpi.sample", 40, before)])
    assert not FencedHost.objects.exists()


def test_whoever_makes_up_epochs_fills_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fencing, "_new_rows", Throttle(burst=5, per_second=0))
    for epoch in range(10**6, 10**6 + 20):
        presence(epoch, "host-x")
    assert FencedHost.objects.count() == 5
    assert LedgerEntry.objects.filter(action="host.fence").count() == 5


def test_a_division_that_the_holding_has_not_is_only_counted() -> None:
    claim = Claim("nowhere.1", 9)
    verdict = BOOK.judge([claim])[claim]
    report([Fenced("nowhere.1", 9, "host-x", verdict, "kpi.sample", 40, timezone.now())])
    assert not FencedHost.objects.exists()
