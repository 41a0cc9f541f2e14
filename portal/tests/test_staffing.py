"""The pages of staffing: what they show, who changes what, and what is said before it is confirmed."""

import re
import time
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from django.utils.translation import override

from holding.models import Seat, Unit
from iam.authority import services as authority
from iam.authority.models import Approval, Decision
from iam.authority.tests.factories import who
from portal.templatetags.portal import chance
from portal.tests.offices import SignIn, text
from subsidiaries.replacement import cycle, observing
from subsidiaries.replacement.models import Monitor, Replacement
from subsidiaries.replacement.planning import CapDelegation, Retirement, StaffingPlan
from subsidiaries.replacement.tests.factories import bring_to_life, report

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("officers")]


@pytest.fixture(autouse=True)
def holding(officers: None) -> None:
    observing.ensure_states()
    StaffingPlan.objects.filter(role__slug="operator").update(maximum=20)
    now = timezone.now()
    Monitor.objects.create(since=now - timedelta(minutes=10), last_at=now)
    bring_to_life()
    cycle.run(unit="pricing")


def post(client: Client, path: str, **fields: str) -> Any:
    """Send a form as it is shown, with these fields changed."""
    page = text(client.get(path))
    shown = dict(re.findall(r'<input type="(?:hidden|number)" name="(\w+)" value="([^"]*)"', page))
    shown.pop("csrfmiddlewaretoken", None)
    return client.post(path, {**shown, "reason": "failures of spring", **fields})


def confirmed(client: Client) -> None:
    session = client.session
    session["confirmed_at"] = int(time.time())
    session.save()


def seats() -> int:
    return Seat.objects.open().filter(unit__slug="pricing").count()


def test_the_list_shows_floor_establishment_live_and_what_is_needed(sign_in: SignIn) -> None:
    page = text(sign_in("carla").get("/staffing/"))
    assert "No subsidiary is below its floor." in page
    assert "2 have less reserve" in page
    row = re.search(r'<a href="/staffing/pricing/">.*?</tr>', page, re.S)
    assert row
    figures = re.findall(r'<td class="num"[^>]*>(?:<[^>]*>)*(?:▲</span> )?\s*([\d,]+)', row[0])
    assert figures[:3] == ["35", "35", "35"]
    assert 'aria-current="page"' in page


def test_only_units_in_view_are_shown(sign_in: SignIn) -> None:
    paula = sign_in("paula")
    page = text(paula.get("/staffing/"))
    assert "/staffing/pricing/" in page
    assert "/staffing/tax/" not in page
    assert paula.get("/staffing/tax/").status_code == 404
    assert paula.get("/staffing/corporate/").status_code == 404


def test_a_unit_says_how_its_reserve_follows_from_its_rates(sign_in: SignIn) -> None:
    page = text(sign_in("paula").get("/staffing/pricing/"))
    for words in ("Failures per agent in 30 days", "needed: ", "binomial", "Change the plan", "Delegate a cap"):
        assert words in page
    assert "replacement and succession: no reserve" in page
    assert "No agents were retired by plan." in page
    assert "No cap was delegated." in page
    assert "Change the plan" not in text(sign_in("sara").get("/staffing/pricing/"))


def test_a_preview_shows_the_seats_and_changes_nothing_until_confirmed(sign_in: SignIn) -> None:
    paula = sign_in("paula")
    preview = post(paula, "/staffing/pricing/change/", reserve="2")
    page = text(preview)
    assert preview.status_code == 200
    assert "2 seats are opened." in page
    assert "op-0036" in page
    assert "pricing.2" in page
    assert "within the delegated limit" in page
    assert seats() == 35
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page))
    done = [paula.post("/staffing/pricing/change/", {**hidden, "confirm": "1"}) for _ in range(2)]
    assert [response.status_code for response in done] == [302, 302]
    assert seats() == 37
    assert Approval.objects.count() == 1
    page = text(paula.get("/staffing/pricing/"))
    assert "the establishment 37" in page
    assert "The floor of 35 and every quota hold." in text(paula.get("/s/pricing/"))


def test_a_lower_reserve_names_the_agents_that_are_retired(sign_in: SignIn) -> None:
    paula = sign_in("paula")
    post(paula, "/staffing/pricing/change/", reserve="2", confirm="1")
    for number in range(1, 6):
        report(f"pricing.{number}")
    page = text(post(paula, "/staffing/pricing/change/", reserve="0"))
    assert "2 seats are closed." in page
    assert "op-0037-g1" in page
    post(paula, "/staffing/pricing/change/", reserve="0", confirm="1")
    assert seats() == 35


