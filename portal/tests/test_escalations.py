"""The pages of escalations: who sees what, what is urgent, and how it is decided; and the mail of an agent."""

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from bus.models import DirectedMessage
from holding.models import Unit
from iam.access.tests.factories import make_person
from portal import versions
from portal.tests.offices import SignIn, text
from subsidiaries.escalations import services
from subsidiaries.escalations.models import Escalation

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("officers")]


def raise_one(code: str, *, unit: str = "pricing", severity: str = "high", **changes: str) -> Escalation:
    agent = f"org.claytom.{unit}.operator.op-0031-g1"
    given = {
        "unit": unit, "agent": agent, "level": "holding", "severity": severity, "matter": "staffing",
        "summary": f"sum of {code}", "needs": "a decision", "work_id": "", "taken_by": "", **changes,
    }  # fmt: skip
    services.note_raised(reports=[services.Report(code=code, at=timezone.now(), **given)])
    return Escalation.objects.get(code=code)


def test_an_empty_list_says_why_and_where_to_go(sign_in: SignIn) -> None:
    page = text(sign_in("carla").get("/escalations/"))
    assert "No escalation waits." in page
    assert "No escalation matches." in page
    assert 'href="/escalations/?state=all"' in page


def test_the_most_urgent_and_oldest_come_first_and_the_overdue_are_marked(sign_in: SignIn) -> None:
    for code, severity in (("a", "low"), ("b", "critical"), ("c", "critical"), ("d", "medium")):
        raise_one(code, severity=severity)
    Escalation.objects.filter(code="d").update(due_at=timezone.now() - timedelta(minutes=1))
    page = text(sign_in("carla").get("/escalations/"))
    assert re.findall(r"sum of (\w)", page) == ["b", "c", "d", "a"]
    assert "1 escalation is overdue" in page
    assert "Chief operating officer" in page
    assert page.count("overdue</span>") == 1
    assert re.findall(r"sum of (\w)", text(sign_in("carla").get("/escalations/?severity=low"))) == ["a"]
    overview = text(sign_in("carla").get("/"))
    assert re.search(r"Open escalations</dt><dd class=\"figure\"><a href=\"/escalations/\">4</a>", overview)
    unit = text(sign_in("carla").get("/s/tax/"))
    assert re.search(r'<a href="/escalations/\?unit=tax">0</a>', unit)


def test_settled_ones_are_listed_by_key(sign_in: SignIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portal.views.escalations.PAGE_SIZE", 2)
    for number in range(5):
        services.note_resolved(code=raise_one(f"n{number}").code, decision="x", actor="portal/arp")
    carla = sign_in("carla")
    first = text(carla.get("/escalations/?state=resolved"))
    assert re.findall(r"sum of (n\d)", first) == ["n4", "n3"]
    following = re.search(r'rel="next" href="([^"]+)"', first)
    assert following is not None
    assert re.findall(r"sum of (n\d)", text(carla.get(following[1].replace("&amp;", "&")))) == ["n2", "n1"]


def test_a_unit_sees_its_own_and_only_who_may_decides(sign_in: SignIn) -> None:
    row = raise_one("mine")
    raise_one("other", unit="tax", agent="org.claytom.tax.operator.op-0031-g1")
    path = f"/escalations/{row.pk}/"
    dora, tomas, omar = sign_in("dora"), sign_in("tomas"), sign_in("omar")
    assert re.findall(r"sum of (\w+)", text(dora.get("/escalations/"))) == ["mine"]
    assert tomas.get(path).status_code == 404
    assert tomas.post(f"{path}take/").status_code == 404
    assert "Take it" in text(dora.get(path))
    auditor = text(omar.get(path))
    assert "sum of mine" in auditor
    assert "Take it" not in auditor
    assert omar.post(f"{path}take/").status_code == 403
    assert Escalation.objects.get(pk=row.pk).state == "raised"


def test_it_is_taken_handed_over_and_decided_on_its_page(sign_in: SignIn) -> None:
    row = raise_one("mine")
    path = f"/escalations/{row.pk}/"
    dora, dani = sign_in("dora"), sign_in("dani")
    assert dora.post(f"{path}take/").status_code == 302
    assert "It is yours now." in text(dora.get(path))
    refused = dani.post(f"{path}resolve/", {"decision": "mine!"})
    assert refused.status_code == 422
    assert "has it" in text(refused)
    assert dora.post(f"{path}assign/", {"person": "tomas"}).status_code == 422
    assert dora.post(f"{path}assign/", {"person": ""}).status_code == 422
    assert dora.post(f"{path}assign/", {"person": "dani"}).status_code == 302
    empty = dani.post(f"{path}resolve/", {"decision": " ", "input": "{1"})
    assert empty.status_code == 422
    assert "{1" in text(empty)
    assert dani.post(f"{path}resolve/", {"decision": "try again", "input": '{"limit": 3}'}).status_code == 302
    page = text(dani.get(path))
    assert "try again" in page
    for word in ("raised to the holding", "taken", "assigned", "resolved", "Told the agent"):
        assert word in page, word
    letter = DirectedMessage.objects.get()
    assert b'"input":{"limit":3}' in bytes(letter.body)
    agent = text(dani.get("/a/pricing/op-0031-g1/"))
    assert "escalation.resolve" in agent
    assert letter.key in agent


def test_names_of_people_are_for_those_who_may_see_them(sign_in: SignIn) -> None:
    row = raise_one("mine")
    sign_in("dora").post(f"/escalations/{row.pk}/take/")
    viewer = Client(headers={"Accept-Language": "en"})
    viewer.force_login(make_person("vera", role="viewer", unit=Unit.objects.get(slug="pricing")))
    for path in ("/escalations/", f"/escalations/{row.pk}/"):
        page = text(viewer.get(path))
        assert "a person" in page
        assert "dora" not in page


def test_the_live_stream_tells_of_a_change_to_those_who_see_the_unit() -> None:
    before = versions.versions(timezone.now())
    row = raise_one("mine")
    raised = versions.versions(timezone.now())
    services.note_resolved(code=row.code, decision="x", actor="portal/arp")
    resolved = versions.versions(timezone.now())
    assert len({found["unit:pricing"].partition(".")[0] for found in (before, raised, resolved)}) == 3
    assert before["unit:tax"].partition(".")[0] == resolved["unit:tax"].partition(".")[0]


def test_an_agent_without_mail_says_what_would_come(sign_in: SignIn) -> None:
    assert "Nothing was written to it." in text(sign_in("dora").get("/a/pricing/op-0031-g1/"))
