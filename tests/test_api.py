"""The REST API as its callers see it: contracts that hold for every resource."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
from django.test import Client
from django.utils import timezone

from holding.models import Agent, Division, Seat
from holding.services import appoint
from holding.tests.factories import make_holding, make_seat
from iam.access.models import EmergencyAccess, User
from iam.access.tests.factories import TOKEN, make_binding, make_person, make_token
from iam.authority.tests.factories import make_rate
from subsidiaries.performance.models import KPIS, KpiMinute
from subsidiaries.replacement.models import Census, DivisionState, FencedHost, Replacement, SeatState
from subsidiaries.replacement.observing import ensure_states
from tests.iam_callers import make_access_rows

SNAPSHOT = Path(__file__).parent / "openapi.json"
LISTS = (
    "units", "seats", "agents", "replacements", "fenced-hosts", "kpis", "ledger", "iam/bindings", "iam/roles",
    "iam/people", "iam/groups", "iam/services", "iam/own-tokens", "iam/emergencies", "iam/reviews", "iam/tokens",
    "iam/invitations", "authority/rates",
)  # fmt: skip
# By their services, by those who may (test_iam_*): others are refused, and so is what says nothing.
WRITTEN = {name for name in LISTS if name.startswith(("iam/", "authority/"))} - {"iam/people"} | {"agents"}
UNITS = ("pricing", "tax", "data")
SEATS = 3 * 35 + 50

pytestmark = pytest.mark.django_db


class Api:
    """Calls the API as a cleared person with a token."""

    def __init__(self) -> None:
        self.client = Client(headers={"Authorization": f"Bearer {TOKEN}", "Accept-Language": "en"})

    def get(self, path: str, status: int = 200, **params: Any) -> Any:
        response = self.client.get(f"/api/v1/{path}", params)
        assert response.status_code == status, response.content
        return json.loads(response.content)

    def pages(self, path: str, **params: Any) -> Iterator[list[dict[str, Any]]]:
        page = self.get(path, **params)
        while True:
            yield page["results"]
            if not page["next"]:
                return
            page = json.loads(self.client.get(page["next"]).content)


@pytest.fixture
def api() -> Api:
    make_token(make_person())
    return Api()


@pytest.fixture
def manager(api: Api) -> None:
    """Ana manages people and tokens as well."""
    make_binding(User.objects.get(username="ana"), "administrator")


@pytest.fixture
def holding() -> None:
    make_holding(subsidiaries=UNITS)
    ensure_states()
    now = timezone.now()
    DivisionState.objects.update(host="h1", epoch=1, seen_at=now, full_at=now)
    SeatState.objects.update(state="idle", since=now)
    for cell in Census.objects.all():
        cell.live = cell.seats
        cell.save()
    FencedHost.objects.create(
        division=Division.objects.get(key="pricing.1"), epoch=1, host="h0", standing="superseded", first_at=now,
        last_at=now, messages=1, sent={"kpi.sample": 1},
    )  # fmt: skip


@pytest.fixture
def minute(holding: None) -> KpiMinute:
    sums = {f"sum_{kpi}": 30.0 for kpi in KPIS}
    now = timezone.now().replace(second=0, microsecond=0)
    return KpiMinute.objects.create(minute=now, unit=make_seat().unit, role="operator", n=3, **sums)


def make_replacement(code: str = "op-0031") -> Replacement:
    seat, now = make_seat(code=code), timezone.now()
    done = appoint(seats=[(seat.pk, seat.generation)], actor="arp", reason="failed")[0]
    return Replacement.objects.create(
        unit=seat.unit, seat=seat, generation=done.new.generation, old_agent=done.replaced, new_agent=done.new,
        reason=Replacement.Reason.FAILED, detected_at=now, decided_at=now,
    )  # fmt: skip


# --- what every resource keeps -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*(f"{name}/" for name in LISTS), "overview/", "units/pricing/", "none/"])
def test_nothing_is_told_to_strangers(client: Client, path: str) -> None:
    assert client.get(f"/api/v1/{path}").status_code == 401
    client.force_login(make_person(cleared=False))
    assert client.get(f"/api/v1/{path}").status_code == 403


@pytest.mark.usefixtures("manager")
@pytest.mark.parametrize("name", LISTS)
def test_nothing_can_be_written(api: Api, name: str) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        response = api.client.generic(method, f"/api/v1/{name}/", b"{}", content_type="application/json")
        assert response.status_code in ({400, 403, 405} if name in WRITTEN else {405})


@pytest.mark.usefixtures("manager")
@pytest.mark.parametrize("name", LISTS)
def test_unknown_parameters_are_refused_by_name(api: Api, name: str) -> None:
    answer = api.get(f"{name}/", status=400, colour="red")
    assert "limit, cursor" in answer["colour"][0]
    assert list(api.get("overview/", status=400, colour="red")) == ["colour"]
    repeated = api.client.get(f"/api/v1/{name}/?limit=1&limit=2")
    assert repeated.status_code == 400
    assert "2 times" in repeated.json()["limit"][0]


@pytest.mark.usefixtures("manager")
@pytest.mark.parametrize("name", LISTS)
def test_page_sizes_are_1_to_500(api: Api, name: str) -> None:
    for limit in ("0", "501", "-1", "x", "1.5", "９", ""):
        assert "1 to 500" in api.get(f"{name}/", status=400, limit=limit)["limit"][0]


@pytest.mark.usefixtures("manager")
@pytest.mark.parametrize("name", LISTS)
def test_cursors_that_were_not_given_out_do_no_harm(api: Api, name: str) -> None:
    for cursor in ("x", "cD1hYmM=", "bz05OTk5OTk5OTk5", "cD0lMDA=", "cD0nOy0t"):
        response = api.client.get(f"/api/v1/{name}/", {"cursor": cursor})
        assert response.status_code in {200, 400}
        if response.status_code == 400:
            assert list(response.json()) == ["cursor"]


@pytest.mark.usefixtures("minute", "manager")
def test_every_answer_is_as_the_schema_says(api: Api) -> None:
    make_replacement()
    make_rate()
    review = make_access_rows(User.objects.get(username="ana"))
    emergency = EmergencyAccess.objects.get()
    schema = json.loads(api.client.get("/api/schema/").content)
    agent = Agent.objects.in_office().first()
    assert agent is not None
    seat = Seat.objects.first()
    assert seat is not None
    for path, template in [
        *((f"{name}/", f"{name}/") for name in LISTS),
        ("overview/", "overview/"),
        ("units/pricing/", "units/{slug}/"),
        (f"seats/{seat.pk}/", "seats/{id}/"),
        (f"agents/{agent.subject}/", "agents/{identity}/"),
        ("iam/people/ana/", "iam/people/{username}/"),
        ("iam/roles/viewer/", "iam/roles/{slug}/"),
        ("iam/services/erp/", "iam/services/{username}/"),
        (f"iam/emergencies/{emergency.pk}/", "iam/emergencies/{id}/"),
        (f"iam/reviews/{review.pk}/", "iam/reviews/{id}/"),
        (f"iam/reviews/{review.pk}/items/", "iam/reviews/{review}/items/"),
    ]:
        answers = schema["paths"][f"/api/v1/{template}"]["get"]["responses"]
        expected = answers["200"]["content"]["application/json"]["schema"]
        document = api.get(path)
        assert document.get("results", True), path
        validate(document, expected, schema)
        assert set(first(document)) == properties(expected, schema), path


def first(document: dict[str, Any]) -> dict[str, Any]:
    rows = document.get("results")
    return document if rows is None else rows[0] if rows else {}


def resolve(part: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in part:
        return schema["components"]["schemas"][part["$ref"].rpartition("/")[2]]  # type: ignore[no-any-return]
    return part


def properties(expected: dict[str, Any], schema: dict[str, Any]) -> set[str]:
    part = resolve(expected, schema)
    if "results" in part["properties"]:
        part = resolve(part["properties"]["results"]["items"], schema)
    return set(part["properties"])


def validate(document: Any, expected: dict[str, Any], schema: dict[str, Any]) -> None:
    """OpenAPI 3.0 writes null as `nullable`; otherwise it is JSON Schema."""

    def plain(part: Any) -> Any:
        if isinstance(part, list):
            return [plain(item) for item in part]
        if not isinstance(part, dict):
            return part
        copy = {key: plain(value) for key, value in part.items() if key != "nullable"}
        return {"anyOf": [copy, {"type": "null"}]} if part.get("nullable") else copy

    validator = jsonschema.Draft202012Validator({**plain(expected), "components": plain(schema["components"])})
    validator.validate(document)


def test_the_schema_is_complete_and_as_it_was(api: Api, pytestconfig: pytest.Config) -> None:
    document = json.loads(api.client.get("/api/schema/").content)
    assert document["openapi"].startswith("3.")
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation.get("summary"), path
            assert operation.get("description"), path
            for parameter in operation.get("parameters", []):
                assert parameter.get("description"), (path, parameter["name"])
    text = json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    if not SNAPSHOT.exists():
        SNAPSHOT.write_text(text, encoding="utf-8")
    assert text == SNAPSHOT.read_text(encoding="utf-8"), (
        f"The API's contract has changed. If that is meant, delete {SNAPSHOT.name}, run this test again, and "
        "say so in the changelog."
    )


def test_what_does_not_exist_is_said(api: Api) -> None:
    for path, name in [
        ("units/none/", "none"),
        ("seats/999999/", "999999"),
        ("agents/org.claytom.pricing.operator.op-9999-g1/", "op-9999"),
        ("agents/999999999/", "999999999"),
        ("replacements/999/", "999"),
        ("ledger/99999/", "99999"),
        ("iam/bindings/99999/", "99999"),
        ("iam/roles/none/", "none"),
        ("iam/people/nobody/", "nobody"),
        ("iam/services/nobody/", "nobody"),
        ("iam/emergencies/99999/", "99999"),
        ("iam/reviews/99999/", "99999"),
        ("iam/reviews/99999/items/", "99999"),
        ("nothing/here/", "/api/v1/nothing/here/"),
    ]:
        assert name in api.get(path, status=404)["detail"]


# --- pages -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("holding")
def test_pages_give_every_row_once_forwards_and_back(api: Api) -> None:
    seen = [row["id"] for page in api.pages("agents/", limit=20) for row in page]
    assert len(seen) == len(set(seen)) == SEATS
    assert seen == sorted(seen, reverse=True)
    second = json.loads(api.client.get(api.get("agents/", limit=10)["next"]).content)
    back = json.loads(api.client.get(second["previous"]).content)
    assert [row["id"] for row in back["results"]] == seen[:10]
    assert urlsplit(second["next"]).path == "/api/v1/agents/"


@pytest.mark.usefixtures("holding", "manager")
def test_a_list_takes_as_many_queries_as_it_did(api: Api, django_assert_num_queries: Any) -> None:
    api.get("units/")  # notes the token's use, as the first request of a minute does
    for name in LISTS:
        # One finds the token and opens the rows, one closes them (only here: the tests see all between requests).
        with django_assert_num_queries(4 if name == "agents" else 3):
            api.get(f"{name}/")
    with django_assert_num_queries(6):
        api.get("overview/")


# --- filters -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("holding")
def test_filters_keep_what_they_name(api: Api) -> None:
    rows = api.get("agents/", unit="pricing", role="operator", limit=500)["results"]
    assert {(row["unit"], row["role"]) for row in rows} == {("pricing", "operator")}
    assert len(rows) == 5
    assert len(api.get("agents/", role="c-suite")["results"]) == 10
    assert [row["seat"] for row in api.get("agents/", q="OP-0031", unit="tax")["results"]] == ["op-0031"]
    assert len(api.get("agents/", q="org.claytom.tax.", limit=500)["results"]) == 35
    assert len(api.get("seats/", division="pricing.1")["results"]) == 7
    assert {row["role"] for row in api.get("seats/", role="director", limit=500)["results"]} == {"director"}
    assert {row["action"] for row in api.get("ledger/", action="unit.staff")["results"]} == {"unit.staff"}
    assert len(api.get("ledger/", object="unit/pricing", actor="test")["results"]) == 1


@pytest.mark.usefixtures("holding")
def test_wrong_values_are_answered_with_the_right_ones(api: Api) -> None:
    for path, name, known in [
        ("agents/", "unit", "pricing"),
        ("agents/", "role", "operator"),
        ("agents/", "state", "failed"),
        ("seats/", "division", "pricing.1"),
        ("seats/", "role", "c-suite"),
        ("kpis/", "role", "director"),
        ("replacements/", "reason", "missing"),
        ("replacements/", "unit", "tax"),
    ]:
        for value in ("nope", "' or 1=1 --", "x" * 500):
            answer = api.get(path, status=400, **{name: value})
            assert list(answer) == [name]
            assert known in answer[name][0]
            assert len(answer[name][0]) < 4000


@pytest.mark.usefixtures("holding")
def test_hostile_text_is_only_text(api: Api) -> None:
    assert api.get("agents/", q="%")["results"] == []
    assert api.get("agents/", q="_" * 8)["results"] == []
    assert "q" in api.get("agents/", status=400, q="a\x00b")
    assert "q" in api.get("agents/", status=400, q="a" * 200)


# --- states ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("holding")
def test_an_agent_has_the_state_that_was_reported_of_it(api: Api) -> None:
    seat = make_seat()
    SeatState.objects.filter(pk=seat.pk).update(state="failed")
    subject = f"org.claytom.pricing.operator.{seat.code}-g1"
    assert api.get(f"agents/{subject}/")["state"] == "failed"
    assert [row["subject"] for row in api.get("agents/", state="failed")["results"]] == [subject]
    assert len(api.get("agents/", state="idle", unit="pricing")["results"]) == 34


@pytest.mark.usefixtures("holding")
def test_a_former_agent_is_replaced_and_its_successor_unknown_until_it_reports(api: Api) -> None:
    make_replacement()
    old, new = (f"org.claytom.pricing.operator.op-0031-g{generation}" for generation in (1, 2))
    assert api.get(f"agents/{old}/")["state"] == "replaced"
    assert api.get(f"agents/{new}/")["state"] == "unknown"
    assert api.get(f"agents/{new}/")["since"] is None
    assert [row["subject"] for row in api.get("agents/", state="replaced")["results"]] == [old]
    assert [row["subject"] for row in api.get("agents/", state="unknown")["results"]] == [new]
    assert sum(len(page) for page in api.pages("agents/", limit=500)) == SEATS
    assert api.get("replacements/", unit="pricing", reason="failed")["results"][0]["new_agent"] == new
    assert api.get("replacements/", unit="tax")["results"] == []


@pytest.mark.usefixtures("holding")
def test_silence_is_unknown_and_never_live(api: Api) -> None:
    before = api.get("overview/")
    assert (before["live"], before["seats"], before["below_floor"], before["coverage"]) == (SEATS, SEATS, 0, 1.0)
    DivisionState.objects.filter(division__key="pricing.1").update(seen_at=timezone.now() - timedelta(seconds=16))
    DivisionState.objects.filter(division__key="pricing.2").update(seen_at=None)
    assert len(api.get("agents/", state="unknown")["results"]) == 14
    assert {row["state"] for row in api.get("agents/", q="org.claytom.pricing.", limit=500)["results"]} == {
        "idle",
        "unknown",
    }
    after = api.get("overview/")
    assert after["live"] == SEATS - 14
    assert after["below_floor"] == 1
    assert 0 < after["coverage"] < 1
    pricing = next(unit for unit in after["units"] if unit["slug"] == "pricing")
    assert (pricing["live"], pricing["seats"], pricing["below_floor"]) == (21, 35, True)
    assert pricing["coverage"] == 0.6


@pytest.mark.usefixtures("holding")
def test_a_quota_missed_is_below_the_floor(api: Api) -> None:
    Census.objects.filter(division__key="tax.1", role="director").update(live=0)
    make_replacement()
    overview = api.get("overview/")
    units = {unit["slug"]: unit for unit in overview["units"]}
    assert units["tax"]["below_floor"]
    assert not units["pricing"]["below_floor"]
    assert units["pricing"]["replacements_24h"] == 1
    assert [unit["slug"] for unit in overview["units"]][:2] == ["corporate", "pricing"]
    assert len(overview["units"]) == 1 + len(UNITS)


# --- KPIs --------------------------------------------------------------------------------------------------


def test_kpis_are_means_over_samples(api: Api, minute: KpiMinute) -> None:
    row = api.get("kpis/", unit="pricing", role="operator", since=minute.minute.isoformat())["results"][0]
    assert (row["samples"], row["quality_score"]) == (3, 10.0)
    assert api.get("kpis/", since=(minute.minute + timedelta(seconds=1)).isoformat())["results"] == []
    assert api.get("kpis/", unit="tax")["results"] == []
    assert "ISO 8601" in api.get("kpis/", status=400, since="yesterday")["since"][0]
    units = {unit["slug"]: unit["kpis"] for unit in api.get("overview/")["units"]}
    assert units["pricing"] == dict.fromkeys(KPIS, 10.0)
    assert units["tax"] is None


def test_minutes_with_many_rows_are_paged_too(api: Api, minute: KpiMinute) -> None:
    sums = {f"sum_{kpi}": 1.0 for kpi in KPIS}
    rows = [
        KpiMinute(minute=minute.minute, unit=minute.unit, role=f"role-{number}", n=1, **sums)
        for number in range(12)
    ]
    KpiMinute.objects.bulk_create(rows)
    seen = [(row["minute"], row["role"]) for page in api.pages("kpis/", limit=5) for row in page]
    assert len(seen) == len(set(seen)) == 13


# --- the ledger --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("holding")
def test_an_entry_comes_with_the_bytes_that_are_sealed(api: Api) -> None:
    from hashlib import sha256

    from audit.services import seal

    waiting = api.get("ledger/", limit=1)["results"][0]
    assert (waiting["index"], waiting["hash"]) == (None, None)
    seal()
    sealed = api.get(f"ledger/{waiting['id']}/")
    assert sealed["hash"] == sha256(b"\x00" + sealed["bytes"].encode()).hexdigest()
    assert json.loads(sealed["bytes"])["action"] == sealed["action"]
    assert sealed["index"] is not None


def test_the_protocol_is_published_as_asyncapi_and_as_a_schema_for_each_message(api: Api) -> None:
    client = api.client
    document = client.get("/api/asyncapi.json").json()
    assert document["asyncapi"].startswith("3.")
    names = set(document["components"]["messages"])
    assert {"kpi.sample", "ingest.receipt"} <= names
    schema = client.get("/api/schemas/kpi.sample.json")
    assert schema.headers["Content-Type"] == "application/schema+json"
    assert schema.json()["additionalProperties"] is False
    missing = client.get("/api/schemas/kpi.nothing.json")
    assert missing.status_code == 404
    assert "/api/asyncapi.json" in missing.json()["detail"]
    assert Client().get("/api/asyncapi.json").status_code == 401
