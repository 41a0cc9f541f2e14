"""The pages and the API of blueprints and rollouts: who sees and does what, and what is said before it is done."""

import json
import re
import time
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from holding import blueprints
from holding.models import Agent, BlueprintVersion, Unit
from holding.tests.factories import make_version
from iam.access.models import User
from iam.access.tests.factories import TOKEN, make_binding, make_token
from iam.authority import services as authority
from iam.authority.models import Approval, Decision
from portal.tests.offices import SignIn, text
from subsidiaries.replacement import observing, services
from subsidiaries.replacement.models import Monitor
from subsidiaries.replacement.rollout_models import Rollout, RolloutSeat, RolloutUnit
from subsidiaries.replacement.tests.hosts import Hosts

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("officers")]
SPEC = '{"for": "operator", "worker": {"kind": "sim", "params": {"drag": 0.2}}}'


@pytest.fixture(autouse=True)
def hosts(officers: None) -> Hosts:
    observing.ensure_states()
    now = timezone.now()
    Monitor.objects.create(since=now - timedelta(minutes=10), last_at=now)
    found = Hosts("pricing")
    found.report(instantly=True)
    return found


def confirmed(client: Client) -> None:
    """Let the person have shown just now who they are."""
    session = client.session
    session["confirmed_at"] = int(time.time())
    session.save()


def draft(client: Client, spec: str = SPEC) -> Any:
    return client.post("/blueprints/new/", {"blueprint": "operator", "spec": spec, "note": "a little slower"})


def form(client: Client, version: BlueprintVersion, **fields: str) -> dict[str, str]:
    page = text(client.get(f"/rollouts/new/?version={version.pk}&unit=pricing"))
    inputs = dict(re.findall(r'<input type="(?:hidden|number|text)" name="(\w+)" value="([^"]*)"', page))
    inputs.pop("csrfmiddlewaretoken", None)
    return {**inputs, "version": str(version.pk), "unit": "pricing", "reason": "they are better", **fields}


# --- blueprints --------------------------------------------------------------------------------------------


def test_the_list_shows_what_was_loaded_and_who_was_made_by_it(sign_in: SignIn) -> None:
    page = text(sign_in("carla").get("/blueprints/"))
    assert "No draft is open and no version is halted." in page
    assert "operator v1" in page
    empty = text(sign_in("carla").get("/blueprints/?state=revoked"))
    assert "No version matches." in empty


def test_a_draft_is_written_submitted_and_approved_by_somebody_else(sign_in: SignIn) -> None:
    carla = sign_in("carla")
    answer = draft(carla)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/blueprints/operator/2/")
    page = text(carla.get("/blueprints/operator/2/"))
    assert "Submit for approval" in page
    assert "Difference to operator v1" in page
    assert "+      &quot;drag&quot;: 0.2" in page
    assert carla.post("/blueprints/operator/2/submit/").status_code == 302
    assert "Its approval is pending." in text(carla.get("/blueprints/operator/2/"))
    refused = carla.post("/blueprints/operator/2/edit/", {"spec": SPEC, "note": "x"})
    assert refused.status_code == 422
    assert "is pending" in text(refused)
    approval = Approval.objects.get(action="blueprint.approve")
    decider = User.objects.get(pk=approval.levels.exclude(eligible=[]).order_by("pk")[0].eligible[0])
    assert decider.username != "carla"
    authority.decide(approval=approval, person=decider, verdict=Decision.Verdict.APPROVE)
    page = text(carla.get("/blueprints/operator/2/"))
    assert "Revoke" in page
    assert decider.username in page


def test_a_mistaken_draft_is_shown_again_with_each_mistake(sign_in: SignIn) -> None:
    carla = sign_in("carla")
    broken = draft(carla, '{"for": "operator",\n "worker": }')
    assert broken.status_code == 422
    assert "Line 2, column" in text(broken)
    wrong = draft(carla, '{"for": "tester", "worker": {"kind": "gpt"}}')
    page = text(wrong)
    assert (wrong.status_code, page.count('role="alert"')) == (422, 2)
    assert "there is no worker" in page
    assert "tester" in page  # what was typed is kept
    assert BlueprintVersion.objects.filter(blueprint__slug="operator").count() == 1


def test_the_page_of_a_version_shows_whom_it_would_make(sign_in: SignIn) -> None:
    page = text(sign_in("carla").get("/blueprints/director/1/"))
    assert "org.claytom.pricing.director.di-0001-g2" in page
    assert sign_in("carla").get("/blueprints/director/7/").status_code == 404


def test_a_revocation_asks_who_one_is_and_needs_a_reason(sign_in: SignIn) -> None:
    make_version()
    carla = sign_in("carla")
    asked = carla.post("/blueprints/operator/2/revoke/", {"reason": "it lies"})
    assert asked.headers["Location"].startswith("/account/confirm/")
    confirmed(carla)
    assert carla.post("/blueprints/operator/2/revoke/", {"reason": " "}).status_code == 422
    assert carla.post("/blueprints/operator/2/revoke/", {"reason": "it lies"}).status_code == 302
    assert "it lies" in text(carla.get("/blueprints/operator/2/"))
    last = carla.post("/blueprints/operator/1/revoke/", {"reason": "x"})
    assert last.status_code == 422
    assert "approve another one first" in text(last)


