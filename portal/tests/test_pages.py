"""Every page: who may read it, whole and in part, in both languages, at a fixed number of queries."""

import re
from itertools import product
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from holding.models import Agent, Seat
from iam.access.models import User
from portal.tests.factories import make_claim, make_replacements, make_shortage
from subsidiaries.replacement.models import DivisionState

pytestmark = pytest.mark.django_db

# One statement opens the rows in view, one closes them again (only here: the tests see all between requests).
PAGES = {
    "/": 14,  # one closes the rows: here alone, since the tests see all between requests
    "/s/pricing/": 17,
    "/s/corporate/": 17,
    "/a/pricing/op-0031-g1/": 16,
    "/a/pricing/op-0031/": 16,
    "/a/corporate/c-suite.ceo-g1/": 17,
    "/agents/": 9,
    "/agents/?unit=pricing&role=operator&state=idle&q=op-": 11,
    "/org/": 11,
    "/org/under/unit/pricing/": 8,
    "/org/under/body/c-suite/": 8,
    "/arp/": 11,
    "/arp/?unit=pricing&reason=failed": 11,
    "/arp/incidents/": 7,
    "/arp/incidents/?state=all&unit=pricing&kind=silence": 7,
    "/activity/": 10,
    "/activity/?kind=incidents": 8,
    "/escalations/": 9,
    "/escalations/?state=all&unit=pricing": 9,
    "/commands/": 10,
    "/commands/?verb=pause&unit=pricing": 10,
}
FORBIDDEN = re.compile(
    r"""\sstyle\s*=|\son[a-z]+\s*=\s*["']|<script(?![^>]*\ssrc=)|javascript:|hx-on""", re.IGNORECASE
)


@pytest.fixture(autouse=True)
def events(holding: None) -> None:
    make_replacements("sales", count=3)
    make_shortage("cloud")


def text(response: Any) -> str:
    return str(response.content, "utf-8")


def test_pages_ask_for_the_sign_in_and_then_for_the_clearance(bob: Client) -> None:
    for path in PAGES:
        anonymous = Client().get(path)
        assert anonymous.status_code == 302, path
        assert anonymous.headers["Location"].startswith("/sign-in/?next=")
        refused = bob.get(path)
        assert refused.status_code == 403, path
        assert "org.claytom" not in text(refused)
        assert "clearance" in text(refused)


def test_pages_are_complete_and_free_of_inline_code(ana: Client) -> None:
    for path in PAGES:
        response = ana.get(path)
        assert response.status_code == 200, path
        page = text(response)
        assert not FORBIDDEN.search(page), path
        assert page.count("<h1>") == 1, path
        assert 'lang="en"' in page
        assert "C-Suite executive access only" in page
        assert "CTSRD-7.0-GALAXY" in page
        assert "Scaled-down holding" in page
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "HX-Request" in response.headers["Vary"]


def test_pages_in_spanish_have_no_english_left(ana: Client) -> None:
    for path in PAGES:
        page = text(ana.get(path, headers={"Accept-Language": "es"}))
        assert 'lang="es"' in page, path
        assert "Acceso exclusivo de la alta dirección" in page
        for word in ("Skip to", "Sign out", "Pause updates", "Executive overview", "Replacements", "Headcount"):
            assert word not in page, path


def test_pages_cost_a_bounded_number_of_queries(ana: Client) -> None:
    for path, ceiling in PAGES.items():
        with CaptureQueriesContext(connection) as queries:
            ana.get(path)
        statements = [query["sql"][:150] for query in queries if "SAVEPOINT" not in query["sql"]]
        assert len(statements) <= ceiling, "\n".join([path, *statements])


def test_htmx_gets_the_part_and_then_nothing_while_it_is_unchanged(ana: Client) -> None:
    for path in PAGES:
        part = ana.get(path, headers={"HX-Request": "true"})
        assert part.status_code == 200, path
        assert "<html" not in text(part)
        assert not FORBIDDEN.search(text(part)), path
        again = ana.get(path, headers={"HX-Request": "true", "If-None-Match": part.headers["ETag"]})
        assert again.status_code == 304, path
        assert again.content == b""


def test_htmx_without_a_session_is_told_to_move_the_whole_page() -> None:
    response = Client().get("/", headers={"HX-Request": "true"})
    assert response.status_code == 401
    assert response.headers["HX-Redirect"].endswith("/sign-in/")


def test_the_overview_says_who_is_below_the_floor_and_by_how_many(ana: Client) -> None:
    page = text(ana.get("/"))
    assert "1 unit below its floor:" in page
    assert re.search(r'href="/s/cloud/">Cloud &amp; Infrastructure</a> −1|href="/s/cloud/">Cloud</a> −1', page)
    first = re.search(r'<tr id="row-([a-z-]+)"', page)
    assert first
    assert first[1] == "cloud"


def test_the_overview_shows_every_unit_once_in_any_order(ana: Client) -> None:
    for sort in ("worst", "-worst", "name", "-headcount", "quality_score", "-replacements", "coverage", "nonsense"):
        rows = re.findall(r'<tr id="row-([a-z-]+)"', text(ana.get(f"/?sort={sort}")))
        assert len(rows) == len(set(rows)) == 36
        assert rows[-1] == "corporate"


def test_a_silent_division_is_never_counted_as_live(ana: Client) -> None:
    DivisionState.objects.filter(division__unit__slug="energy").update(seen_at=None)
    page = text(ana.get("/"))
    assert "−35" in page
    assert "unknown" in text(ana.get("/a/energy/op-0031-g1/"))


