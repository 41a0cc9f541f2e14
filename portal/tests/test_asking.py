"""Asking for an approval on the page, and the rates by which amounts in another currency are judged."""

from datetime import timedelta
from decimal import Decimal

import pytest

from holding import clock
from iam.access.tests.factories import make_binding
from iam.authority.models import Approval
from iam.authority.tests.factories import make_rate, who
from portal.tests.offices import SignIn, text

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("officers")]
KEY = "0b7c51ce-1a57-4c6b-9b3b-0f5a64b1f0aa"


def form(**fields: str) -> dict[str, str]:
    given = {"matter": "opex-budgeted", "unit": "pricing", "value": "60000", "title": "Paper", "key": KEY}
    return {**given, **fields}


def test_asking_shows_first_who_would_decide(sign_in: SignIn) -> None:
    paula = sign_in("paula")
    page = text(paula.get("/approvals/new/"))
    assert '<option value="pricing">' in page
    assert '<option value="tax">' not in page
    preview = text(paula.post("/approvals/new/", form(preview="yes", value="40000")))
    assert "<strong>Subsidiary director</strong>" in preview
    assert not Approval.objects.exists()
    first = paula.post("/approvals/new/", form())
    assert paula.post("/approvals/new/", form()).headers["Location"] == first.headers["Location"]
    assert Approval.objects.get().requester == who("paula")


def test_another_currency_is_converted_before_it_is_asked_for(sign_in: SignIn) -> None:
    today = clock.now().date()
    make_rate("USD", "0.8", on=today - timedelta(days=1))
    paula = sign_in("paula")
    page = text(paula.get("/approvals/new/"))
    assert '<option value="USD">' in page
    assert '<option value="JPY">' not in page
    given = form(value="60000", currency="USD")
    unseen = paula.post("/approvals/new/", given)
    assert unseen.status_code == 200
    page = text(unseen)
    assert "<strong>48,000 EUR</strong>" in page
    assert f"60,000 USD × 0.8, rate of {today - timedelta(days=1)}" in page
    assert "<strong>Subsidiary director</strong>" in page
    assert 'name="converted" value="48000.00"' in page
    assert not Approval.objects.exists()
    make_rate("USD", "0.9", on=today)
    other = paula.post("/approvals/new/", {**given, "converted": "48000.00"})
    assert "<strong>54,000 EUR</strong>" in text(other)
    assert not Approval.objects.exists()
    assert paula.post("/approvals/new/", {**given, "converted": "54000.00"}).status_code == 302
    done = Approval.objects.get()
    assert (done.value, done.currency, done.judged) == (Decimal(60_000), "USD", Decimal(54_000))
    assert (done.fx_rate, done.fx_on) == (Decimal("0.9"), today)
    shown = text(sign_in("dora").get(f"/approvals/{done.pk}/"))
    assert "60,000 USD" in shown
    assert f"× 0.9 EUR, rate of {today}" in shown
    assert "54,000 EUR" in shown


def test_who_asks_does_not_choose_the_rate(sign_in: SignIn) -> None:
    make_rate("USD", "0.8", on=clock.now().date())
    paula = sign_in("paula")
    assert 'name="fx_rate"' not in text(paula.get("/approvals/new/"))
    given = form(value="60000000", currency="USD", fx_rate="0.00000001", converted="0.60")
    assert "<strong>48,000,000 EUR</strong>" in text(paula.post("/approvals/new/", given))
    assert not Approval.objects.exists()


@pytest.mark.parametrize(
    ("fields", "mistake"),
    [
        ({"currency": "JPY"}, "valid choice"),
        ({"currency": "dollar"}, "valid choice"),
        ({"currency": "USD", "value": "9999999999999999"}, "too large"),
    ],
)
def test_a_currency_that_cannot_be_keeps_what_was_typed(
    sign_in: SignIn, fields: dict[str, str], mistake: str
) -> None:
    make_rate("USD", "9000000", on=clock.now().date())
    response = sign_in("paula").post("/approvals/new/", form(**fields))
    assert response.status_code == 422
    assert mistake in text(response)
    assert 'value="Paper"' in text(response)
    assert not Approval.objects.exists()


def test_in_euros_a_rate_does_not_count(sign_in: SignIn) -> None:
    assert sign_in("paula").post("/approvals/new/", form(currency="EUR")).status_code == 302
    done = Approval.objects.get()
    assert (done.currency, done.fx_rate, done.fx_on, done.judged) == ("EUR", Decimal(1), None, Decimal(60_000))


@pytest.mark.parametrize(
    ("fields", "mistake"),
    [
        ({"value": "-1"}, "greater than or equal to 0"),
        ({"value": "many", "title": "Kept as typed"}, "Kept as typed"),
        ({"title": ""}, "This field is required"),
        ({"unit": "tax"}, "valid choice"),
        ({"key": "x"}, "The form has expired"),
        ({"matter": "no"}, "valid choice"),
    ],
)
def test_a_mistake_in_the_form_keeps_what_was_typed(sign_in: SignIn, fields: dict[str, str], mistake: str) -> None:
    response = sign_in("paula").post("/approvals/new/", form(**fields))
    assert response.status_code == 422
    assert mistake in text(response)
    assert not Approval.objects.exists()


# --- the rates ---------------------------------------------------------------------------------------------


def test_rates_are_recorded_by_who_manages_authority(sign_in: SignIn) -> None:
    make_binding(who("gema"), "administrator")
    gema, today = sign_in("gema"), clock.now().date().isoformat()
    assert "No currency has a rate" in text(gema.get("/authority/rates/"))
    assert f'value="{today}"' in text(gema.get("/authority/rates/", headers={"Accept-Language": "es"}))
    given = {"currency": "usd", "rate": "0.8", "on": today, "source": "Bank"}
    assert gema.post("/authority/rates/record/", given).status_code == 302
    unsure = gema.post("/authority/rates/record/", given | {"rate": "8", "source": "Kept as typed"})
    assert unsure.status_code == 422
    assert "factor of 2" in text(unsure)
    assert 'value="Kept as typed"' in text(unsure)
    assert gema.post("/authority/rates/record/", given | {"rate": "8", "confirmed": "on"}).status_code == 302
    assert gema.post("/authority/rates/record/", given | {"on": "2199-01-01"}).status_code == 422
    page = text(sign_in("omar").get("/authority/rates/"))
    assert "8.00000000" in page.split('id="rates"')[0]
    assert "Record a rate" not in page
    assert sign_in("omar").post("/authority/rates/record/", given).status_code == 403
    assert sign_in("sara").get("/authority/rates/").status_code == 403
