"""The pages and the API of refused messages: who sees which, and what somebody may do with one."""

import json
from base64 import b64decode
from typing import Any

import pytest
from django.test import Client

from audit.models import LedgerEntry
from bus.models import OutboxMessage, QuarantinedMessage, Suspect
from holding.models import Unit
from iam.access.tests.factories import make_binding, make_person
from portal.tests.quarantined import HOSTILE, SOURCE, make_quarantine, make_refused

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("holding")]


def client_of(name: str, role: str, unit: str = "") -> Client:
    person = make_person(name, role="")
    make_binding(person, role, Unit.objects.get(slug=unit) if unit else None)
    client = Client(headers={"Accept-Language": "en"})
    client.force_login(person)
    client.get("/theme/")
    return client


@pytest.fixture
def ada() -> Client:
    return client_of("ada", "administrator")


@pytest.fixture
def head() -> Client:
    """The head of pricing."""
    return client_of("rosa", "subsidiary-head", "pricing")


@pytest.fixture
def first() -> QuarantinedMessage:
    return make_quarantine()


def read(client: Client, path: str, status: int = 200) -> str:
    response = client.get(path)
    assert response.status_code == status, response.content[:400]
    return response.content.decode()


def api(client: Client, path: str, status: int = 200, query: dict[str, str] | None = None) -> Any:
    response = client.get(f"/api/v1/{path}", query or {})
    assert response.status_code == status, response.content
    return json.loads(response.content)


def post(client: Client, path: str, body: Any = None) -> Any:
    return client.post(f"/api/v1/quarantine/{path}", json.dumps(body or {}), content_type="application/json")


def test_an_empty_quarantine_says_so_and_what_comes_there(ada: Client) -> None:
    page = read(ada, "/quarantine/")
    assert "No refused message waits for a decision." in page
    assert "No refused message matches." in page
    assert "No source is suspect." in page


def test_the_page_counts_reasons_and_names_suspects(ada: Client, first: QuarantinedMessage) -> None:
    page = read(ada, "/quarantine/")
    assert "5 refused messages wait for somebody to decide." in page
    assert "1 source is suspect." in page
    assert "4,711" in page
    assert "<code>$.ts</code>" in page
    assert "of the newest 6" in page


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"state": "discarded"}, 1), ({"stage": "json"}, 1), ({"stream": "CT_WORK"}, 1), ({"rule": "schema"}, 3),
        ({"unit": "pricing"}, 4), ({"unit": "-"}, 1), ({"source": SOURCE}, 6), ({"source": "nobody"}, 0),
        ({"since": "2099-01-01T00:00:00Z"}, 0), ({"until": "2099-01-01T00:00:00Z", "stage": "schema"}, 3),
    ],
)  # fmt: skip
def test_page_and_api_filter_alike(
    ada: Client, first: QuarantinedMessage, query: dict[str, str], count: int
) -> None:
    assert len(api(ada, "quarantine/", query=query)["results"]) == count
    page = ada.get("/quarantine/", query).content.decode()
    assert page.count('data-label="Received"') == count


def test_pages_of_the_list_are_by_key(ada: Client) -> None:
    for _ in range(60):
        make_refused()
    page = read(ada, "/quarantine/?state=held")
    assert page.count('data-label="Received"') == 50
    older = QuarantinedMessage.objects.order_by("-pk")[49].pk
    assert f"?state=held&amp;after={older}" in page
    assert read(ada, f"/quarantine/?after={older}").count('data-label="Received"') == 10


def test_what_a_message_holds_is_shown_and_never_runs(ada: Client, first: QuarantinedMessage) -> None:
    page = read(ada, f"/quarantine/{first.pk}/")
    assert "&lt;/pre&gt;&lt;script&gt;" in page
    assert "<script>alert" not in page
    assert "Nats-Msg-Id" in page
    binary = QuarantinedMessage.objects.get(stage="json")
    page = read(ada, f"/quarantine/{binary.pk}/")
    assert "000000  00 01 02 03" in page
    assert "the first 4 KiB are shown" in page
    assert "the first 32,768 of 90,000 bytes" in read(
        ada, f"/quarantine/{QuarantinedMessage.objects.get(size=90_000).pk}/"
    )
    detail = api(ada, f"quarantine/{first.pk}/")
    assert b64decode(detail["body"]) == detail["text"].encode() == HOSTILE
    assert (detail["path"], detail["unit"], detail["obstacle"]) == ("$.ts", "pricing", None)


def test_a_message_is_sent_again_from_page_and_api(ada: Client, first: QuarantinedMessage) -> None:
    response = ada.post(f"/quarantine/{first.pk}/replay/", follow=True)
    assert "not yet" in response.content.decode()
    again = make_refused()
    assert post(ada, f"{again.pk}/replay/").json()["state"] == "replayed"
    assert set(OutboxMessage.objects.filter(insist=True).values_list("dedup", flat=True)) == {
        f"replay-{first.pk}", f"replay-{again.pk}",
    }  # fmt: skip
    assert LedgerEntry.objects.filter(action="quarantine.replay", actor="ada").count() == 2
    assert ada.post(f"/quarantine/{first.pk}/replay/").status_code == 422
    assert "replayed" in post(ada, f"{again.pk}/replay/").json()["detail"][0]