def test_an_agent_page_keeps_the_old_generation_and_names_the_new(ana: Client) -> None:
    old = text(ana.get("/a/sales/op-0031-g1/"))
    assert "replaced" in old
    assert '/a/sales/op-0031-g2/"' in old
    new = text(ana.get("/a/sales/op-0031-g2/"))
    assert "org.claytom.sales.operator.op-0031-g2" in new
    assert "seat.appoint" in new


def test_an_agent_page_shows_the_last_claim_of_its_own_generation(ana: Client) -> None:
    make_claim(Seat.objects.get(unit__slug="pricing", code="op-0031"))
    assert "Throughput per day" in text(ana.get("/a/pricing/op-0031-g1/"))
    assert "has claimed no KPI" in text(ana.get("/a/pricing/op-0032-g1/"))


def test_what_does_not_exist_is_a_404_in_the_portals_look(ana: Client) -> None:
    for path in (
        "/s/nowhere/",
        "/a/pricing/op-9999-g1/",
        "/a/pricing/op-0031-g9/",
        "/a/nowhere/op-0031-g1/",
        "/nothing/",
        "/org/under/seat/999999999/",
        "/org/under/unit/nowhere/",
        "/org/under/what/pricing/",
    ):
        response = ana.get(path)
        assert response.status_code == 404, path
        assert "There is no such page" in text(response)


def test_a_list_of_many_pages_is_walked_in_both_directions(ana: Client) -> None:
    forward: list[str] = []
    address, last = "/agents/?role=operator", ""
    while address:
        last, page = address, text(ana.get(address))
        forward.append(re.findall(r'<tr id="agent-(\d+)"', page)[0])
        link = re.search(r'rel="next" href="([^"]+)"', page)
        address = link[1].replace("&amp;", "&") if link else ""
    backward: list[str] = []
    address = last
    while address:
        page = text(ana.get(address))
        backward.append(re.findall(r'<tr id="agent-(\d+)"', page)[0])
        link = re.search(r'rel="prev" href="([^"]+)"', page)
        address = link[1].replace("&amp;", "&") if link else ""
    assert forward == backward[::-1]
    assert len(forward) == 4


def test_a_late_page_costs_the_same_queries_as_the_first(ana: Client) -> None:
    last = Agent.objects.order_by("-pk").values_list("pk", flat=True)[60]
    with CaptureQueriesContext(connection) as first:
        ana.get("/agents/")
    with CaptureQueriesContext(connection) as late:
        ana.get(f"/agents/?after={last}")
    assert len(first) == len(late)
    assert not any("OFFSET" in query["sql"] for query in [*first, *late])


NONSENSE = [
    "?after=x",
    "?after=99999999999999999999",
    "?before=-1",
    "?q=%00",
    "?q=%25",
    "?unit=' or 1=1",
    "?state=nope",
]


def test_nonsense_in_the_query_is_answered_with_a_page(ana: Client) -> None:
    for path, query in product(("/agents/", "/arp/", "/activity/", "/"), NONSENSE):
        assert ana.get(f"{path}{query}").status_code == 200


def test_an_empty_list_says_why_and_what_to_do(ana: Client) -> None:
    page = text(ana.get("/agents/?q=zz"))
    assert "No agent in office matches these filters." in page
    assert "Show all agents" in page


def test_replacements_of_one_minute_are_one_event(ana: Client) -> None:
    page = text(ana.get("/activity/"))
    assert "3 replacements: reported failed" in page
    assert "Incident: below the floor" in page
    assert "Holding file loaded" in page


def test_the_field_has_one_byte_for_each_seat(ana: Client) -> None:
    response = ana.get("/org/field.bin")
    raw = response.content
    assert len(raw) == 35 * 35 + 50
    assert {byte >> 4 for byte in raw} == {1, 2, 3, 4}
    # The operators of sales were just replaced: their successors have not reported yet.
    assert sum(byte & 15 == 4 for byte in raw) >= 1
    again = ana.get("/org/field.bin", headers={"If-None-Match": response.headers["ETag"]})
    assert again.status_code == 304


def test_the_palette_finds_pages_units_and_agents(ana: Client) -> None:
    names = [hit["name"] for hit in ana.get("/palette/?q=org").json()["hits"]]
    assert "Organisation" in names
    assert any(hit["url"] == "/s/pricing/" for hit in ana.get("/palette/?q=pric").json()["hits"])
    hits = ana.get("/palette/?q=op-0031").json()["hits"]
    assert "/a/pricing/op-0031-g1/" in [hit["url"] for hit in hits]


def test_a_form_without_its_token_is_refused_in_the_portals_look() -> None:
    response = Client(enforce_csrf_checks=True, headers={"Accept-Language": "en"}).post(
        "/language/", {"language": "es"}
    )
    assert response.status_code == 403
    assert "The form has expired" in text(response)


def test_the_language_is_remembered_for_the_person(ana: Client) -> None:
    response = ana.post("/language/", {"language": "es", "next": "/agents/"})
    assert response.headers["Location"] == "/agents/"
    assert User.objects.get(username="ana").language == "es"
    assert 'lang="es"' in text(ana.get("/"))
    assert ana.post("/language/", {"language": "xx"}).status_code == 400
    assert ana.post("/language/", {"language": "en", "next": "https://evil.example/"}).headers["Location"] == "/"


def test_the_theme_is_drawn_by_the_server(ana: Client) -> None:
    ana.post("/theme/", {"theme": "dark"})
    assert 'data-theme="dark"' in text(ana.get("/"))
    assert ana.post("/theme/", {"theme": "pink"}).status_code == 400
