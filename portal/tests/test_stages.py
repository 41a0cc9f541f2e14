"""Stages and successors on the pages and in the API: who sees them, who isolates, releases and orders."""

import json
from typing import Any

import pytest
from django.test import Client

from holding.models import Agent
from holding.tests.factories import make_seat
from iam.access.models import AccessRole, User
from iam.access.tests.factories import make_person, make_token
from subsidiaries.replacement import services, succession
from subsidiaries.replacement.cases import Case
from subsidiaries.replacement.models import Replacement, Successor
from subsidiaries.replacement.tests.factories import bring_to_life

pytestmark = pytest.mark.django_db
PAGE = "/a/pricing/op-0031-g1/"
DIRECTOR = "/a/pricing/di-0001-g1/"
SUBJECT = "org.claytom.pricing.operator.op-0031-g1"


@pytest.fixture(autouse=True)
def started(holding: None) -> None:
    bring_to_life("pricing")
    services.ensure(unit="pricing")


@pytest.fixture
def vera(db: None) -> Client:
    """Somebody who may look and nothing else."""
    client = Client(headers={"Accept-Language": "en"})
    client.force_login(make_person("vera", role="viewer"))
    return client


def text(response: Any) -> str:
    return str(response.content, "utf-8")


def stage(code: str = "op-0031") -> str:
    return str(Agent.objects.in_office().get(seat__unit__slug="pricing", seat__code=code).stage)


def test_an_agents_page_tells_its_stages(ana: Client) -> None:
    page = text(ana.get(PAGE))
    assert "first seen live" in page
    assert "provisioning" in page
    assert "portal/arp" in page


def test_the_list_is_filtered_by_stage(ana: Client) -> None:
    ana.post(f"{PAGE}isolate/", {"reason": "it sends nonsense"})
    page = text(ana.get("/agents/?stage=quarantined"))
    assert "op-0031-g1" in page
    assert "op-0032-g1" not in page
    services.ensure(unit="pricing")
    assert "No agent in office matches" in text(ana.get("/agents/?stage=quarantined"))
    assert "op-0031-g1" in text(ana.get("/agents/?stage=replaced"))
    assert "op-0031-g2" in text(ana.get("/agents/?stage=provisioning&unit=pricing"))


def test_who_may_isolates_and_releases_on_the_page(ana: Client) -> None:
    assert "Isolate the agent" in text(ana.get(PAGE))
    response = ana.post(f"{PAGE}isolate/", {"reason": "it sends nonsense"})
    assert (response.status_code, response.headers["Location"]) == (302, PAGE)
    page = text(ana.get(PAGE))
    assert stage() == "quarantined"
    assert "Let it run again" in page
    assert "it sends nonsense" in page
    assert ana.post(f"{PAGE}release/", {"reason": "it was the clock"}).status_code == 302
    assert stage() == "active"


def test_a_refusal_is_shown_on_the_page(ana: Client) -> None:
    response = ana.post(f"{PAGE}release/", {"reason": "why not"})
    assert response.status_code == 422
    assert "op-0031-g1 is not isolated." in text(response)
    assert ana.post(f"{PAGE}isolate/", {"reason": " "}).status_code == 422
    assert stage() == "active"


def test_an_isolated_agent_is_no_pause_of_its_unit(ana: Client) -> None:
    ana.post(f"{PAGE}isolate/", {"reason": "it sends nonsense"})
    assert "A part of the unit is paused." not in text(ana.get("/s/pricing/"))


def test_who_only_looks_is_offered_and_allowed_nothing(vera: Client) -> None:
    for path, word in ((PAGE, "Isolate the agent"), (DIRECTOR, "Say who succeeds")):
        page = text(vera.get(path))
        assert "Stages" in page
        assert word not in page
    for act in ("isolate", "release", "succession"):
        assert vera.post(f"{DIRECTOR}{act}/", {"reason": "r"}).status_code == 403
    assert stage() == "active"


