"""Lists as one parameter: the same rows as with one for each, of columns and of foreign keys."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audit.models import Leaf, LedgerEntry
from audit.services import Act, record_many, seal

pytestmark = pytest.mark.django_db


@pytest.fixture
def entries() -> list[LedgerEntry]:
    made = record_many(acts=[Act(actor="a", action="b", object=f'"{n}\\') for n in range(30)])
    seal()
    return made


def test_many_numbers_and_texts_are_one_parameter(entries: list[LedgerEntry]) -> None:
    ids = [entry.pk for entry in entries[:20]]
    with CaptureQueriesContext(connection) as asked:
        found = LedgerEntry.objects.filter(pk__in=[*ids, None, 0])
        assert set(found.values_list("pk", flat=True)) == set(ids)
        named = LedgerEntry.objects.filter(object__in=[entry.object for entry in entries[:12]])
        assert named.count() == 12
        assert LedgerEntry.objects.exclude(pk__in=ids).count() == 10
    assert all("any(" in query["sql"] and " IN (" not in query["sql"] for query in asked)


def test_many_of_a_foreign_key_are_one_parameter(entries: list[LedgerEntry]) -> None:
    with CaptureQueriesContext(connection) as asked:
        assert Leaf.objects.filter(entry__in=entries).count() == 30
        assert Leaf.objects.filter(entry_id__in=[entry.pk for entry in entries[:15]]).count() == 15
    assert all("any(" in query["sql"] for query in asked)


def test_numbers_that_no_column_can_hold_are_not_found(entries: list[LedgerEntry]) -> None:
    ids = [entry.pk for entry in entries[:9]]
    for beyond in (2**63, 2**64, -(2**63) - 1):
        assert LedgerEntry.objects.filter(pk__in=[*ids, beyond]).count() == 9


def test_few_values_none_and_subqueries_stay_as_they_are(entries: list[LedgerEntry]) -> None:
    ids = [entry.pk for entry in entries[:3]]
    assert LedgerEntry.objects.filter(pk__in=ids).count() == 3
    assert LedgerEntry.objects.filter(pk__in=[]).count() == 0
    assert Leaf.objects.filter(entry__in=LedgerEntry.objects.filter(pk__in=ids)).count() == 3