def test_a_halted_version_is_said_and_released(sign_in: SignIn) -> None:
    blueprints.halt(make_version(), actor="arp", reason="9 of 10 seats failed")
    carla = sign_in("carla")
    assert "1 version crash-looped and is halted." in text(carla.get("/blueprints/"))
    assert "9 of 10 seats failed" in text(carla.get("/blueprints/operator/2/"))
    assert carla.post("/blueprints/operator/2/release/", {"reason": "it was the host"}).status_code == 302
    assert BlueprintVersion.objects.exclude(halted_at=None).count() == 0


# --- rollouts ----------------------------------------------------------------------------------------------


def test_the_preview_says_what_would_be_done_and_does_nothing(sign_in: SignIn) -> None:
    version = make_version()
    carla = sign_in("carla")
    assert "No rollout is under way." in text(carla.get("/rollouts/"))
    preview = carla.post("/rollouts/new/", form(carla, version))
    operators = Agent.objects.in_office().filter(unit__slug="pricing", seat__role__slug="operator").count()
    assert preview.status_code == 200
    assert f"{operators} agents, 1 canary" in text(preview)
    assert not Rollout.objects.exists()


def test_a_rollout_is_started_once_shown_and_acted_upon(sign_in: SignIn, hosts: Hosts) -> None:
    version = make_version()
    carla = sign_in("carla")
    preview = text(carla.post("/rollouts/new/", form(carla, version)))
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', preview))
    for _again in range(2):
        started = carla.post("/rollouts/new/", {**fields, "confirm": "1"})
        assert started.status_code == 302
    rollout = Rollout.objects.get()
    path = f"/rollouts/{rollout.pk}/"
    assert started.headers["Location"] == path
    assert "No seat was changed yet." in text(carla.get(path))
    for _ in range(4):
        services.ensure(unit="pricing")
        hosts.report(instantly=True)
    seat = RolloutSeat.objects.select_related("seat").get()
    page = text(carla.get(path))
    assert seat.seat.code in page
    assert "they are better" in page
    assert "1 rollout is under way." in text(carla.get("/rollouts/"))
    assert carla.post(f"{path}pause/", {"reason": ""}).status_code == 422
    for act in ("pause", "resume", "back", "abort"):
        assert carla.post(f"{path}{act}/", {"reason": "seen"}).status_code == 302, act
    late = carla.post(f"{path}pause/", {"reason": "seen"})
    assert late.status_code == 422
    assert "Only a rollout that is at work can be paused." in text(late)
    assert "None has failed." in text(carla.get(f"{path}?failed=1"))


def test_who_heads_a_unit_rolls_out_there_and_nowhere_else(sign_in: SignIn) -> None:
    version = make_version()
    make_binding(User.objects.get(username="dora"), "subsidiary-head", Unit.objects.get(slug="pricing"))
    dora = sign_in("dora")
    assert dora.post("/rollouts/new/", form(dora, version)).status_code == 200
    for unit in ("tax", ""):
        refused = dora.post("/rollouts/new/", form(dora, version, unit=unit))
        assert refused.status_code == 422, unit
    assert dora.get("/blueprints/new/").status_code == 403
    assert not RolloutUnit.objects.exists()


# --- the API -----------------------------------------------------------------------------------------------


def api(client: Client, method: str, path: str, body: object = None) -> Any:
    return client.generic(
        method, f"/api/v1/{path}", json.dumps(body or {}), content_type="application/json",
        headers={"authorization": f"Bearer {TOKEN}", "accept-language": "en"},
    )  # fmt: skip


def test_a_program_drafts_submits_previews_and_starts(client: Client) -> None:
    carla = User.objects.get(username="carla")
    make_token(carla)
    made = api(
        client, "POST", "blueprint-versions/", {"blueprint": "operator", "spec": json.loads(SPEC), "note": "x"}
    )
    assert (made.status_code, made.json()["state"], made.json()["version"]) == (201, "draft", 2)
    wrong = api(client, "POST", "blueprint-versions/", {"blueprint": "operator", "spec": {}, "note": "x"})
    assert wrong.status_code == 400
    assert "worker: it must be an object" in wrong.content.decode()
    submitted = api(client, "POST", f"blueprint-versions/{made.json()['id']}/submit/")
    assert submitted.json()["state"] == "pending"
    draft_order = {"blueprint": "operator", "version": 2, "unit": "pricing", "reason": "x", "key": "k"}
    assert "not approved" in api(client, "POST", "rollouts/", draft_order).content.decode()
    version = make_version()
    order = {**draft_order, "version": version.version}
    plan = api(client, "POST", "rollouts/preview/", order).json()
    assert [(one["unit"], one["canaries"]) for one in plan] == [("pricing", 1)]
    started = api(client, "POST", "rollouts/", order)
    assert (started.status_code, started.json()["state"]) == (201, "canary")
    assert api(client, "POST", "rollouts/", {**order, "reason": "y"}).status_code == 409
    number = started.json()["id"]
    assert api(client, "GET", f"rollouts/{number}/seats/").json()["results"] == []
    paused = api(client, "POST", f"rollouts/{number}/pause/", {"reason": "a look"})
    assert (paused.json()["state"], paused.json()["units"][0]["unit"]) == ("paused", "pricing")
    listed = api(client, "GET", "rollouts/?unit=pricing&state=paused").json()["results"]
    assert [one["id"] for one in listed] == [number]
    assert api(client, "GET", "blueprint-versions/?state=draft").json()["results"][0]["note"] == "x"
