"""From the token to the seat and back, by the API and by what agents send."""

import base64
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from audit.models import LedgerEntry
from bus.credentials import KeyStore
from bus.leases import BOOK, Claim, Standing
from claytom_agent.login import decode_claims, parse_credentials
from claytom_agent.manifest import covers
from claytom_agent.nkeys import KeyPair, Kind
from holding.models import Agent, Unit
from iam.access.tests.factories import TOKEN, make_person, make_token
from subsidiaries.commands.tests.factories import manifest_of
from subsidiaries.enrolment import credentials, services
from subsidiaries.enrolment.models import Enrolment
from subsidiaries.enrolment.tests.factories import granting, hello, message, presence, seat_of
from subsidiaries.replacement import handlers
from subsidiaries.replacement import services as arp
from subsidiaries.replacement.models import Census, Incident, Monitor, SeatState
from subsidiaries.replacement.observing import census_drift
from subsidiaries.replacement.singles import door
from subsidiaries.replacement.tests.factories import bring_to_life, make_staffed_holding, report

pytestmark = pytest.mark.django_db
ASK = {"unit": "pricing", "seat": "op-0031", "reason": "pilot"}
SUBJECT = "org.claytom.pricing.operator.op-0031-g2"


@pytest.fixture(autouse=True)
def holding(db: None) -> None:
    make_staffed_holding()
    bring_to_life()


@pytest.fixture(autouse=True)
def keys(settings: Any, tmp_path: Path) -> KeyStore:
    settings.NATS_KEYS = str(tmp_path / "keys")
    return KeyStore.create(settings.NATS_KEYS, units=["pricing", "tax"])


@pytest.fixture
def client() -> Client:
    make_token(make_person("ana", role="administrator"))
    return Client(headers={"Authorization": f"Bearer {TOKEN}"})


@pytest.fixture
def granted(nats_url: str) -> Iterator[None]:
    with granting(nats_url):
        yield


def post(client: Client, path: str, body: dict[str, Any]) -> Any:
    return client.post(f"/api/v1/agents/{path}", json.dumps(body), content_type="application/json")


def enrolled(client: Client, **changes: Any) -> dict[str, Any]:
    response = post(client, "enrol/", {**ASK, **changes})
    assert response.status_code == 201, response.content
    answer: dict[str, Any] = response.json()
    return answer


def exchanged(client: Client, **more: Any) -> dict[str, Any]:
    response = post(Client(), "credentials/", {"token": enrolled(client)["token"], **more})
    assert response.status_code == 201, response.content
    answer: dict[str, Any] = response.json()
    return answer


def sentence(response: Any) -> str:
    return json.dumps(response.json(), ensure_ascii=False)


def live(slug: str = "pricing") -> int:
    unit = Unit.objects.get(slug=slug)
    return Census.objects.by_unit(timezone.now())[unit.pk][1]


def state(code: str = "op-0031") -> SeatState:
    return SeatState.objects.get(seat__code=code, unit__slug="pricing")


def test_an_offer_changes_nothing_but_the_record(client: Client) -> None:
    answer = enrolled(client, minutes=5)
    assert answer["state"] == "offered"
    assert answer["agent"] is None
    assert answer["token"].startswith("cte_")
    assert {one["language"] for one in answer["snippets"]} == {"python", "node", "shell"}
    assert all(answer["token"] in one["text"] for one in answer["snippets"])
    stored = Enrolment.objects.get()
    assert answer["token"] not in json.dumps({k: str(v) for k, v in vars(stored).items()})
    assert seat_of("pricing", "op-0031").generation == 1
    assert live() == 35
    entry = LedgerEntry.objects.get(action="agent.enrol")
    assert (entry.actor, entry.object) == ("ana", "seat/pricing/op-0031")
    assert answer["token"] not in str(entry.body)


def test_the_token_is_exchanged_for_the_seat(client: Client) -> None:
    answer = exchanged(client)
    assert answer["subject"] == SUBJECT
    assert answer["inbox_prefix"] == "_INBOX_pricing_operator_op-0031-g2"
    assert "@" not in answer["nats_url"]
    content = parse_credentials(answer["creds"])
    assert content.claims.sub == content.key.public_key == answer["public_key"]
    assert content.claims.tag("unit") == "pricing"
    seat = seat_of("pricing", "op-0031")
    assert (seat.external, seat.generation) == (True, 2)
    assert Agent.objects.in_office().get(seat=seat).subject == SUBJECT
    manifest = manifest_of("pricing.1")
    assert manifest.external == [31]
    assert not covers(manifest, 31)
    assert covers(manifest, 26)
    actions = [entry.action for entry in LedgerEntry.objects.filter(object="seat/pricing/op-0031").order_by("id")]
    assert actions == ["agent.enrol", "seat.appoint", "agent.admit"]
    assert (state().state, state().generation) == ("starting", 2)
    assert live() == 34
    assert census_drift() == []