def test_a_directors_page_names_the_successors_and_takes_an_order(ana: Client) -> None:
    page = text(ana.get(DIRECTOR))
    assert page.index("co-0006") < page.index("co-0007") < page.index("co-0008")
    assert "as ARP ranks them" in page
    wanted = make_seat(code="co-0008").pk
    assert ana.post(f"{DIRECTOR}succession/", {"first": wanted, "reason": "knows the market"}).status_code == 302
    page = text(ana.get(DIRECTOR))
    assert page.index("co-0008") < page.index("co-0006")
    assert "ordered by ana" in page
    assert ana.post(f"{DIRECTOR}succession/", {"first": "", "reason": "as before"}).status_code == 302
    assert Successor.objects.get(seat=make_seat(code="di-0001"), rank=1).successor.code == "co-0006"
    for wrong in ("x", "999999999", str(make_seat(code="op-0031").pk)):
        assert ana.post(f"{DIRECTOR}succession/", {"first": wrong, "reason": "r"}).status_code == 422


def test_an_operators_page_has_no_successors(ana: Client) -> None:
    assert "Successors" not in text(ana.get(PAGE))
    assert ana.post(f"{PAGE}succession/", {"first": "", "reason": "r"}).status_code == 422


def test_a_promotion_is_told_on_the_page_of_replacements(ana: Client) -> None:
    seat = make_seat(code="co-0006")
    case = Case(seat.pk, 1, Replacement.Reason.FAILED, Agent.objects.earliest("pk").created_at)
    services.replace(unit=seat.unit, cases=[case], actor="test")
    page = text(ana.get("/arp/"))
    assert "filled by promotion:" in page
    assert "promoted to co-0006" in page
    assert succession.NO_SUCCESSOR not in page


# --- the API -----------------------------------------------------------------------------------------------


@pytest.fixture
def api(db: None) -> Client:
    person = make_person("api")
    make_token(person)
    return Client(headers={"Authorization": "Bearer token-of-the-tests", "Accept-Language": "en"})


def ask(client: Client, path: str, data: dict[str, str] | None = None, *, status: int = 200) -> Any:
    address = f"/api/v1/agents/{path}"
    json_type = "application/json"
    response = client.get(address) if data is None else client.post(address, data, content_type=json_type)
    assert response.status_code == status, response.content
    return json.loads(response.content)


def test_the_api_tells_stage_and_timeline(api: Client) -> None:
    row = ask(api, f"{SUBJECT}/")
    assert row["stage"] == "active"
    assert [(one["old"], one["new"], one["reason"]) for one in row["timeline"]] == [
        ("provisioning", "active", "first seen live")
    ]
    assert row["timeline"][0]["correlation_id"].startswith("stages-pricing-")
    assert len(ask(api, "?stage=active&limit=100")["results"]) == 35
    assert ask(api, "?stage=lost")["results"] == []
    assert ask(api, "?stage=asleep", status=400)["stage"]


def test_the_api_isolates_and_releases(api: Client) -> None:
    row = ask(api, f"{SUBJECT}/quarantine/", {"reason": "it sends nonsense"})
    assert (row["stage"], row["timeline"][-1]["new"]) == ("quarantined", "quarantined")
    assert ask(api, f"{SUBJECT}/quarantine/", {"reason": "again"}, status=400)["detail"]
    assert ask(api, f"{SUBJECT}/release/", {}, status=400)["reason"]
    assert ask(api, f"{SUBJECT}/release/", {"reason": "it was the clock"})["stage"] == "active"
    assert ask(api, "org.claytom.pricing.operator.op-9999-g1/release/", {"reason": "r"}, status=404)
    User.objects.get(username="api").bindings.update(role=AccessRole.objects.get(slug="viewer"))
    assert ask(api, f"{SUBJECT}/quarantine/", {"reason": "r"}, status=403)
