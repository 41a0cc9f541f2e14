"""The API of staffing: what it tells, and what it takes from whom."""

import json
import time
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from holding import clock
from holding.models import Seat
from iam.authority import services as authority
from iam.authority.models import Approval, Decision
from iam.authority.tests.factories import who
from portal.tests.offices import SignIn
from subsidiaries.replacement import cycle, observing
from subsidiaries.replacement.models import Monitor
from subsidiaries.replacement.planning import StaffingPlan
from subsidiaries.replacement.tests.factories import bring_to_life, report

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("officers")]
ROOT = "/api/v1/staffing/"


@pytest.fixture(autouse=True)
def holding(officers: None) -> None:
    observing.ensure_states()
    StaffingPlan.objects.filter(role__slug="operator").update(maximum=20)
    now = timezone.now()
    Monitor.objects.create(since=now - timedelta(minutes=10), last_at=now)
    bring_to_life()
    for slug in ("corporate", "pricing", "tax"):
        cycle.run(unit=slug)


def post(client: Client, path: str, **body: Any) -> Any:
    said = {"reason": "failures of spring", "key": "k1", **body}
    return client.post(ROOT + path, json.dumps(said), content_type="application/json")


def seats() -> int:
    return Seat.objects.open().filter(unit__slug="pricing").count()


def test_staffing_is_read_by_who_sees_the_unit(sign_in: SignIn) -> None:
    found = sign_in("carla").get(ROOT).json()["results"]
    assert [row["unit"] for row in found] == ["pricing", "tax"]
    own = sign_in("sara").get(f"{ROOT}pricing/").json()
    assert (own["floor"], own["establishment"], own["live"], own["below_floor"]) == (35, 35, 35, 0)
    assert own["reserve"] == 0 < own["reserve_needed"]
    assert 0 < own["chance_below_floor"] < 1
    assert own["roles"][-1] == {
        "role": "operator", "floor": 5, "reserve": 0, "maximum": 20, "seats": 5, "live": 5,
    }  # fmt: skip
    paula = sign_in("paula")
    assert [row["unit"] for row in paula.get(ROOT).json()["results"]] == ["pricing"]
    assert paula.get(f"{ROOT}tax/").status_code == 404
    assert "tax" in paula.get(f"{ROOT}tax/").json()["detail"]


def test_a_plan_is_changed_within_the_limit_and_asked_for_beyond_it(sign_in: SignIn) -> None:
    paula = sign_in("paula")
    for _ in range(2):
        done = post(paula, "pricing/change/", floor=5, reserve=2, maximum=20)
        assert (done.status_code, done.json()["state"]) == (201, "executed")
    assert (seats(), Approval.objects.count()) == (37, 1)
    assert post(paula, "pricing/change/", floor=4, reserve=2, maximum=20, key="k2").status_code == 400
    asked = post(paula, "pricing/change/", floor=5, reserve=200, maximum=250, key="k3")
    assert asked.json()["state"] == "pending"
    assert seats() == 37
    assert post(sign_in("sara"), "pricing/change/", floor=5, reserve=1, maximum=20).status_code == 403


def test_seats_that_are_closed_say_since_when(sign_in: SignIn) -> None:
    paula = sign_in("paula")
    post(paula, "pricing/change/", floor=5, reserve=1, maximum=20)
    report("pricing.1")
    post(paula, "pricing/change/", floor=5, reserve=0, maximum=20, key="k2")
    [seat] = paula.get("/api/v1/seats/?unit=pricing&q=op-0036").json()["results"]
    assert seat["closed_at"] is not None
    assert seat["agent"] == "org.claytom.pricing.operator.op-0036-g1"


