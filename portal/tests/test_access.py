"""`/iam/`: what each of several people sees there, and what their forms do."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit.models import LedgerEntry
from holding.models import Unit
from holding.tests.factories import make_holding
from iam.access.models import AccessReview, AccessRole, EmergencyAccess, RoleBinding, User
from iam.access.tests.factories import make_binding, make_person

pytestmark = pytest.mark.django_db
FORBIDDEN = re.compile(
    r"""\sstyle\s*=|\son[a-z]+\s*=\s*["']|<script(?![^>]*\ssrc=)|javascript:|hx-on""", re.IGNORECASE
)
PAGES = {
    "/iam/": 9,
    "/iam/?unit=pricing&permission=units.view&person=e": 14,
    "/iam/people/eva/": 9,
    "/iam/grant/": 9,
    "/iam/roles/": 7,
    "/iam/roles/new/": 6,
    "/iam/roles/viewer/": 9,
    "/iam/emergency/": 9,
    "/iam/reviews/": 9,
}


@pytest.fixture(autouse=True)
def people(redis_url: str) -> None:
    """An administrator, the heads of two units, somebody who reads one unit, and somebody without a role."""
    make_holding(subsidiaries=("pricing", "tax"))
    make_person("root", role="administrator", is_staff=True)
    for slug in ("pricing", "tax"):
        make_person(f"head-{slug}", role="subsidiary-head", unit=unit(slug))
    make_person("eva", role="viewer", unit=unit("pricing"))
    make_person("tom", role="viewer", unit=unit("tax"))
    make_person("none", role="")


def unit(slug: str) -> Unit:
    return Unit.objects.get(slug=slug)


def user(name: str) -> User:
    return User.objects.get(username=name)


def as_(name: str) -> Client:
    client = Client(headers={"Accept-Language": "en"})
    client.force_login(user(name))
    return client


def text(response: Any) -> str:
    return str(response.content, "utf-8")


def listed(page: str) -> set[str]:
    return set(re.findall(r'href="/iam/people/([^/"]+)/"', page))


# --- who sees what -----------------------------------------------------------------------------------------


def test_each_sees_the_people_of_the_units_where_they_see_people() -> None:
    assert listed(text(as_("root").get("/iam/"))) == {"root", "head-pricing", "head-tax", "eva", "tom"}
    assert listed(text(as_("head-pricing").get("/iam/"))) == {"head-pricing", "eva"}
    assert as_("head-pricing").get("/iam/people/eva/").status_code == 200
    for hidden in ("tom", "root", "none", "nobody"):
        assert as_("head-pricing").get(f"/iam/people/{hidden}/").status_code == 404
    assert as_("root").get("/iam/people/none/").status_code == 200


def test_a_person_of_two_units_is_shown_to_each_head_in_part() -> None:
    make_binding(user("eva"), "supervisor", unit("tax"))
    page = text(as_("head-tax").get("/iam/people/eva/"))
    assert "subs-tax" in page
    assert "subs-pricing" not in page


def test_without_the_permission_the_pages_and_the_entry_are_not_there() -> None:
    for name in ("eva", "none"):
        for path in PAGES:
            assert as_(name).get(path).status_code == 403, (name, path)
    assert 'href="/iam/"' not in text(as_("eva").get("/"))
    assert 'href="/iam/"' in text(as_("head-pricing").get("/"))
    assert as_("head-pricing").get("/iam/roles/new/").status_code == 403
    assert Client().get("/iam/").status_code == 302


def test_bindings_that_ended_or_have_not_begun_show_nobody() -> None:
    now, hour = timezone.now(), timedelta(hours=1)
    make_binding(user("none"), "viewer", unit("pricing"), starts_at=now + hour)
    make_binding(user("tom"), "viewer", unit("pricing"), starts_at=now - 2 * hour, expires_at=now - hour)
    assert listed(text(as_("head-pricing").get("/iam/"))) == {"head-pricing", "eva"}


def test_the_list_answers_who_can_do_what_where() -> None:
    root = as_("root")
    assert listed(text(root.get("/iam/?permission=bindings.grant&unit=pricing"))) == {"root", "head-pricing"}
    assert listed(text(root.get("/iam/?unit=tax"))) == {"root", "head-tax", "tom"}
    assert listed(text(root.get("/iam/?unit=corporate"))) == {"root"}
    assert listed(text(root.get("/iam/?person=head"))) == {"head-pricing", "head-tax"}
    make_binding(user("eva"), "administrator", unit("pricing"))
    assert listed(text(root.get("/iam/?permission=admin.use"))) == {"root"}  # about the holding, held for a part
    assert "No binding in force matches." in text(root.get("/iam/?person=zz"))
    for query in ("?unit=nope", "?permission=x", "?after=x", "?person=%00", "?before=99999999999999999999"):
        assert root.get(f"/iam/{query}").status_code == 200


