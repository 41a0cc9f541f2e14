"""A queryset shows the rows of the scope in which it runs, whenever it was made."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from holding.models import Incumbency, Seat, Unit
from holding.scope import EVERYTHING, NOTHING, VIEW, Scope, assumed
from holding.tests.factories import make_holding

pytestmark = pytest.mark.django_db


@pytest.fixture
def pricing() -> Scope:
    make_holding(subsidiaries=("pricing", "tax"))
    return Scope({VIEW: frozenset({Unit.objects.get(slug="pricing").pk})})


def test_a_queryset_made_at_import_shows_the_rows_of_each_request(pricing: Scope) -> None:
    for made_under in (NOTHING, EVERYTHING, pricing):
        with assumed(made_under):
            units, seats = Unit.objects.all(), Seat.objects.exclude(role=None).values("unit__slug")
            terms = Incumbency.objects.filter(ended_at=None)
        with assumed(pricing):
            assert [unit.slug for unit in units.all()] == ["pricing"]
            assert {row["unit__slug"] for row in seats.all()} == {"pricing"}
            assert terms.all().count() == 35
        with assumed(NOTHING):
            assert (units.all().count(), seats.all().count(), terms.all().count()) == (0, 0, 0)
        assert (units.all().count(), seats.all().count(), terms.all().count()) == (3, 70, 120)


def test_with_everything_in_view_nothing_is_added_to_a_query(pricing: Scope) -> None:
    with CaptureQueriesContext(connection) as queries:
        list(Incumbency.objects.select_for_update().order_by())
    assert "WHERE" not in queries[0]["sql"]
    assert "JOIN" not in queries[0]["sql"]


def test_writes_reach_the_rows_in_view_only(pricing: Scope) -> None:
    with assumed(pricing):
        assert Incumbency.objects.update(generation=1) == 35
        assert Seat.objects.filter(code="op-0031").update(duty="x") == 1
    assert set(Seat.objects.filter(duty="x").values_list("unit__slug", flat=True)) == {"pricing"}