def test_a_cap_is_asked_for_listed_and_revoked(sign_in: SignIn) -> None:
    paula = sign_in("paula")
    ends = (clock.today() + timedelta(days=2)).date().isoformat()
    asked = post(paula, "pricing/cap/", cap=100, ends_on=ends).json()
    assert asked["state"] == "pending"
    approval = Approval.objects.get(pk=asked["approval"])
    authority.decide(approval=approval, person=who("dora"), verdict=Decision.Verdict.APPROVE, note="yes")
    [found] = paula.get(f"{ROOT}caps/?unit=pricing").json()["results"]
    assert (found["cap"], found["ends_on"], found["revoked_at"]) == (100, ends, None)
    assert paula.get(f"{ROOT}pricing/").json()["cap"] == 100
    assert post(sign_in("dora"), f"caps/{found['id']}/revoke/").status_code == 403
    assert post(paula, f"caps/{found['id']}/revoke/").json()["revoked_by"] == "paula"
    assert post(paula, f"caps/{found['id']}/revoke/").status_code == 400
    assert paula.get(f"{ROOT}pricing/").json()["cap_delegated"] is False
    assert post(paula, "pricing/cap/", cap=100, key="k2").status_code == 400


def test_agents_are_retired_by_plan(sign_in: SignIn) -> None:
    paula = sign_in("paula")
    assert post(paula, "pricing/retire/", choice="oldest", count=2, surge=1).status_code == 403
    session = paula.session
    session["confirmed_at"] = int(time.time())
    session.save()
    made = post(paula, "pricing/retire/", choice="oldest", count=2, surge=1)
    assert (made.status_code, made.json()["total"], made.json()["state"]) == (201, 2, "running")
    path = f"retirements/{made.json()['id']}/"
    assert post(paula, f"{path}pause/").json()["state"] == "paused"
    assert post(paula, f"{path}pause/").status_code == 400
    assert post(paula, f"{path}resume/").json()["state"] == "running"
    for _ in range(6):
        cycle.run(unit="pricing")
        for number in range(1, 6):
            report(f"pricing.{number}")
    shown = paula.get(ROOT + path).json()
    assert (shown["state"], shown["done"], shown["under_way"]) == ("done", 2, 0)
    assert paula.get(f"{ROOT}retirements/?state=running").json()["results"] == []
    assert post(paula, f"{path}abort/").status_code == 400


# --- the command -------------------------------------------------------------------------------------------


def arp_ensure(**options: Any) -> str:
    out = StringIO()
    call_command("arp_ensure", stdout=out, **options)
    return out.getvalue()


def test_the_command_tells_live_floor_and_establishment(sign_in: SignIn) -> None:
    post(sign_in("paula"), "pricing/change/", floor=5, reserve=2, maximum=20)
    report("pricing.1")
    report("pricing.2")
    told = json.loads(arp_ensure(json=True))
    assert told["below_floor"] == []
    rows = {row["unit"]: (row["live"], row["floor"], row["establishment"]) for row in told["units"]}
    assert (rows["pricing"], rows["tax"]) == ((37, 35, 37), (35, 35, 35))
    assert "0 below floor" in arp_ensure(subsidiary="pricing")


def test_the_command_fails_when_a_unit_is_below_its_floor_after_the_cycle() -> None:
    report("pricing.1", states={"op-0031": "failed"}, full=False)
    out = StringIO()
    with pytest.raises(CommandError, match="Below the floor: pricing"):
        call_command("arp_ensure", json=True, stdout=out)
    told = json.loads(out.getvalue())
    assert told["below_floor"] == ["pricing"]
    row = next(row for row in told["units"] if row["unit"] == "pricing")
    assert (row["live"], row["floor"], row["establishment"], row["replaced"], row["below"]) == (34, 35, 35, 1, 1)


def test_with_a_reserve_the_same_loss_is_no_failure_of_the_command(sign_in: SignIn) -> None:
    post(sign_in("paula"), "pricing/change/", floor=5, reserve=1, maximum=20)
    report("pricing.1")
    report("pricing.1", states={"op-0031": "failed"}, full=False)
    assert "pricing: 35 of 36 live (floor 35), 1 replaced" in arp_ensure()