def test_the_seed_of_an_own_key_never_travels(client: Client) -> None:
    key = KeyPair.generate(Kind.USER)
    answer = exchanged(client, public_key=key.public_key)
    assert answer["creds"] == ""
    assert decode_claims(answer["jwt"]).sub == key.public_key == answer["public_key"]
    assert Enrolment.objects.get().public_key == key.public_key


def in_english(client: Client, path: str, body: dict[str, Any]) -> Any:
    return client.post(
        f"/api/v1/agents/{path}",
        json.dumps(body),
        content_type="application/json",
        headers={"Accept-Language": "en"},
    )


def test_a_token_that_does_not_count_says_why(client: Client) -> None:
    def refused(body: dict[str, Any], status: int, words: str) -> None:
        response = in_english(Client(), "credentials/", body)
        assert response.status_code == status, response.content
        assert words in sentence(response)

    refused({"token": "cte_nobody"}, 403, "unknown")
    former = enrolled(client)["token"]
    token = enrolled(client)["token"]
    refused({"token": former}, 403, "another one was made")
    other = "org.claytom.pricing.operator.op-0032"
    refused({"token": token, "subject": f"{other}-g2"}, 400, f"not for {other}")
    refused({"token": token, "public_key": "UAAA"}, 400, "no public key")
    refused({"token": token, "at": timezone.now().isoformat()}, 400, "either")
    refused({"public_key": "UAAA", "at": timezone.now().isoformat()}, 400, "A renewal needs")
    refused({}, 400, "either")
    past = timezone.now() - timedelta(minutes=1)
    open_one = Enrolment.objects.filter(ended_at=None)
    open_one.update(created_at=past - timedelta(hours=1), expires_at=past)
    refused({"token": token}, 403, "expired")
    assert seat_of("pricing", "op-0031").generation == 1
    token = enrolled(client)["token"]
    assert post(Client(), "credentials/", {"token": token, "subject": SUBJECT}).status_code == 201
    refused({"token": token}, 403, "used already")
    assert seat_of("pricing", "op-0031").generation == 2


def test_an_offer_that_cannot_be_made_says_why(client: Client) -> None:
    for ask, words in (
        ({"unit": "corporate", "seat": "ceo"}, "parent company"),
        ({"seat": "op-9999"}, "no seat"),
        ({"unit": "nowhere"}, "no seat"),
        ({"minutes": 0}, "minutes"),
        ({"minutes": 5000}, "minutes"),
        ({"reason": "  "}, "reason"),
    ):
        response = in_english(client, "enrol/", {**ASK, **ask})
        assert response.status_code == 400, response.content
        assert words in sentence(response)
    assert not Enrolment.objects.exists()


def test_a_seat_that_is_held_is_not_offered_again(client: Client) -> None:
    exchanged(client)
    response = post(client, "enrol/", ASK)
    assert response.status_code == 400
    assert "op-0031" in sentence(response)
    assert Enrolment.objects.count() == 1


def test_only_whoever_may_enrol_there_does(keys: KeyStore) -> None:
    pricing = Unit.objects.get(slug="pricing")
    make_token(make_person("eva", role="viewer", unit=pricing))
    eva = Client(headers={"Authorization": f"Bearer {TOKEN}"})
    assert post(eva, "enrol/", ASK).status_code == 403
    make_token(make_person("tom", role="administrator", unit=Unit.objects.get(slug="tax")), token="tom", name="tom")
    tom = Client(headers={"Authorization": "Bearer tom"})
    assert post(tom, "enrol/", ASK).status_code == 400  # a seat that is not in view is none
    assert post(tom, "enrol/", {**ASK, "unit": "tax"}).status_code == 201
    assert eva.get("/api/v1/agents/enrolments/").json()["results"] == []
    assert [one["unit"] for one in tom.get("/api/v1/agents/enrolments/").json()["results"]] == ["tax"]
    assert eva.get(f"/api/v1/agents/enrolments/{Enrolment.objects.get().pk}/").status_code == 404