def test_beyond_the_limit_it_waits_for_a_decision(sign_in: SignIn) -> None:
    paula = sign_in("paula")
    page = text(post(paula, "/staffing/pricing/change/", reserve="200", maximum="250"))
    assert "Ask for the decision" in page
    done = post(paula, "/staffing/pricing/change/", reserve="200", maximum="250", confirm="1")
    asked = Approval.objects.get()
    assert (done.status_code, done.headers["Location"]) == (302, f"/approvals/{asked.pk}/")
    assert seats() == 35
    authority.decide(approval=asked, person=who("caio"), verdict=Decision.Verdict.APPROVE, note="yes")
    assert seats() == 235


def test_what_cannot_be_keeps_what_was_typed(sign_in: SignIn) -> None:
    paula = sign_in("paula")
    response = post(paula, "/staffing/pricing/change/", reserve="16")
    assert response.status_code == 422
    assert "more than the maximum of 20" in text(response)
    assert 'value="16"' in text(response)
    assert post(paula, "/staffing/pricing/change/", reserve="").status_code == 422
    assert post(paula, "/staffing/pricing/change/", reserve="1", key="").status_code == 422


def test_who_holds_nothing_there_is_refused(sign_in: SignIn) -> None:
    assert sign_in("sara").get("/staffing/pricing/change/").status_code == 403
    assert sign_in("tomas").get("/staffing/pricing/change/").status_code == 404
    assert sign_in("dora").get("/staffing/pricing/retire/").status_code == 403


def test_a_cap_is_asked_for_given_shown_and_revoked(sign_in: SignIn) -> None:
    paula = sign_in("paula")
    done = post(paula, "/staffing/pricing/cap/", cap="100", days="3")
    asked = Approval.objects.get()
    assert done.headers["Location"] == f"/approvals/{asked.pk}/"
    authority.decide(approval=asked, person=who("dora"), verdict=Decision.Verdict.APPROVE, note="yes")
    page = text(paula.get("/staffing/pricing/"))
    assert "in force" in page
    assert "delegated; the rule says 70" in page
    found = CapDelegation.objects.get()
    assert paula.post(f"/staffing/caps/{found.pk}/revoke/", {"reason": ""}).status_code == 422
    assert paula.post(f"/staffing/caps/{found.pk}/revoke/", {"reason": "over"}).status_code == 302
    assert "revoked" in text(paula.get("/staffing/pricing/"))
    assert sign_in("tomas").post(f"/staffing/caps/{found.pk}/revoke/", {"reason": "x"}).status_code == 404
    assert post(paula, "/staffing/pricing/cap/", cap="1000", days="").status_code == 422


def test_a_retirement_is_previewed_confirmed_by_who_shows_who_they_are_and_paused(sign_in: SignIn) -> None:
    paula = sign_in("paula")
    path = "/staffing/pricing/retire/"
    page = text(post(paula, path, choice="oldest", count="2", surge="1"))
    assert "2 agents are followed by their next generation." in page
    assert "op-0031-g1" in page
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page))
    first = paula.post(path, {**hidden, "confirm": "1"})
    assert first.headers["Location"].startswith("/account/confirm/")
    assert not Retirement.objects.exists()
    confirmed(paula)
    assert paula.post(path, {**hidden, "confirm": "1"}).status_code == 302
    made = Retirement.objects.get()
    acts = f"/staffing/retirements/{made.pk}"
    assert paula.post(f"{acts}/pause/", {"reason": "lunch"}).status_code == 302
    page = text(paula.get("/staffing/pricing/"))
    assert "0 of 2, 0 under way" in page
    assert "Resume" in page
    assert paula.post(f"{acts}/pause/", {"reason": "again"}).status_code == 422
    assert paula.post(f"{acts}/dance/", {"reason": "x"}).status_code == 404
    assert paula.post(f"{acts}/abort/", {"reason": "no"}).status_code == 302
    assert not Replacement.objects.exists()
    assert post(paula, path, choice="oldest", count="2", surge="0").status_code == 422


def test_the_pages_are_in_spanish_too(sign_in: SignIn) -> None:
    client = sign_in("paula")
    page = text(client.get("/staffing/pricing/", headers={"Accept-Language": "es"}))
    assert "Plantilla de" in page
    assert "Cambiar el plan" in page


def test_a_chance_is_written_as_people_read_it() -> None:
    with override("en"):
        shown = [chance(value) for value in (None, 0.0, 0.25, 0.07, 1.637e-8, 9.99e-7, 1e-12)]
    assert shown == [
        "–", "0.0 %", "25.0 %", "7.0 %", "1.6 × 10⁻⁸", "1.0 × 10⁻⁶", "1.0 × 10⁻¹²",
    ]  # fmt: skip


def test_a_unit_without_plan_says_so(sign_in: SignIn) -> None:
    StaffingPlan.objects.filter(unit=Unit.objects.get(slug="pricing")).delete()
    paula = sign_in("paula")
    assert "There is no staffing plan yet." in text(paula.get("/staffing/pricing/"))
    assert paula.get("/staffing/pricing/change/").status_code == 404