def test_the_list_is_paged_by_key() -> None:
    for number in range(60):
        make_person(f"p{number:02}", role="viewer", unit=unit("tax"))
    first = text(as_("root").get("/iam/?unit=tax"))
    link = re.search(r'rel="next" href="([^"]+)"', first)
    assert link
    second = text(as_("root").get(link[1].replace("&amp;", "&")))
    assert not listed(first) & listed(second)
    assert len(listed(first) | listed(second)) == 63


def test_a_person_is_explained_with_each_reason() -> None:
    make_binding(user("eva"), "supervisor", expires_at=timezone.now() + timedelta(days=1), granted_by=user("root"))
    page = text(as_("root").get("/iam/people/eva/"))
    for word in ("approvals.decide", "Human supervisor", "subs-pricing", "holding", "Granted by"):
        assert word in page
    User.objects.filter(username="eva").update(cleared=False)
    assert "approvals.decide" not in text(as_("root").get("/iam/people/eva/"))


def test_accounts_that_sleep_and_bindings_that_give_everything_are_marked() -> None:
    User.objects.filter(username="tom").update(last_login=timezone.now() - timedelta(days=91))
    page = text(as_("root").get("/iam/"))
    assert page.count("no sign-in for 90 days") == 1
    assert page.count("everything, for ever") == 1


def test_pages_are_whole_cheap_and_keep_to_the_policy() -> None:
    root = as_("root")
    for path, ceiling in PAGES.items():
        with CaptureQueriesContext(connection) as queries:
            response = root.get(path)
        assert response.status_code == 200, path
        assert not FORBIDDEN.search(text(response)), path
        statements = [query["sql"][:120] for query in queries if "SAVEPOINT" not in query["sql"]]
        assert len(statements) <= ceiling + 2, "\n".join([path, *statements])
        part = root.get(path, headers={"HX-Request": "true"})
        assert "<html" not in text(part), path


# --- granting and revoking ---------------------------------------------------------------------------------

GRANT = {"person": "none", "role": "viewer", "unit": "pricing", "starts_on": "", "ends_on": "", "reason": "new"}


def test_a_grant_is_shown_before_it_is_made() -> None:
    head = as_("head-pricing")
    preview = head.post("/iam/grant/", GRANT)
    assert preview.status_code == 200
    assert "units.view" in text(preview)
    assert not user("none").bindings.exists()
    made = head.post("/iam/grant/", {**GRANT, "confirm": "yes"})
    assert made.headers["Location"] == "/iam/people/none/"
    assert user("none").bindings.get().granted_by == user("head-pricing")
    assert as_("none").get("/s/pricing/").status_code == 200


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"role": "administrator"}, "you lack"),
        ({"person": "head-pricing"}, "themselves"),
        ({"person": "nobody"}, "nobody with that name"),
        ({"unit": "tax"}, "Select a valid choice"),
        ({"unit": "corporate"}, "Select a valid choice"),
        ({"person": "eva"}, "already"),
        ({"ends_on": "2001-01-01"}, "in the future"),
        ({"reason": ""}, "required"),
    ],
)
def test_a_grant_that_cannot_be_is_a_422_with_the_form_as_it_was(change: dict[str, str], words: str) -> None:
    before = RoleBinding.objects.count()
    for confirm in ({}, {"confirm": "yes"}):
        response = as_("head-pricing").post("/iam/grant/", {**GRANT, **change, **confirm})
        assert response.status_code == 422
        page = text(response)
        assert words in page
        assert f'value="{change.get("person", "none")}"' in page
    assert RoleBinding.objects.count() == before


def test_a_binding_is_revoked_with_a_reason() -> None:
    binding = user("eva").bindings.get()
    head, path = as_("head-pricing"), f"/iam/bindings/{binding.pk}/revoke/"
    refused = head.post(path, {"reason": " "})
    assert refused.status_code == 422
    assert "Give a reason" in text(refused)
    assert as_("head-tax").post(path, {"reason": "x"}).status_code == 404
    assert as_("eva").post(path, {"reason": "x"}).status_code == 403
    assert head.get(path).status_code == 405
    assert head.post(path, {"reason": "left"}).headers["Location"] == "/iam/"
    assert as_("eva").get("/s/pricing/").status_code == 403
    assert head.post(path, {"reason": "left"}).status_code == 422


