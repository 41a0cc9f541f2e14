"""Whose approvals a person sees: those of the units in view, by the managers and beneath them by the database."""

from decimal import Decimal

import pytest
from django.db import connection

from holding.scope import EVERYTHING, VIEW, Scope, opened
from iam.authority import services
from iam.authority.models import Approval, Decision, Level
from iam.authority.tests.factories import HOUR, T0, YES, ask, decide, make_authority, unit_of, who

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def authority(db: None) -> None:
    make_authority()


def only(slug: str) -> Scope:
    return Scope({VIEW: frozenset({unit_of(slug).pk})})


def count(table: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"select count(*) from authority_{table}")  # noqa: S608 - a name of this module
        return int(cursor.fetchone()[0])


def test_a_head_of_tax_sees_no_approval_of_pricing() -> None:
    mine, theirs = ask(unit="tax"), ask(unit="pricing")
    group = ask(unit="corporate", value=1_500_000)
    decide(theirs, "dora")
    with opened(only("tax")):
        assert list(Approval.objects.values_list("pk", flat=True)) == [mine.pk]
        assert (count("approval"), count("level"), count("decision")) == (1, 1, 0)
        assert Level.objects.count() == 1
        assert not Decision.objects.exists()
    with opened(only("pricing")):
        assert (count("approval"), count("decision")) == (1, 1)
        assert not Approval.objects.filter(pk=group.pk).exists()
    assert (count("approval"), count("decision")) == (3, 1)


def test_who_may_decide_a_group_matter_finds_it_whatever_units_they_see() -> None:
    group = ask(unit="corporate", value=1_500_000)
    with opened(EVERYTHING):
        assert list(Approval.objects.concerning(who("carla"), T0)) == [group]
        assert list(Approval.objects.concerning(who("rita"), T0)) == [group]
        assert not Approval.objects.concerning(who("tomas"), T0).exists()
    with opened(only("tax")):
        assert services.explain(approval=group, person=who("carla"), at=T0).allowed
        services.decide(approval=group, person=who("carla"), verdict=YES, at=T0 + HOUR)
    group.refresh_from_db()
    assert group.state == "approved"


def test_a_limited_requester_is_counted_with_all_that_was_asked_for() -> None:
    ask(30_000, counterparty="Acme")
    request = services.Request(
        matter="opex-budgeted", unit=unit_of("pricing"), value=Decimal(30_000), counterparty="acme",
        title="The other half", key="half", requester=who("sara"),
    )  # fmt: skip
    with opened(only("tax")):
        preview = services.preview(request=request, at=T0)
        assert (int(preview.judged), preview.office.slug) == (60_000, "subsidiary-ceo")
        assert [person.username for person in preview.people] == ["paula"]
        asked = services.request_approval(request=request, at=T0)
        assert asked.judged == preview.judged
        assert services.request_approval(request=request, at=T0).pk == asked.pk
        assert count("approval") == 0
    assert Approval.objects.count() == 2


def test_a_preview_writes_nothing_and_names_nobody_where_the_rule_grants() -> None:
    request = services.Request(
        matter="opex-budgeted",
        unit=unit_of("tax"),
        value=Decimal(900),
        title="Pens",
        key="k",
        requester=who("sara"),
    )
    preview = services.preview(request=request, at=T0)
    assert (preview.by_rule, preview.required, preview.people) == (True, 0, ())
    assert not Approval.objects.exists()
