"""The register of exchange rates: who asks names a currency, and has no say in its rate."""

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import DatabaseError, transaction
from django.test import Client

from audit.models import LedgerEntry
from holding import clock
from iam.access.models import User
from iam.access.tests.factories import make_binding, make_token
from iam.authority import services
from iam.authority.models import Approval, ExchangeRate
from iam.authority.tests.factories import T0, ask, make_authority, make_rate, offices, who

pytestmark = pytest.mark.django_db
TODAY = T0.date()
ROLES = {"paula": "executive", "sara": "administrator", "omar": "auditor", "gema": "viewer"}


@pytest.fixture(autouse=True)
def authority(db: None, redis_url: str) -> None:
    make_authority()


@pytest.fixture
def callers() -> None:
    for name, role in ROLES.items():
        make_binding(who(name), role)
        make_token(who(name), token=f"token-of-{name}")


def call(name: str, method: str, path: str, data: dict[str, Any] | None = None) -> Any:
    client = Client(headers={"Authorization": f"Bearer token-of-{name}", "Accept-Language": "en"})
    return client.generic(method, f"/api/v1/{path}") if data is None else client.post(
        f"/api/v1/{path}", data, content_type="application/json"
    )  # fmt: skip


# --- what is asked for -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("callers")
def test_who_asks_does_not_choose_the_rate() -> None:
    make_rate("USD", "0.8", on=clock.now().date())
    body = {
        "key": "order-4711", "matter": "opex-budgeted", "unit": "pricing", "value": "60000000", "title": "Paper",
        "currency": "USD", "fx_rate": "0.00000001", "fx_on": "2020-01-01",
    }  # fmt: skip
    made = call("paula", "POST", "approvals/", body).json()
    assert (made["judged"], made["fx_rate"]) == ("48000000.0000", "0.80000000")
    assert [level["office"] for level in made["levels"]] == ["board"]
    refused = call("paula", "POST", "approvals/", body | {"key": "order-4712", "currency": "JPY"})
    assert refused.status_code == 400
    assert "/authority/rates/" in refused.json()["detail"][0]
    assert Approval.objects.count() == 1


def test_the_newest_rate_on_or_before_the_day_is_kept_with_the_request() -> None:
    make_rate("USD", "0.7", on=TODAY - timedelta(days=4))
    make_rate("USD", "0.9", on=TODAY - timedelta(days=2))
    make_rate("USD", "0.8", on=TODAY - timedelta(days=2))  # corrects it
    make_rate("USD", "0.5", on=TODAY + timedelta(days=1))  # of a later day than the request
    made = ask(60_000, currency="USD")
    assert (made.fx_rate, made.fx_on, made.judged) == (Decimal("0.8"), TODAY - timedelta(days=2), Decimal(48_000))
    assert offices(made) == ["subsidiary-director"]
    assert (ask().fx_rate, ask().fx_on) == (Decimal(1), None)
    level = ask(1, matter="chaos", currency="USD")
    assert (level.currency, level.fx_rate, level.fx_on) == ("", Decimal(1), None)


@pytest.mark.parametrize(("age", "refused"), [(10, False), (11, True), (-1, True)])
def test_a_stale_rate_is_none(age: int, refused: bool) -> None:
    make_rate("USD", "0.8", on=TODAY - timedelta(days=age))
    if refused:
        with pytest.raises(services.RateError, match="There is no rate of USD of the last 10 days"):
            ask(currency="USD")
    else:
        assert ask(currency="USD").fx_rate == Decimal("0.8")


def test_the_same_key_returns_the_first_request_whatever_became_of_the_rate() -> None:
    make_rate("USD", "0.8")
    first = ask(currency="USD", key="one-and-the-same")
    make_rate("USD", "0.5")
    assert ask(currency="USD", key="one-and-the-same") == first
    later = T0 + timedelta(days=30)
    assert ask(currency="USD", key="one-and-the-same", at=later).fx_rate == Decimal("0.8")


