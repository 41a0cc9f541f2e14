"""The inbox and decisions on pages: several people, each with the office and the units that are theirs."""

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from holding import clock
from iam.access.services import ensure_administrator
from iam.authority import services
from iam.authority.models import Appointment, Approval, Decision, Substitution
from iam.authority.tests import effects
from iam.authority.tests.factories import who
from portal import versions
from portal.tests.offices import SignIn, asked, decide, state, text

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("officers")]
KEY = "0b7c51ce-1a57-4c6b-9b3b-0f5a64b1f0aa"


# --- the inbox ---------------------------------------------------------------------------------------------


def test_the_inbox_shows_what_waits_for_each_and_the_navigation_counts_it(sign_in: SignIn) -> None:
    approval = asked()
    page = text(sign_in("dora").get("/approvals/"))
    waiting = page.split('id="mine"')[0]
    assert f"#{approval.pk} Something" in waiting
    assert re.search(r'class="count">1<', page)
    assert "1 decision waits for you" in text(sign_in("dora").get("/"))
    for name in ("paula", "tomas", "omar", "rita"):
        page = text(sign_in(name).get("/approvals/"))
        assert "No decision waits for you." in page, name
        assert 'class="count"' not in page, name
        assert "waits for you<" not in text(sign_in(name).get("/")), name
    assert f"#{approval.pk} " in text(sign_in("rita").get("/approvals/")).split('id="mine"')[1]


def test_another_subsidiary_sees_neither_the_row_nor_the_page(sign_in: SignIn) -> None:
    approval = asked()
    for name in ("tomas", "toni"):
        client = sign_in(name)
        assert "Something" not in text(client.get("/approvals/"))
        assert client.get(f"/approvals/{approval.pk}/").status_code == 404
        assert decide(client, approval).status_code == 404
        assert client.post(f"/approvals/{approval.pk}/withdraw/").status_code == 404
    assert sign_in("omar").get(f"/approvals/{approval.pk}/").status_code == 200
    assert state(approval) == "pending"


def test_who_has_no_permission_is_refused(sign_in: SignIn) -> None:
    approval = asked()
    viewer, auditor = sign_in("sara"), sign_in("omar")
    for path in ("/approvals/", f"/approvals/{approval.pk}/", "/approvals/new/", "/authority/", "/authority/mine/"):
        assert viewer.get(path).status_code == 403, path
        assert Client().get(path).status_code == 302, path
    assert ">Approvals" not in text(viewer.get("/"))
    assert decide(auditor, approval).status_code == 403
    assert auditor.get("/approvals/new/").status_code == 403
    assert sign_in("dora").post("/authority/appoint/", {}).status_code == 403


def test_the_list_is_filtered_and_survives_nonsense(sign_in: SignIn) -> None:
    mine, theirs = asked(), asked(unit="tax", matter="capex", value=20_000)
    client = sign_in("omar")
    for query, found in {
        "state=pending": {mine.pk, theirs.pk},
        "state=executed": set(),
        "matter=capex": {theirs.pk},
        "unit=pricing": {mine.pk},
        "state=nope&unit=%00&matter=%27": set(),
    }.items():
        page = text(client.get(f"/approvals/?{query}")).split('id="all"')[1]
        assert {int(pk) for pk in re.findall(r'href="/approvals/(\d+)/"', page)} == found, query


def test_the_inbox_costs_a_bounded_number_of_queries(sign_in: SignIn) -> None:
    client = sign_in("dora")
    client.get("/approvals/")  # a session is written down at its first page
    counts = []
    for number in (1, 6):
        for _ in range(number):
            asked(matter="capex", value=10, counterparty=f"c{_}{number}")
        with CaptureQueriesContext(connection) as queries:
            client.get("/approvals/")
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 50


def test_the_inbox_refreshes_itself(sign_in: SignIn) -> None:
    dora = sign_in("dora")
    page = text(dora.get("/approvals/?state=pending"))
    assert 'id="inbox"' in page
    assert 'data-topics="approvals" hx-get="/approvals/?state=pending" hx-trigger="live"' in page
    fragment = {"HX-Request": "true"}
    before = dora.get("/approvals/", headers=fragment)
    assert 'id="all"' not in text(before)
    again = dora.get("/approvals/", headers={**fragment, "If-None-Match": before.headers["ETag"]})
    assert again.status_code == 304
    approval = asked()
    after = dora.get("/approvals/", headers={**fragment, "If-None-Match": before.headers["ETag"]})
    assert f"#{approval.pk} Something" in text(after)


def test_what_happens_to_a_request_moves_the_topic_of_the_inbox() -> None:
    now = clock.now()

    def heard(units: set[str] | None = None) -> str:
        return versions.approvals(versions.versions(now), units)

    seen = [heard()]
    approval = asked(400_000)
    seen.append(heard())
    services.tick(at=now + timedelta(hours=60))  # the next rank may decide too
    assert approval.levels.count() == 2
    seen.append(heard())
    services.decide(approval=approval, person=who("paula"), verdict=Decision.Verdict.APPROVE)
    seen.append(heard())
    large = asked(20_000_000, counterparty="Large")
    seen.append(heard())
    services.decide(approval=large, person=who("board1"), verdict=Decision.Verdict.APPROVE)
    seen.append(heard())
    assert len(set(seen[:4])) == 3  # what is settled leaves nothing that waits
    assert seen[0] == seen[3]
    assert len(set(seen[3:])) == 3


def test_who_sees_one_unit_hears_nothing_of_the_others() -> None:
    def heard(units: set[str]) -> str:
        return versions.approvals(versions.versions(now), units)

    now = clock.now()
    before = heard({"tax"}), heard(set())
    asked()
    assert (heard({"tax"}), heard(set())) == before
    asked(unit="tax")
    assert heard({"tax"}) != before[0]
    assert heard(set()) == before[1]
    assert "approvals:tax" in versions.versions(now)