def test_the_last_administrator_is_told_why_they_stay() -> None:
    response = as_("root").post(f"/iam/bindings/{user('root').bindings.get().pk}/revoke/", {"reason": "x"})
    assert response.status_code == 422
    assert "Nobody could administer" in text(response)


# --- roles -------------------------------------------------------------------------------------------------


def test_a_role_is_defined_and_changed_with_what_changes_shown_first() -> None:
    root = as_("root")
    form = {"slug": "clerk", "name_es": "Oficina", "name_en": "Clerk", "permissions": ["units.view"]}
    assert root.post("/iam/roles/new/", {**form, "permissions": []}).status_code == 422
    assert root.post("/iam/roles/new/", form).status_code == 302
    assert root.post("/iam/roles/new/", form).status_code == 422
    change = {**form, "permissions": ["exports.create"]}
    page = text(root.post("/iam/roles/clerk/", change))
    assert "+ export data" in page
    assert "− see units" in page
    assert AccessRole.objects.get(slug="clerk").permissions == ["units.view"]
    assert root.post("/iam/roles/clerk/", {**change, "confirm": "yes"}).status_code == 302
    assert AccessRole.objects.get(slug="clerk").permissions == ["exports.create"]
    assert root.post("/iam/roles/viewer/", {**change, "confirm": "yes"}).status_code == 422
    assert root.get("/iam/roles/nope/").status_code == 404


# --- emergency access --------------------------------------------------------------------------------------

ASK = {"role": "administrator", "unit": "pricing", "minutes": "30", "reason": "the floor is missed"}


def test_emergency_access_needs_a_second_person_and_shows_what_was_done() -> None:
    make_person("chief", role="executive")
    head = as_("head-pricing")
    assert head.post("/iam/emergency/request/", {**ASK, "minutes": "241"}).status_code == 422
    assert head.post("/iam/emergency/request/", ASK).status_code == 302
    emergency = EmergencyAccess.objects.get()
    decide = f"/iam/emergency/{emergency.pk}/decide/"
    assert head.post(decide, {"decision": "approve"}).status_code == 403
    assert as_("head-tax").get(f"/iam/emergency/{emergency.pk}/").status_code == 404
    assert as_("chief").post(decide, {"decision": "approve"}).status_code == 302
    binding = RoleBinding.objects.get(source="break-glass")
    assert (binding.user, binding.granted_by) == (user("head-pricing"), user("chief"))
    head.post("/iam/grant/", {**GRANT, "confirm": "yes"})
    page = text(as_("chief").get(f"/iam/emergency/{emergency.pk}/"))
    assert "binding.grant" in page
    assert as_("head-tax").post(f"/iam/emergency/{emergency.pk}/end/").status_code == 404
    assert head.post(f"/iam/emergency/{emergency.pk}/end/").status_code == 302
    assert head.post(f"/iam/emergency/{emergency.pk}/end/").status_code == 422
    assert as_("chief").post(decide, {"decision": "refuse"}).status_code == 422


# --- reviews -----------------------------------------------------------------------------------------------


def test_a_review_is_opened_decided_and_closed() -> None:
    head = as_("head-pricing")
    due = (timezone.now() + timedelta(days=7)).date().isoformat()
    opened = {"unit": "pricing", "reviewer": "head-pricing", "due_on": due}
    assert head.post("/iam/reviews/open/", {**opened, "reviewer": "eva"}).status_code == 422
    assert head.post("/iam/reviews/open/", {**opened, "due_on": "2001-01-01"}).status_code == 422
    assert head.post("/iam/reviews/open/", opened).status_code == 302
    review = AccessReview.objects.get()
    item = review.items.get()
    assert item.binding == user("eva").bindings.get()
    path = f"/iam/reviews/{review.pk}/"
    assert as_("head-tax").get(path).status_code == 404
    refused = head.post(f"{path}{item.pk}/", {"verdict": "revoke", "note": ""})
    assert refused.status_code == 422
    assert head.post(f"{path}close/").status_code == 422
    assert as_("root").post(f"{path}{item.pk}/", {"verdict": "keep"}).status_code == 422
    assert head.post(f"{path}{item.pk}/", {"verdict": "revoke", "note": "left"}).status_code == 302
    assert not user("eva").bindings.in_force().exists()
    assert head.post(f"{path}close/").status_code == 302
    assert "closed" in text(head.get("/iam/reviews/"))
    assert LedgerEntry.objects.filter(action="review.close").count() == 1


def test_a_review_that_is_late_says_so() -> None:
    AccessReview.objects.create(reviewer=user("root"), due_at=timezone.now() - timedelta(days=1))
    assert "overdue" in text(as_("root").get("/iam/reviews/"))