def test_without_keys_nothing_is_minted_and_the_token_still_counts(
    client: Client, settings: Any, keys: KeyStore
) -> None:
    token = enrolled(client)["token"]
    known, settings.NATS_KEYS = settings.NATS_KEYS, ""
    response = post(Client(), "credentials/", {"token": token})
    assert response.status_code == 503
    assert "NATS_KEYS" in sentence(response)
    assert seat_of("pricing", "op-0031").external is False
    settings.NATS_KEYS = known
    assert post(Client(), "credentials/", {"token": token}).status_code == 201


def renewal(key: KeyPair, at: datetime | None = None, public_key: str = "") -> Any:
    at = at or timezone.now()
    named = public_key or key.public_key
    signature = base64.urlsafe_b64encode(key.sign(credentials.proof(named, at))).decode().rstrip("=")
    return post(Client(), "credentials/", {"public_key": named, "at": at.isoformat(), "signature": signature})


def test_the_login_is_renewed_by_a_proof_of_the_key(client: Client) -> None:
    key = KeyPair.generate(Kind.USER)
    exchanged(client, public_key=key.public_key)
    Enrolment.objects.update(credential_until=timezone.now() + timedelta(minutes=1))
    response = renewal(key)
    assert response.status_code == 201, response.content
    assert response.json()["subject"] == SUBJECT
    assert response.json()["public_key"] == key.public_key
    until = Enrolment.objects.get().credential_until
    assert until is not None
    assert until > timezone.now() + timedelta(hours=23)
    assert LedgerEntry.objects.filter(action="agent.renew").count() == 1
    assert renewal(key, timezone.now() - timedelta(minutes=5)).status_code == 403  # an old proof
    thief = KeyPair.generate(Kind.USER)
    assert renewal(thief, public_key=key.public_key).status_code == 403
    assert renewal(thief).status_code == 403  # a proof of a key that holds nothing


def test_withdrawn_the_seat_is_hosted_again(client: Client, keys: KeyStore) -> None:
    answer = exchanged(client)
    key = parse_credentials(answer["creds"]).key
    number = Enrolment.objects.get().pk
    response = post(client, f"enrolments/{number}/withdraw/", {"reason": "pilot is over"})
    assert response.status_code == 200, response.content
    assert response.json()["state"] == "ended"
    seat = seat_of("pricing", "op-0031")
    assert (seat.external, seat.generation) == (False, 3)
    manifest = manifest_of("pricing.1")
    assert manifest.external == []
    assert manifest.generations == {"31": 3}
    assert renewal(key).status_code == 403
    assert keys.is_revoked(answer["public_key"]) is False  # told to the server after the commit
    services.revoke_pending()
    assert keys.is_revoked(answer["public_key"])
    assert Enrolment.objects.get().revoked_at is None  # no server took it yet: asked again
    assert post(client, f"enrolments/{number}/withdraw/", {"reason": "again"}).status_code == 400
    assert LedgerEntry.objects.get(action="agent.withdraw").actor == "ana"
    assert enrolled(client)["state"] == "offered"


def test_hello_grants_an_epoch_and_presence_makes_it_live(client: Client, granted: None) -> None:
    exchanged(client)
    terms = door().welcome(hello(SUBJECT))
    epoch = terms["epoch"]
    assert isinstance(epoch, int)
    assert epoch > 0
    assert terms["seat"] == "op-0031"
    assert terms["presence_interval_s"] == 5
    enrolment = Enrolment.objects.get()
    assert (enrolment.name, enrolment.version, enrolment.language) == ("pilot", "7", "node")
    assert enrolment.state_at(timezone.now()) == "waiting"
    handlers.take_presence([presence(SUBJECT, epoch, "busy")])
    assert (state().state, state().done) == ("busy", 3)
    assert live() == 35
    assert Enrolment.objects.get().state_at(timezone.now()) == "live"
    report("pricing.1", without=("op-0031",))  # a host does not list the seat: that takes nothing from it
    assert state().state == "busy"
    assert census_drift() == []
    again = door().welcome(hello(SUBJECT, last_epoch=epoch))
    assert again["epoch"] == epoch  # it comes back after a break
    assert again["open"] == []


def test_an_event_under_an_epoch_that_was_taken_over_is_stale(client: Client, granted: None) -> None:
    exchanged(client)
    first = int(str(door().welcome(hello(SUBJECT))["epoch"]))
    second = int(str(door().welcome(hello(SUBJECT))["epoch"]))  # the first one was never heard of
    key = "pricing.a-op-0031-g2"
    verdicts = BOOK.judge([Claim(key, first), Claim(key, second), Claim(key, second + 1)])
    assert [verdicts[Claim(key, epoch)].standing for epoch in (first, second, second + 1)] == [
        Standing.SUPERSEDED, Standing.HOLDS, Standing.UNKNOWN,
    ]  # fmt: skip


