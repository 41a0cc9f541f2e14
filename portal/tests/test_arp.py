"""The pages and the API of ARP: levels, a case with its timeline, incidents and what people do about them."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from audit.models import LedgerEntry
from holding.models import Unit
from iam.access.tests.factories import make_person
from portal import versions
from portal.metrics import render
from portal.tests.factories import make_replacements
from portal.tests.offices import SignIn
from subsidiaries.replacement import levels
from subsidiaries.replacement.models import Incident, Replacement, SeatBackoff

pytestmark = pytest.mark.django_db
at_work = pytest.mark.usefixtures("holding")  # of the others, the authority of `officers` brings one


def text(response: Any) -> str:
    return str(response.content, "utf-8")


def make_brake(unit: str = "pricing") -> Incident:
    return Incident.objects.create(
        unit=Unit.objects.get(slug=unit), kind="mass-silence", opened_at=timezone.now(), deficit=900,
        detail="60% of the agents are silent",
    )  # fmt: skip


@at_work
def test_a_holding_without_levels_incidents_and_replacements_says_so(ana: Client) -> None:
    page = text(ana.get("/arp/"))
    assert "No service level has been computed yet." in page
    assert "No incident is open, and nothing brakes replacement." in page
    assert "No replacement matches." in page
    assert "No incident matches." in text(ana.get("/arp/incidents/"))


@at_work
def test_the_page_shows_levels_brakes_and_seats_that_wait(ana: Client) -> None:
    rows = make_replacements("pricing", count=3)
    brake = make_brake()
    now = timezone.now()
    SeatBackoff.objects.create(
        seat=rows[0].seat, unit=brake.unit, strikes=4, decided_at=now, not_before=now + timedelta(minutes=2)
    )
    levels.refresh()
    page = text(ana.get("/arp/"))
    for words in (
        "Replacement is braked in 1 unit:", "5.0 s", "95 % within", "Seats that wait", "op-0031",
        "Service levels by unit", "no unit cost is set", f'href="/arp/incidents/{brake.pk}/"',
        f'href="/arp/replacements/{rows[0].pk}/"',
    ):  # fmt: skip
        assert words in page, words
    assert "Seats that wait" not in text(ana.get("/arp/?unit=sales&span=30d"))


@at_work
def test_a_case_tells_its_story(ana: Client) -> None:
    row = make_replacements("pricing")[0]
    Replacement.objects.filter(pk=row.pk).update(
        actor="portal/arp", host="host-1", epoch=4711, live_host="host-2", live_epoch=4800, told_at=row.decided_at
    )
    page = text(ana.get(f"/arp/replacements/{row.pk}/"))
    for words in (
        "Detected: reported failed", "host host-1, epoch 4711", "Decided, recorded and sent to the hosts",
        "portal/arp", "Taken up by the host", "Live: its host reports it", "host host-2, epoch 4800",
        "org.claytom.pricing.operator.op-0031-g1", "org.claytom.pricing.operator.op-0031-g2", "operator v1",
        "not replaced again", "seat.appoint",
    ):  # fmt: skip
        assert words in page, words


@at_work
def test_a_case_that_is_not_over_says_what_is_missing(ana: Client) -> None:
    row = make_replacements("pricing", live=False)[0]
    page = text(ana.get(f"/arp/replacements/{row.pk}/"))
    assert "not live yet" in page
    assert page.count("not yet") >= 2
    assert ana.get("/arp/replacements/999999999/").status_code == 404


def test_an_incident_is_acknowledged_noted_and_its_brake_released(officers: None, sign_in: SignIn) -> None:
    brake = make_brake()
    path = f"/arp/incidents/{brake.pk}/"
    paula = sign_in("paula")
    page = text(paula.get(path))
    assert "I look after it" in page
    assert "Release the brake" in page
    assert sign_in("dora").post(f"{path}release/", {"note": "me too"}).status_code == 403  # she only looks after it
    assert paula.post(f"{path}acknowledge/", {"note": "looking"}).status_code == 302
    refused = paula.post(f"{path}release/", {"note": " "})
    assert refused.status_code == 422
    assert "Give the reason" in text(refused)
    assert paula.post(f"{path}release/", {"note": "the hosts are gone for good"}).status_code == 302
    assert paula.post(f"{path}note/", {"note": "told the owner"}).status_code == 302
    page = text(paula.get(path))
    for words in ("looking", "the hosts are gone for good", "told the owner", "brake released"):
        assert words in page, words
    assert "Release the brake" not in page
    acts = (
        LedgerEntry.objects.filter(action__startswith="incident.").order_by("id").values_list("action", flat=True)
    )
    assert list(acts) == ["incident.acknowledge", "incident.release", "incident.note"]


def test_who_may_only_look_is_offered_nothing_and_refused(officers: None) -> None:
    brake = make_brake()
    viewer = Client(headers={"Accept-Language": "en"})
    viewer.force_login(make_person("vera", role="viewer", unit=brake.unit))
    path = f"/arp/incidents/{brake.pk}/"
    page = text(viewer.get(path))
    assert "60% of the agents are silent" in page
    assert "I look after it" not in page
    for act in ("acknowledge", "note", "release"):
        assert viewer.post(f"{path}{act}/", {"note": "x"}).status_code == 403
    assert Incident.objects.get().released_at is None


def test_names_of_people_are_for_those_who_may_see_them(officers: None, sign_in: SignIn) -> None:
    brake = make_brake()
    sign_in("dora").post(f"/arp/incidents/{brake.pk}/acknowledge/")
    viewer = Client(headers={"Accept-Language": "en"})
    viewer.force_login(make_person("vera", role="viewer", unit=brake.unit))
    for path in ("/arp/incidents/", f"/arp/incidents/{brake.pk}/", "/arp/"):
        page = text(viewer.get(path))
        assert "a person" in page, path
        assert "dora" not in page, path


def test_what_is_not_in_view_is_not_there(officers: None) -> None:
    brake, row = make_brake("tax"), make_replacements("tax")[0]
    levels.refresh()
    viewer = Client(headers={"Accept-Language": "en"})
    viewer.force_login(make_person("vera", role="viewer", unit=Unit.objects.get(slug="pricing")))
    assert viewer.get(f"/arp/incidents/{brake.pk}/").status_code == 404
    assert viewer.get(f"/arp/replacements/{row.pk}/").status_code == 404
    found = viewer.get("/api/v1/arp/levels/").json()["results"]
    assert {level["unit"] for level in found} == {"pricing"}  # nor the sums over units that are not theirs


def test_the_api_does_as_the_pages_do(officers: None, sign_in: SignIn) -> None:
    brake = make_brake()
    paula = sign_in("paula")
    path = f"/api/v1/arp/incidents/{brake.pk}/"
    assert paula.get("/api/v1/arp/incidents/?open=true&unit=pricing").json()["results"][0]["brakes"] is True
    assert (
        paula.post(f"{path}acknowledge/", {}, content_type="application/json").json()["acknowledged_by"] == "paula"
    )
    again = paula.post(f"{path}acknowledge/", {}, content_type="application/json")
    assert (again.status_code, "already" in str(again.json())) == (400, True)
    assert paula.post(f"{path}note/", {"note": "seen"}, content_type="application/json").status_code == 200
    released = paula.post(f"{path}release/", {"reason": "they are gone"}, content_type="application/json").json()
    assert (released["brakes"], released["released_by"]) == (False, "paula")
    steps = [step["kind"] for step in paula.get(path).json()["steps"]]
    assert steps == ["acknowledged", "note", "released"]
    assert paula.get("/api/v1/arp/incidents/999999/").status_code == 404


@at_work
def test_levels_and_back_offs_are_in_the_api_and_in_the_metrics(ana: Client) -> None:
    rows = make_replacements("pricing", count=2)
    now = timezone.now()
    SeatBackoff.objects.create(
        seat=rows[0].seat, unit=rows[0].unit, strikes=2, decided_at=now, not_before=now + timedelta(minutes=1)
    )
    levels.refresh()
    (level,) = ana.get("/api/v1/arp/levels/?unit=pricing&span=24h").json()["results"]
    assert (level["replaced"], level["restore_p50"], level["duplicates"]) == (2, 5.0, 0)
    (waiting,) = ana.get("/api/v1/arp/back-offs/?unit=pricing").json()["results"]
    assert (waiting["seat"], waiting["strikes"]) == ("op-0031", 2)
    scraped = render().decode()
    assert 'claytom_arp_restored_p95_seconds{span="24h",unit="pricing"} 5.0' in scraped
    assert 'claytom_arp_duplicates{span="24h",unit=""} 0.0' in scraped
    assert "claytom_arp_levels_age_seconds" in scraped


@at_work
def test_the_live_stream_tells_of_a_release() -> None:
    brake = make_brake()
    before = versions.versions(timezone.now())["arp"]
    Incident.objects.filter(pk=brake.pk).update(released_at=timezone.now())
    assert versions.versions(timezone.now())["arp"] != before
