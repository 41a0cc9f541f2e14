"""Time is not handed on either: what ends with a date or an emergency is given to nobody for longer."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from holding import scope
from holding.models import Unit
from holding.tests.factories import make_holding
from iam.access import invitations
from iam.access.bindings import grant_role, revoke_binding
from iam.access.emergencies import decide_emergency, request_emergency
from iam.access.models import RoleBinding, User
from iam.access.reviews import open_review
from iam.access.rights import NotHeldError, RefusedError, beyond, rights_to_give
from iam.access.roles import change_role, define_role, map_group, unmap_group
from iam.access.service_accounts import create_service_account
from iam.access.services import issue_token
from iam.access.tests.factories import make_binding, make_person
from iam.access.tests.test_bindings import role, unit

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def units(request: pytest.FixtureRequest) -> None:
    if "transactional_db" not in request.fixturenames:
        make_holding(subsidiaries=("pricing", "tax"))


def dated() -> User:
    """An administrator for thirty days."""
    person = make_person("dated", role="", is_staff=True)
    make_binding(person, "administrator", expires_at=timezone.now() + 30 * DAY)
    return person


def in_emergency() -> User:
    """Somebody who administers by emergency access, for four hours."""
    person = make_person("fire", role="executive", is_staff=True)
    asked = request_emergency(user=person, role=role("administrator"), minutes=240, reason="fire")
    decide_emergency(by=make_person("second"), emergency=asked, approve=True)
    return person


def test_a_dated_right_is_granted_until_its_end_and_no_longer() -> None:
    by, eva, now = dated(), make_person("eva", role=""), timezone.now()
    for end in (None, now + 31 * DAY):
        with pytest.raises(NotHeldError, match="nor for longer than they hold it"):
            grant_role(by=by, user=eva, role=role("viewer"), expires_at=end, reason="x")
    given = grant_role(by=by, user=eva, role=role("viewer"), expires_at=now + 29 * DAY, reason="x")
    revoke_binding(by=by, binding=given, reason="to take is not to give")
    lasting = make_binding(eva, "viewer", unit("tax"))
    revoke_binding(by=by, binding=lasting, reason="x")


def test_what_is_held_for_ever_beside_it_is_granted_for_ever() -> None:
    by, eva = dated(), make_person("eva", role="")
    make_binding(by, "viewer")
    assert grant_role(by=by, user=eva, role=role("viewer"), reason="x").expires_at is None


@pytest.mark.parametrize("administrator", [dated, in_emergency])
def test_nothing_lasting_is_made_of_it(administrator: Callable[[], User]) -> None:
    by = administrator()
    house = define_role(
        by=make_person("root", role="administrator"),
        slug="clerk",
        name_es="C",
        name_en="C",
        permissions=["units.view"],
    )
    with pytest.raises(NotHeldError):
        define_role(by=by, slug="new", name_es="N", name_en="N", permissions=["roles.manage"])
    with pytest.raises(NotHeldError):
        change_role(by=by, role=house, name_es="C", name_en="C", permissions=["units.view", "roles.manage"])
    with pytest.raises(NotHeldError):
        map_group(by=by, group="all", role=role("administrator"))
    with pytest.raises(invitations.NotTheirsError):
        invitations.invite_person(email="n@example.com", role=role("administrator"), unit=None, invited_by=by)
    assert (
        change_role(by=by, role=house, name_es="C", name_en="Clerk", permissions=["units.view"]).name_en == "Clerk"
    )
    mapping = map_group(by=User.objects.get(username="root"), group="all", role=role("administrator"))
    unmap_group(by=by, mapping=mapping)


def test_an_emergency_is_granted_not_even_for_its_hours() -> None:
    by, eva = in_emergency(), make_person("eva", role="")
    end = timezone.now() + timedelta(hours=1)
    with pytest.raises(NotHeldError):
        grant_role(by=by, user=eva, role=role("administrator"), expires_at=end, reason="x")


def test_an_invitation_by_somebody_whose_right_has_got_an_end_is_not_accepted() -> None:
    by = make_person("boss", role="administrator")
    _sent, token = invitations.invite_person(email="n@example.com", role=role("viewer"), unit=None, invited_by=by)
    by.bindings.update(expires_at=timezone.now() + DAY)
    with pytest.raises(invitations.InvitationError):
        invitations.accept_invitation(token=token, username="noa", first_name="", last_name="", password="x")


def test_an_invitation_for_a_unit_is_accepted_by_somebody_who_sees_none() -> None:
    by, pricing = make_person("boss", role="subsidiary-head", unit=unit("pricing")), unit("pricing")
    _sent, token = invitations.invite_person(
        email="n@example.com", role=role("viewer"), unit=pricing, invited_by=by
    )
    with scope.opened(scope.NOTHING):
        noa = invitations.accept_invitation(token=token, username="noa", first_name="", last_name="", password="x")
        assert scope.current() == scope.NOTHING
    assert list(noa.bindings.values_list("unit__slug", flat=True)) == ["pricing"]


def test_a_superuser_gives_without_an_end() -> None:
    root = make_person("root", role="", is_superuser=True)
    assert rights_to_give(root, None).allows("people.manage", None)


# --- accounts of others ------------------------------------------------------------------------------------


def account_of(by: User) -> User:
    return create_service_account(by=by, username="erp", owner=make_person("owner", role="viewer"))


def issue(by: User, account: User, until: datetime, **limits: object) -> object:
    limits = {"name": f"t{until}{limits}", "token": f"t{until}{limits}", "expires_at": until, **limits}
    return issue_token(user=account, actor=by.username, by=by, **limits)  # type: ignore[arg-type]


def test_a_token_lasts_no_longer_than_the_right_of_whoever_issues_it() -> None:
    by, now = dated(), timezone.now()
    account = account_of(by)
    make_binding(account, "viewer")
    with pytest.raises(NotHeldError, match=r"for longer than you hold it"):
        issue(by, account, now + 31 * DAY)
    issue(by, account, now + 29 * DAY)


@pytest.mark.parametrize("limits", [{}, {"permissions": ["units.view"]}])
def test_a_token_counts_what_its_account_gets_later(limits: dict[str, object]) -> None:
    by, now = make_person("head", role="subsidiary-head", unit=unit("pricing")), timezone.now()
    account = account_of(make_person("root", role="administrator"))
    make_binding(account, "viewer", unit("pricing"))
    make_binding(account, "viewer", starts_at=now + 10 * DAY)
    with pytest.raises(NotHeldError, match=r"units\.view"):
        issue(by, account, now + 11 * DAY, **limits)
    issue(by, account, now + 9 * DAY, **limits)
    issue(by, account, now + 11 * DAY, unit=unit("pricing"), **limits)


def test_a_token_of_a_unit_counts_what_is_above_below_and_not_beside() -> None:
    pricing, tax = unit("pricing"), unit("tax")
    by, account = make_person("head", role="subsidiary-head", unit=tax), make_person("erp", role="")
    make_binding(account, "viewer", pricing)
    assert beyond(by=by, account=account, unit=tax) == []
    assert beyond(by=by, account=account, unit=pricing) == ["units.view"]
    Unit.objects.filter(pk=tax.pk).update(parent=pricing)
    assert beyond(by=by, account=account, unit=tax) == []
    assert beyond(by=by, account=account, unit=pricing) == ["units.view"]
    assert beyond(by=by, account=account) == ["units.view"]


@pytest.mark.parametrize("mark", ["is_active", "cleared"])
def test_accounts_that_may_not_call_get_no_token(mark: str) -> None:
    root = make_person("root", role="administrator")
    account = account_of(root)
    make_binding(account, "viewer")
    User.objects.filter(pk=account.pk).update(**{mark: False})
    with pytest.raises(RefusedError, match=r"inactive|no clearance"):
        issue(root, User.objects.get(pk=account.pk), timezone.now() + DAY)


def test_a_person_with_more_time_is_not_changed(redis_clean: str) -> None:
    by, eva = dated(), make_person("eva", role="viewer")
    assert beyond(by=by, account=eva) == ["units.view"]
    client = Client()
    client.force_login(by)
    sent = {"username": "eva", "is_active": "on", "cleared": "on", "password": "another long enough secret"}
    assert client.post(f"/admin/access/user/{eva.pk}/change/", sent).status_code == 403
    make_binding(by, "viewer")
    assert client.post(f"/admin/access/user/{eva.pk}/change/", sent).status_code == 302
    own = {**sent, "username": "dated", "is_staff": "on", "first_name": "Dora"}
    assert client.post(f"/admin/access/user/{by.pk}/change/", own).status_code == 302


def test_a_reviewer_does_not_review_the_accounts_that_they_own() -> None:
    aud = make_person("aud", role="auditor")
    account = create_service_account(by=make_person("root", role="administrator"), username="erp", owner=aud)
    make_binding(account, "viewer")
    review = open_review(by=aud, reviewer=aud, due_at=timezone.now() + DAY)
    assert {item.binding.user.username for item in review.items.all()} == {"root"}


@pytest.mark.django_db(transaction=True)
def test_whoever_is_losing_a_role_grants_it_no_more(transactional_db: None) -> None:
    root, by, eva = (make_person(name, role=given) for name, given in (
        ("root", "administrator"), ("by", "administrator"), ("eva", ""),
    ))  # fmt: skip
    viewer, lost, came = role("viewer"), by.bindings.get(), list[type]()

    def grant() -> None:
        try:
            came.append(type(grant_role(by=by, user=eva, role=viewer, reason="race")))
        except RefusedError as error:
            came.append(type(error))
        finally:
            connection.close()

    thread = threading.Thread(target=grant)
    with transaction.atomic():
        revoke_binding(by=root, binding=lost, reason="race")
        thread.start()
        thread.join(1)
        assert not came  # it waits
    thread.join(10)
    assert came == [NotHeldError]
    assert not RoleBinding.objects.filter(user=eva).exists()
