"""The list of agents as a file: who may, what is in it, and what large ones need."""

import csv
import re
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from audit.models import LedgerEntry
from holding import clock
from holding.models import Unit
from iam.access.models import User
from iam.access.tests.factories import make_person
from iam.authority import matrix
from iam.authority import services as authority
from iam.authority.models import Approval, Decision
from portal import exports
from portal.models import Export

pytestmark = pytest.mark.django_db


def client_of(name: str) -> Client:
    client = Client(headers={"Accept-Language": "en"})
    client.force_login(User.objects.get(username=name))
    return client


def rows_of(response: Any) -> list[list[str]]:
    text = b"".join(response.streaming_content).decode("utf-8-sig")
    return list(csv.reader(StringIO(text)))


@pytest.fixture(autouse=True)
def people(holding: None) -> None:
    """Who may export everything, one unit, or nothing; and a chief risk officer."""
    pricing = Unit.objects.get(slug="pricing")
    make_person("eva", role="executive")
    make_person("paula", role="subsidiary-head", unit=pricing)
    make_person("omar", role="auditor")
    make_person("sara", role="viewer")
    make_person("dora", role="supervisor", unit=pricing)
    authority.install_matrix(data=matrix.read_matrix(), actor="test")
    authority.appoint_to_office(
        office="group-cro", person=make_person("cris"), actor="test", valid_from=clock.now()
    )


def test_a_file_says_who_took_it_and_has_every_row_of_the_filters() -> None:
    response = client_of("eva").get("/agents/export.csv?unit=pricing&role=operator")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    rows = rows_of(response)
    assert rows[0] == ["#", "C-Suite executive access only"]
    assert rows[1][2] == "eva"
    assert rows[2][2] == "unit=pricing, role=operator"
    assert rows[3][0] == "agent"
    assert [row[0] for row in rows[4:]] == [f"op-{number:04}-g1" for number in range(31, 36)]
    assert {row[2] for row in rows[4:]} == {"pricing"}
    entry = LedgerEntry.objects.get(action="export.create")
    assert entry.actor == "eva"
    assert b'"rows":5' in bytes(entry.body)
    assert Export.objects.get().rows == 5


def test_each_exports_only_the_units_that_are_theirs() -> None:
    rows = rows_of(client_of("paula").get("/agents/export.csv"))[4:]
    assert len(rows) == 35
    assert {row[2] for row in rows} == {"pricing"}
    assert rows_of(client_of("paula").get("/agents/export.csv?unit=tax"))[4:] == []
    for name in ("sara", "dora"):
        client = client_of(name)
        assert client.get("/agents/export.csv").status_code == 403
        assert "export.csv" not in client.get("/agents/").content.decode()
    assert Client().get("/agents/export.csv").status_code == 302
    assert (
        'href="/agents/export.csv?unit=pricing"' in client_of("eva").get("/agents/?unit=pricing").content.decode()
    )


def test_no_cell_is_a_formula() -> None:
    rows = rows_of(client_of("eva").get("/agents/export.csv", {"q": '=cmd|"x"!a1'}))
    assert rows[2][2] == 'words==cmd|"x"!a1'
    evil = ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "fine", 3, None]
    assert exports._row(evil) == ["'=1+1", "'+1", "'-1", "'@x", "'\tx", "'\rx", "fine", "3", ""]


def test_a_large_export_needs_an_approval_of_these_very_filters_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "FREE_ROWS", 30)  # the holding of the tests is a small one
    eva = client_of("eva")
    refused = eva.get("/agents/export.csv?role=operator")
    assert refused.status_code == 403
    assert "These filters find 175 agents." in refused.content.decode()
    asked = eva.post("/agents/export/ask/", {"role": "operator", "reason": "Audit"})
    pk = int(re.findall(r"/approvals/(\d+)/", asked.headers["Location"])[0])
    approval = Approval.objects.get(pk=pk)
    assert (approval.matter.slug, int(approval.value), approval.state) == ("data-export", 175, "approved")
    assert approval.by_rule
    assert eva.get("/agents/export.csv").status_code == 403
    assert client_of("cris").get("/agents/export.csv?role=operator").status_code == 403
    assert len(rows_of(eva.get("/agents/export.csv?role=operator"))) == 4 + 175
    assert Export.objects.get().approval == approval
    assert eva.get("/agents/export.csv?role=operator").status_code == 403
    assert Export.objects.count() == 1


def test_a_very_large_export_waits_for_the_risk_officer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "FREE_ROWS", 30)
    eva = client_of("eva")
    eva.post("/agents/export/ask/", {})
    approval = Approval.objects.get()
    assert (approval.state, approval.unit.slug) == ("pending", "corporate")
    assert eva.get("/agents/export.csv").status_code == 403
    cris = User.objects.get(username="cris")
    authority.decide(approval=approval, person=cris, verdict=Decision.Verdict.APPROVE)
    assert len(rows_of(eva.get("/agents/export.csv"))) == 4 + 35 * 35 + 50


def test_who_may_not_ask_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "FREE_ROWS", 30)
    omar = client_of("omar")
    assert "You may not ask for approvals" in omar.get("/agents/export.csv").content.decode()
    assert omar.post("/agents/export/ask/", {}).status_code == 403
    assert client_of("dora").post("/agents/export/ask/", {}).status_code == 403
    paula = client_of("paula")
    assert paula.post("/agents/export/ask/", {}).status_code == 302
    assert Approval.objects.get().unit.slug == "pricing"


def test_an_approval_serves_only_the_units_that_it_was_given_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "FREE_ROWS", 30)
    paula, person = client_of("paula"), User.objects.get(username="paula")
    paula.post("/agents/export/ask/", {})
    assert Approval.objects.get().state == "approved"
    person.bindings.update(unit=Unit.objects.get(slug="tax"))
    assert paula.get("/agents/export.csv").status_code == 403
    person.bindings.update(unit=Unit.objects.get(slug="pricing"))
    assert len(rows_of(paula.get("/agents/export.csv"))) == 4 + 35


def test_an_approval_serves_for_a_week(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "FREE_ROWS", 30)
    paula = client_of("paula")
    paula.post("/agents/export/ask/", {})
    monkeypatch.setattr(exports, "APPROVAL_LASTS", timedelta(0))
    assert paula.get("/agents/export.csv").status_code == 403


def test_many_small_files_of_a_day_count_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "FREE_ROWS", 12)
    paula = client_of("paula")
    for role, rows in (("director", 5), ("operator", 5)):
        answer = paula.get(f"/agents/export.csv?role={role}")
        assert (answer.status_code, len(rows_of(answer)) - 4) == (200, rows), role
    assert paula.get("/agents/export.csv?role=innovator").status_code == 403
    assert Export.objects.update(at=timezone.now() - timedelta(days=1, seconds=1)) == 2
    assert paula.get("/agents/export.csv?role=innovator").status_code == 200