def test_who_recorded_a_rate_does_not_ask_by_it() -> None:
    services.record_rate(currency="USD", rate=Decimal("0.00000001"), on=TODAY, source="me", actor="rita")
    account = User.objects.create(username="svc-rita", kind=User.Kind.SERVICE, owner=who("rita"), cleared=True)
    for name in ("rita", account.username):
        with pytest.raises(services.RateError, match="You recorded this rate"):
            ask(currency="USD", by=name)
    assert ask(currency="USD", by="sara").fx_on == TODAY


# --- the register ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"currency": "EUR"}, "not EUR"),
        ({"currency": "usd"}, "three capital letters"),
        ({"rate": Decimal(0)}, "above 0"),
        ({"rate": Decimal(-1)}, "above 0"),
        ({"rate": Decimal("NaN")}, "above 0"),
        ({"rate": Decimal("0.123456789")}, "eight decimals"),
        ({"on": TODAY + timedelta(days=1)}, "not come yet"),
        ({"source": " "}, "where the rate comes from"),
        ({"source": "x" * 201}, "where the rate comes from"),
    ],
)
def test_what_is_no_rate_is_refused(fields: dict[str, Any], why: str) -> None:
    given = {"currency": "USD", "rate": Decimal("0.8"), "on": TODAY, "source": "Bank", "actor": "sara", "at": T0}
    with pytest.raises(services.RateError, match=why):
        services.record_rate(**{**given, **fields})
    assert not ExchangeRate.objects.exists()


@pytest.mark.parametrize(("rate", "usual"), [("0.4", True), ("1.6", True), ("0.39", False), ("1.61", False)])
def test_a_rate_far_from_the_last_one_is_confirmed(rate: str, usual: bool) -> None:
    def record(**fields: Any) -> ExchangeRate:
        return services.record_rate(
            currency="USD", rate=Decimal(rate), on=TODAY, source="Bank", actor="sara", at=T0, **fields
        )

    make_rate("USD", "0.8")
    if not usual:
        with pytest.raises(services.UnusualRateError, match="factor of 2"):
            record()
    entry_of = record(confirmed=not usual)
    entry = LedgerEntry.objects.get(object=f"rate/{entry_of.pk}")
    assert (entry.actor, entry.action) == ("sara", "rate.record")


def test_the_database_keeps_the_register() -> None:
    made = make_rate()
    for act in (
        lambda: ExchangeRate.objects.update(rate=2),
        made.delete,
        lambda: ExchangeRate.objects.create(currency="EUR", rate=1, on=TODAY, source="x", recorded_at=T0),
        lambda: ExchangeRate.objects.create(
            currency="USD", rate=0, on=TODAY, source="x", recorded_by="x", recorded_at=T0
        ),
    ):
        with pytest.raises(DatabaseError), transaction.atomic():
            act()


@pytest.mark.usefixtures("callers")
def test_rates_are_recorded_and_listed_by_program() -> None:
    today = clock.now().date().isoformat()
    body = {"currency": "USD", "rate": "0.8", "on": today, "source": "Bank"}
    assert call("paula", "POST", "authority/rates/", body).status_code == 403
    assert call("gema", "GET", "authority/rates/").status_code == 403
    made = call("sara", "POST", "authority/rates/", body)
    assert (made.status_code, made.json()["recorded_by"]) == (201, "sara")
    assert call("sara", "POST", "authority/rates/", body | {"rate": "80"}).status_code == 400
    assert call("sara", "POST", "authority/rates/", body | {"rate": "80", "confirmed": True}).status_code == 201
    assert call("sara", "POST", "authority/rates/", body | {"on": date(2199, 1, 1).isoformat()}).status_code == 400
    listed = call("omar", "GET", "authority/rates/?currency=USD").json()["results"]
    assert [row["rate"] for row in listed] == ["80.00000000", "0.80000000"]
