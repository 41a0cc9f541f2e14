"""When the holding counts as up."""

import os

import pytest
from django.db.models import F
from django.utils import timezone

from deployment.embedded.readiness import AgentCount, Agents, answers
from holding.models import Seat
from subsidiaries.replacement.models import Census, DivisionState
from subsidiaries.replacement.tests.factories import make_staffed_holding

pytestmark = pytest.mark.django_db(transaction=True)


def test_what_the_census_says_from_the_last_run_does_not_count() -> None:
    make_staffed_holding()
    Census.objects.update(live=F("seats"))
    DivisionState.objects.update(seen_at=timezone.now())
    seats = Seat.objects.count()
    count = AgentCount(os.environ["DATABASE_INGEST_URL"])
    count.begin()
    try:
        assert count() == Agents(0, seats)
        DivisionState.objects.update(seen_at=timezone.now())
        assert count() == Agents(seats, seats)
        assert count().complete
    finally:
        count.close()


def test_a_holding_without_seats_is_not_up() -> None:
    count = AgentCount(os.environ["DATABASE_INGEST_URL"])
    count.begin()
    assert not count().complete
    count.close()


def test_without_a_database_nothing_is_up() -> None:
    count = AgentCount("postgres://nobody:x@127.0.0.1:1/nothing")
    count.begin()
    assert count() == Agents(0, 0)


def test_nobody_answers_on_a_port_without_listener() -> None:
    assert not answers("http://127.0.0.1:1/healthz")