# --- deciding ----------------------------------------------------------------------------------------------


def test_a_director_approves_and_everybody_sees_why(sign_in: SignIn) -> None:
    approval = asked(action="tests.count", parameters={"n": 1})
    dora = sign_in("dora")
    page = text(dora.get(f"/approvals/{approval.pk}/"))
    assert "As Subsidiary director." in page
    assert approval.digest in page
    assert "Only Subsidiary director may decide it" in text(sign_in("paula").get(f"/approvals/{approval.pk}/"))
    unsure = decide(dora, approval, note="I think so")
    assert unsure.status_code == 422
    assert "I think so</textarea>" in text(unsure)
    assert state(approval) == "pending"
    assert decide(dora, approval, confirm="yes").status_code == 302
    assert state(approval) == "executed"
    assert effects.effects(approval) == 1
    again = decide(sign_in("dani"), approval, confirm="yes")
    assert again.status_code == 422
    assert "no longer waiting" in text(again)
    assert "Carried out, and its effect was read back" in text(dora.get(f"/approvals/{approval.pk}/"))


def test_a_rejection_needs_a_note(sign_in: SignIn) -> None:
    approval = asked()
    dora = sign_in("dora")
    refused = decide(dora, approval, "reject")
    assert refused.status_code == 422
    assert "A rejection needs a note." in text(refused)
    assert decide(dora, approval, "maybe").status_code == 422
    assert decide(dora, approval, "reject", note="Too dear").status_code == 302
    assert state(approval) == "rejected"
    assert "Too dear" in text(sign_in("rita").get(f"/approvals/{approval.pk}/"))


def test_who_asks_does_not_decide_but_may_withdraw(sign_in: SignIn) -> None:
    approval = asked(by="paula", value=400_000)
    paula = sign_in("paula")
    refused = decide(paula, approval)
    assert refused.status_code == 422
    assert "Who asked for it does not decide it." in text(refused)
    assert sign_in("carla").post(f"/approvals/{approval.pk}/withdraw/").status_code == 422
    assert paula.post(f"/approvals/{approval.pk}/withdraw/", {"reason": "Mistake"}).status_code == 302
    assert state(approval) == "withdrawn"


def test_an_administrator_alone_decides_nothing(sign_in: SignIn) -> None:
    ensure_administrator(username="root", password="correct horse battery", token="t", actor="test")
    root = sign_in("root")
    approval = asked()
    refused = decide(root, approval)
    assert refused.status_code == 422
    assert "holds no such office" in text(refused)
    response = root.post(
        "/approvals/new/",
        {"matter": "opex-budgeted", "unit": "pricing", "value": "40000", "title": "Mine", "key": KEY},
    )
    own = Approval.objects.get(title="Mine")
    assert response.headers["Location"] == f"/approvals/{own.pk}/"
    assert decide(root, own).status_code == 422
    assert (state(approval), state(own)) == ("pending", "pending")


def test_the_board_decides_by_majority_and_the_cfo_what_is_the_groups(sign_in: SignIn) -> None:
    large = asked(20_000_000)
    assert decide(sign_in("carla"), large).status_code == 422
    for number in (1, 2, 3):
        assert state(large) == "pending"
        assert decide(sign_in(f"board{number}"), large).status_code == 302
    assert state(large) == "approved"
    group = asked(1_500_000, unit="corporate")
    assert sign_in("tomas").get(f"/approvals/{group.pk}/").status_code == 404
    assert decide(sign_in("carla"), group).status_code == 302
    assert state(group) == "approved"


def test_who_stands_in_for_the_cfo_sees_and_decides_what_is_not_of_their_unit(sign_in: SignIn) -> None:
    group = asked(1_500_000, unit="corporate")
    Substitution.objects.create(
        person=who("carla"), substitute=who("paula"), reason="away",
        valid_from=clock.now() - timedelta(days=1), recorded_by="test",
    )  # fmt: skip
    paula = sign_in("paula")
    assert f"#{group.pk} " in text(paula.get("/approvals/"))
    assert "for carla" in text(paula.get(f"/approvals/{group.pk}/"))
    assert decide(paula, group).status_code == 302
    assert state(group) == "approved"
    assert paula.get(f"/approvals/{group.pk}/").status_code == 200


def test_who_has_several_titles_chooses_on_the_page(sign_in: SignIn) -> None:
    approval = asked()
    dora = sign_in("dora")
    assert "Decide as" not in text(dora.get(f"/approvals/{approval.pk}/"))
    absent = Substitution.objects.create(
        person=who("dani"), substitute=who("dora"), reason="away",
        valid_from=clock.now() - timedelta(days=1), recorded_by="test",
    )  # fmt: skip
    page = text(dora.get(f"/approvals/{approval.pk}/"))
    key = f"substitution-{absent.pk}-{Appointment.objects.get(person=who('dani')).pk}"
    assert f'<option value="{key}">Subsidiary director, standing in for dani</option>' in page
    refused = decide(dora, approval, acting_as="office-999999", note="Kept")
    assert refused.status_code == 422
    assert "does not hold the title that was chosen" in text(refused)
    assert "Kept</textarea>" in text(refused)
    unsure = decide(dora, approval, "reject", acting_as=key)
    assert f'<option value="{key}" selected>' in text(unsure)
    assert decide(dora, approval, acting_as=key).status_code == 302
    assert approval.decisions.get().acting_for == who("dani")
    assert "for dani" in text(dora.get(f"/approvals/{approval.pk}/"))
