"""The API of roles, groups, emergency access and reviews: what each caller sees and may do."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from audit.models import LedgerEntry
from holding.models import Unit
from iam.access.claims import apply_groups
from iam.access.models import AccessReview, AccessRole, ApiToken, EmergencyAccess, GroupMapping, RoleBinding, User
from tests.iam_callers import call, listed, make_callers

pytestmark = pytest.mark.django_db
CLERK = {"slug": "clerk", "name_es": "Oficina", "name_en": "Clerk", "permissions": ["exports.create", "units.view"]}


@pytest.fixture(autouse=True)
def callers() -> None:
    make_callers()


def acts(*actions: str) -> list[tuple[str, str, str]]:
    entries = LedgerEntry.objects.filter(action__in=actions).order_by("id")
    return list(entries.values_list("action", "actor", "object"))


# --- roles -------------------------------------------------------------------------------------------------


def test_a_role_is_defined_and_changed_in_part() -> None:
    made = call("root", "POST", "roles/", 201, **CLERK)
    assert made == {
        "slug": "clerk", "name": "Clerk", "permissions": ["units.view", "exports.create"], "built_in": False,
    }  # fmt: skip
    changed = call("root", "PATCH", "roles/clerk/", 200, permissions=["units.view"])
    assert (changed["name"], changed["permissions"]) == ("Clerk", ["units.view"])
    call("root", "PATCH", "roles/clerk/", 200)
    role = AccessRole.objects.get(slug="clerk")
    assert (role.name_es, role.name_en, role.permissions) == ("Oficina", "Clerk", ["units.view"])
    assert acts("role.define", "role.change") == [
        ("role.define", "root", "role/clerk"),
        ("role.change", "root", "role/clerk"),
    ]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"slug": "viewer"}, "detail"),
        ({"slug": "no slug"}, "slug"),
        ({"permissions": []}, "detail"),
        ({"permissions": ["no.such"]}, "detail"),
        ({"permissions": "units.view"}, "permissions"),
        ({"name_es": ""}, "name_es"),
    ],
)
def test_a_role_that_makes_no_sense_is_refused(change: dict[str, Any], field: str) -> None:
    answer = call("root", "POST", "roles/", 400, **{**CLERK, **change})
    assert list(answer) == [field]
    assert answer[field]
    assert not AccessRole.objects.filter(built_in=False).exists()


def test_roles_are_managed_by_who_may_and_only_those_of_the_house() -> None:
    call("chief", "POST", "roles/", 403, **CLERK)
    call("head", "PATCH", "roles/viewer/", 403, name_en="x")
    assert "comes with the portal" in call("root", "PATCH", "roles/viewer/", 400, name_en="x")["detail"][0]
    assert "nothing" in call("root", "PATCH", "roles/nothing/", 404, name_en="x")["detail"]
    ApiToken.objects.filter(user__username="root").update(permissions=["roles.manage", "people.view"])
    assert "exports.create" in call("root", "POST", "roles/", 403, **CLERK)["detail"]


# --- groups ------------------------------------------------------------------------------------------------


def test_a_group_gives_a_role_until_it_is_unmapped() -> None:
    made = call("head", "POST", "groups/", 201, group=" readers ", role="viewer", unit="pricing")
    assert {**made, "id": 0} == {
        "id": 0, "group": "readers", "role": "viewer", "namespace": "subs-pricing", "unit": "pricing",
    }  # fmt: skip
    none = User.objects.get(username="none")
    apply_groups(user=none, groups=["readers"])
    assert none.bindings.in_force().get().unit == Unit.objects.get(slug="pricing")
    again = call("head", "POST", "groups/", 400, group="readers", role="viewer", unit="pricing")
    assert "already" in again["detail"][0]
    call("other", "DELETE", f"groups/{made['id']}/", 404)
    call("eva", "DELETE", f"groups/{made['id']}/", 403)
    call("head", "DELETE", f"groups/{made['id']}/", 204)
    call("head", "DELETE", f"groups/{made['id']}/", 404)
    assert not GroupMapping.objects.exists()
    assert acts("group.map", "group.unmap") == [
        ("group.map", "head", "role/viewer"),
        ("group.unmap", "head", "role/viewer"),
    ]


def test_groups_are_mapped_and_seen_where_one_could_grant() -> None:
    for unit, status in (("tax", 400), (None, 403)):
        call("head", "POST", "groups/", status, group="g", role="viewer", unit=unit)
    call("head", "POST", "groups/", 403, group="g", role="administrator", unit="pricing")
    call("chief", "POST", "groups/", 403, group="g", role="viewer")
    call("head", "POST", "groups/", 400, group=" ", role="viewer", unit="pricing")
    for name, unit in (("a", "pricing"), ("b", "tax"), ("c", None)):
        call("root", "POST", "groups/", 201, group=name, role="viewer", unit=unit)
    assert listed("head", "groups/", "group") == ["a"]
    assert listed("root", "groups/", "group") == ["a", "b", "c"]
    assert listed("root", "groups/", "group", unit="tax") == ["b"]
    assert listed("root", "groups/", "group", group="c", role="viewer") == ["c"]
    whole = GroupMapping.objects.get(group="c")
    call("head", "DELETE", f"groups/{whole.pk}/", 404)


# --- emergency access --------------------------------------------------------------------------------------

ASK = {"role": "administrator", "unit": "pricing", "minutes": 30, "reason": "the floor is missed"}


def test_emergency_access_is_asked_for_decided_and_ended() -> None:
    asked = call("head", "POST", "emergencies/", 201, **ASK)
    path = f"emergencies/{asked['id']}/"
    assert (asked["state"], asked["person"], asked["unit"], asked["ends_at"]) == (
        "requested",
        "head",
        "pricing",
        None,
    )
    assert listed("chief", "emergencies/", "id", waiting="true") == [asked["id"]]
    assert "already" in call("head", "POST", "emergencies/", 400, **ASK)["detail"][0]
    call("head", "POST", f"{path}decide/", 403, approve=True)
    call("chief", "POST", f"{path}decide/", 400)
    active = call("chief", "POST", f"{path}decide/", 200, approve=True, note="go")
    assert (active["state"], active["decided_by"]) == ("active", "chief")
    assert listed("chief", "emergencies/", "id", waiting="true") == []
    binding = RoleBinding.objects.get(source="break-glass")
    assert (binding.user.username, binding.granted_by) == ("head", User.objects.get(username="chief"))
    assert "waits no more" in call("chief", "POST", f"{path}decide/", 400, approve=False)["detail"][0]
    call("other", "POST", f"{path}end/", 404)
    assert call("head", "POST", f"{path}end/", 200)["state"] == "ended"
    assert "not in force" in call("chief", "POST", f"{path}end/", 400)["detail"][0]
    assert [
        (action, actor) for action, actor, _ in acts("emergency.request", "emergency.approve", "emergency.end")
    ] == [
        ("emergency.request", "head"),
        ("emergency.approve", "chief"),
        ("emergency.end", "head"),
    ]


def test_emergency_access_is_refused_with_a_sentence() -> None:
    for change, status in (
        ({"minutes": 4}, 400), ({"minutes": 241}, 400), ({"reason": " "}, 400), ({"unit": "tax"}, 400),
        ({"unit": None}, 403), ({"role": "subsidiary-head"}, 400), ({"role": "no"}, 400),
    ):  # fmt: skip
        assert call("head", "POST", "emergencies/", status, **{**ASK, **change})
    call("eva", "POST", "emergencies/", 403, **ASK)
    assert not EmergencyAccess.objects.exists()
    asked = call("head", "POST", "emergencies/", 201, **ASK)
    assert call("chief", "POST", f"emergencies/{asked['id']}/decide/", 200, approve=False)["state"] == "refused"
    own = call("chief", "POST", "emergencies/", 201, **{**ASK, "unit": None})
    assert "second person" in call("chief", "POST", f"emergencies/{own['id']}/decide/", 403, approve=True)["detail"]


def test_emergencies_are_in_view_as_people_are() -> None:
    asked = call("head", "POST", "emergencies/", 201, **ASK)
    assert listed("other", "emergencies/", "id") == []
    assert str(asked["id"]) in call("other", "GET", f"emergencies/{asked['id']}/", 404)["detail"]
    assert listed("chief", "emergencies/", "person", person="head", unit="pricing", role="administrator") == [
        "head"
    ]
    EmergencyAccess.objects.update(requested_at=timezone.now() - timedelta(hours=2))
    assert call("chief", "GET", f"emergencies/{asked['id']}/", 200)["state"] == "refused"  # by time


def test_what_was_done_is_told_to_those_who_see_the_whole_holding_and_counted_for_others() -> None:
    asked = call("head", "POST", "emergencies/", 201, **ASK)
    path = f"emergencies/{asked['id']}/"
    assert call("head", "GET", path, 200)["done"] == {"count": 0, "newest": None}
    assert call("chief", "GET", path, 200)["done"] == {"count": 0, "newest": []}
    call("chief", "POST", f"{path}decide/", 200, approve=True)
    call("head", "POST", "bindings/", 201, person="none", role="viewer", unit="pricing", reason="x")
    told = call("chief", "GET", path, 200)["done"]
    assert told["count"] == 1
    assert [(act["action"], act["object"]) for act in told["newest"]] == [
        ("binding.grant", f"person/{User.objects.get(username='none').pk}")
    ]
    assert call("head", "GET", path, 200)["done"] == {"count": 1, "newest": None}


# --- reviews -----------------------------------------------------------------------------------------------


def opening(**changes: Any) -> dict[str, Any]:
    due = (timezone.now() + timedelta(days=7)).isoformat()
    return {"unit": "pricing", "reviewer": "head", "due_at": due, **changes}


def test_a_review_is_opened_decided_and_closed() -> None:
    review = call("head", "POST", "reviews/", 201, **opening())
    path = f"reviews/{review['id']}/"
    assert (review["unit"], review["bindings"], review["undecided"], review["revoked"]) == ("pricing", 1, 1, 0)
    item = call("head", "GET", f"{path}items/", 200, undecided="true")["results"][0]
    assert (item["binding"]["person"], item["verdict"], item["decided_at"]) == ("eva", "", None)
    assert "undecided" in call("head", "POST", f"{path}close/", 400)["detail"][0]
    decide = f"{path}items/{item['id']}/decide/"
    assert "why" in call("head", "POST", decide, 400, verdict="revoke")["detail"][0]
    assert list(call("head", "POST", decide, 400, verdict="perhaps")) == ["verdict"]
    assert "Only head" in call("root", "POST", decide, 403, verdict="keep")["detail"]
    decided = call("head", "POST", decide, 200, verdict="revoke", note="left")
    assert decided["binding"]["revoked_at"]
    assert (decided["verdict"], decided["note"]) == ("revoke", "left")
    assert not User.objects.get(username="eva").bindings.in_force().exists()
    assert "already" in call("head", "POST", decide, 400, verdict="keep")["detail"][0]
    assert listed("head", f"{path}items/", "id", undecided="true") == []
    assert listed("head", f"{path}items/", "id", verdict="revoke") == [item["id"]]
    assert call("head", "POST", f"{path}close/", 200)["closed_at"]
    assert "closed already" in call("head", "POST", f"{path}close/", 400)["detail"][0]
    assert acts("review.open", "review.decide", "review.close") == [
        (action, "head", f"review/{review['id']}") for action in ("review.open", "review.decide", "review.close")
    ]


def test_reviews_are_opened_and_seen_where_one_may_review() -> None:
    call("head", "POST", "reviews/", 403, **opening(reviewer="eva"))
    call("head", "POST", "reviews/", 403, **opening(unit=None))
    call("head", "POST", "reviews/", 400, **opening(unit="tax"))
    call("head", "POST", "reviews/", 400, **opening(due_at="2001-01-01T00:00:00Z"))
    call("eva", "POST", "reviews/", 403, **opening())
    assert not AccessReview.objects.exists()
    review = call("head", "POST", "reviews/", 201, **opening())
    item = AccessReview.objects.get().items.get()
    for path in ("", "items/"):
        assert str(review["id"]) in call("other", "GET", f"reviews/{review['id']}/{path}", 404)["detail"]
    call("other", "POST", f"reviews/{review['id']}/items/{item.pk}/decide/", 404, verdict="keep")
    call("other", "POST", f"reviews/{review['id']}/close/", 404)
    call("head", "POST", f"reviews/{review['id']}/items/999999/decide/", 404, verdict="keep")
    whole = call("root", "POST", "reviews/", 201, **opening(unit=None, reviewer="chief"))
    call("head", "POST", f"reviews/{whole['id']}/items/{item.pk}/decide/", 404, verdict="keep")
    assert listed("other", "reviews/", "id") == []
    assert listed("head", "reviews/", "id") == [review["id"]]
    assert listed("root", "reviews/", "reviewer", open="true") == ["chief", "head"]
    assert listed("root", "reviews/", "reviewer", unit="pricing", reviewer="head") == ["head"]
    assert listed("root", "reviews/", "reviewer", open="false") == []