def test_a_message_is_discarded_with_a_reason(ada: Client, first: QuarantinedMessage) -> None:
    assert ada.post(f"/quarantine/{first.pk}/discard/", {"reason": " "}).status_code == 422
    assert post(ada, f"{first.pk}/discard/").status_code == 400
    response = ada.post(f"/quarantine/{first.pk}/discard/", {"reason": "the sender was mended"}, follow=True)
    assert "the sender was mended" in response.content.decode()
    other = make_refused()
    assert post(ada, f"{other.pk}/discard/", {"reason": "x"}).json()["note"] == "x"


def test_what_was_cut_says_why_it_cannot_be_sent_again(ada: Client, first: QuarantinedMessage) -> None:
    cut = QuarantinedMessage.objects.get(size=90_000)
    page = read(ada, f"/quarantine/{cut.pk}/")
    assert "what is cut cannot be sent again" in page
    assert f"/quarantine/{cut.pk}/replay/" not in page
    assert "cut" in post(ada, f"{cut.pk}/replay/").json()["detail"][0]


def test_the_head_of_a_unit_sees_and_decides_about_its_messages_only(
    head: Client, first: QuarantinedMessage
) -> None:
    assert {row["unit"] for row in api(head, "quarantine/")["results"]} == {"pricing"}
    assert "of no known unit" not in read(head, "/quarantine/")
    others = QuarantinedMessage.objects.exclude(unit_id=first.unit_id)
    assert len(others) == 2
    for one in others:
        read(head, f"/quarantine/{one.pk}/", 404)
        api(head, f"quarantine/{one.pk}/", 404)
        assert post(head, f"{one.pk}/replay/").status_code == 404
        assert head.post(f"/quarantine/{one.pk}/discard/", {"reason": "x"}).status_code == 404
    Suspect.objects.create(
        source="host/of-tax", unit="tax", unit_id=Unit.objects.get(slug="tax").pk, since=first.received_at,
        last_at=first.received_at, reason="x",
    )  # fmt: skip
    assert {row["unit"] for row in api(head, "suspects/")["results"]} == {"pricing"}
    assert post(head, f"{first.pk}/replay/").status_code == 200


def test_who_may_look_may_not_decide(first: QuarantinedMessage) -> None:
    auditor = client_of("otto", "auditor")
    page = read(auditor, f"/quarantine/{first.pk}/")
    assert "/replay/" not in page
    assert auditor.post(f"/quarantine/{first.pk}/replay/").status_code == 403
    assert post(auditor, f"{first.pk}/discard/", {"reason": "x"}).status_code == 403
    viewer = client_of("vera", "viewer")
    read(viewer, "/quarantine/", 403)
    api(viewer, "quarantine/", 403)
    assert "/quarantine/" not in read(viewer, "/")


def test_the_right_for_one_unit_is_none_for_another(first: QuarantinedMessage) -> None:
    both = client_of("tess", "auditor")
    make_binding(
        make_person("tessa", role=""), "subsidiary-head", Unit.objects.get(slug="tax")
    )  # somebody else's right changes nothing
    assert both.post(f"/quarantine/{first.pk}/replay/").status_code == 403
    mixed = make_person("mia", role="")
    make_binding(mixed, "auditor")
    make_binding(mixed, "subsidiary-head", Unit.objects.get(slug="tax"))
    client = Client(headers={"Accept-Language": "en"})
    client.force_login(mixed)
    client.get("/theme/")
    response = client.post(f"/quarantine/{first.pk}/replay/")
    assert response.status_code == 403
    assert "quarantine.decide" in response.content.decode()
    assert post(client, f"{first.pk}/replay/").status_code == 403


def test_the_page_of_an_agent_shows_that_it_is_suspect(ada: Client, first: QuarantinedMessage) -> None:
    agent = "org.claytom.pricing.operator.op-0032-g1"
    Suspect.objects.create(
        source=agent, unit="pricing", unit_id=first.unit_id, since=first.received_at, last_at=first.received_at,
        count=33, reason="it speaks in tongues",
    )  # fmt: skip
    page = read(ada, "/a/pricing/op-0032-g1/")
    assert "33 messages of this agent were refused since" in page
    assert "it speaks in tongues" in page
    assert "it speaks in tongues" not in read(client_of("vera", "viewer"), "/a/pricing/op-0032-g1/")
    Suspect.objects.update(closed_at=first.received_at)
    assert "it speaks in tongues" not in read(ada, "/a/pricing/op-0032-g1/")


def test_suspects_and_what_is_held_are_metrics(ada: Client, first: QuarantinedMessage) -> None:
    text = read(Client(), "/metrics")
    assert "claytom_quarantine_held 5.0" in text
    assert "claytom_suspects_open 1.0" in text