def test_a_second_one_waits_and_takes_over_from_a_silent_one(client: Client, granted: None) -> None:
    exchanged(client)
    first = int(str(door().welcome(hello(SUBJECT))["epoch"]))
    handlers.take_presence([presence(SUBJECT, first)])
    taken = door().welcome(hello(SUBJECT))
    assert taken["code"] == "seat-taken"
    assert 0 < float(str(taken["retry_after_s"])) <= 15
    Enrolment.objects.update(seen_at=timezone.now() - timedelta(seconds=16))
    second = int(str(door().welcome(hello(SUBJECT))["epoch"]))
    assert second > first
    handlers.take_presence([presence(SUBJECT, second, "idle")])
    handlers.take_presence([presence(SUBJECT, first, "failed")])  # the zombie's word changes nothing
    assert state().state == "idle"
    assert door().welcome(hello(SUBJECT, last_epoch=first))["code"] == "fenced"


def test_nobody_speaks_for_another(client: Client, granted: None) -> None:
    exchanged(client)
    other = SUBJECT.replace("0031", "0032").replace("-g2", "-g1")
    assert door().welcome(hello(SUBJECT, source=other))["code"] == "source"
    assert door().welcome(hello(other))["code"] == "not-enrolled"
    assert door().welcome(hello(SUBJECT, protocol="claytom/9"))["code"] == "protocol"
    epoch = int(str(door().welcome(hello(SUBJECT))["epoch"]))
    handlers.take_presence([presence(SUBJECT, epoch, source=other)])
    handlers.take_presence([presence(SUBJECT, epoch, "failed", of="op-0032-g1")])
    handlers.take_presence([presence(SUBJECT, epoch + 1)])
    assert state().state == "starting"
    assert state("op-0032").state == "idle"


def test_withdrawn_it_is_refused_for_good(client: Client, granted: None) -> None:
    exchanged(client)
    epoch = int(str(door().welcome(hello(SUBJECT))["epoch"]))
    by = make_person("eva", role="administrator")
    services.withdraw(by=by, enrolment=Enrolment.objects.get(), reason="over")
    assert door().welcome(hello(SUBJECT, last_epoch=epoch))["code"] == "fenced"
    handlers.take_presence([presence(SUBJECT, epoch)])
    assert state().state == "starting"


def test_silence_opens_an_incident_and_is_not_replaced(client: Client, granted: None) -> None:
    exchanged(client)
    epoch = int(str(door().welcome(hello(SUBJECT))["epoch"]))
    handlers.take_presence([presence(SUBJECT, epoch)])
    Enrolment.objects.update(seen_at=timezone.now() - timedelta(seconds=16))
    cycle = arp.ensure(unit="pricing")
    assert (cycle.replaced, cycle.live) == (0, 34)
    assert state().state == "unknown"
    incident = Incident.objects.get(kind=Incident.Kind.EXTERNAL)
    assert "1 external agents are silent" in incident.detail
    assert seat_of("pricing", "op-0031").generation == 2
    for _ in range(3):
        assert arp.ensure(unit="pricing").replaced == 0
    handlers.take_presence([presence(SUBJECT, epoch)])
    assert arp.ensure(unit="pricing").live == 35
    incident.refresh_from_db()
    assert incident.closed_at is not None


def test_a_failed_one_is_its_owners_matter(client: Client, granted: None) -> None:
    exchanged(client)
    epoch = int(str(door().welcome(hello(SUBJECT))["epoch"]))
    handlers.take_presence([presence(SUBJECT, epoch, "failed")])
    assert state().state == "failed"
    assert arp.ensure(unit="pricing").replaced == 0


def test_goodbye_is_heard_at_once(client: Client, granted: None) -> None:
    exchanged(client)
    epoch = int(str(door().welcome(hello(SUBJECT))["epoch"]))
    handlers.take_presence([presence(SUBJECT, epoch)])
    body = {"agent": SUBJECT, "epoch": epoch, "reason": "over"}
    farewell = message("agent.goodbye", "org.claytom.pricing.command.goodbye", SUBJECT, body, epoch)
    assert door().farewell(farewell) == {"ok": True}
    assert state().state == "unknown"
    assert door().welcome(hello(SUBJECT))["epoch"] != epoch  # a new run need not wait


def test_without_a_line_to_nats_it_is_asked_to_come_back(client: Client) -> None:
    exchanged(client)
    assert door().welcome(hello(SUBJECT)) == {
        "code": "busy",
        "reason": "this process has no connection to NATS",
        "retry_after_s": 2.0,
    }
    assert Monitor.objects.exists()
