"""Somebody who may administer without an end stays, whatever is changed."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from allauth.socialaccount.models import SocialAccount
from django.test import Client
from django.utils import timezone

from audit.models import LedgerEntry
from iam.access.bindings import revoke_binding
from iam.access.claims import apply_groups
from iam.access.forms import PersonForm
from iam.access.models import RoleBinding, User
from iam.access.reviews import decide_item, open_review
from iam.access.service_accounts import create_service_account, deactivate_account
from iam.access.services import LastAdministratorError, lasting_administrators, update_person
from iam.access.tests.factories import make_binding, make_person
from iam.access.tests.test_bindings import race

pytestmark = pytest.mark.django_db
LOSSES = ("is_active", "is_staff", "cleared")


@pytest.fixture(params=["mark", "role"])
def root(request: pytest.FixtureRequest) -> User:
    """The one administrator: by the superuser's mark, or by the role."""
    if request.param == "mark":
        return make_person("root", role="", is_staff=True, is_superuser=True)
    return make_person("root", role="administrator", is_staff=True)


def lose(person: User, mark: str) -> None:
    changes: dict[str, Any] = {mark: False}
    update_person(user_id=person.pk, actor="test", **changes)


def form_of(person: User, **changes: Any) -> PersonForm:
    fields = {"username": person.username, "is_active": True, "is_staff": True, "cleared": True, **changes}
    return PersonForm(fields, instance=User.objects.get(pk=person.pk))


@pytest.mark.parametrize("lost", LOSSES)
def test_a_change_of_the_last_is_refused_by_service_and_form(root: User, lost: str) -> None:
    with pytest.raises(LastAdministratorError):
        lose(root, lost)
    root.refresh_from_db()
    assert getattr(root, lost)
    assert not LedgerEntry.objects.filter(action="person.update").exists()
    assert "Nobody could administer" in str(form_of(root, **{lost: False}).errors)


@pytest.mark.parametrize("lost", LOSSES)
@pytest.mark.parametrize("other", [{"role": "administrator"}, {"role": "", "is_superuser": True}])
def test_with_another_by_mark_or_role_the_change_is_made(root: User, lost: str, other: dict[str, Any]) -> None:
    make_person("other", is_staff=True, **other)
    assert form_of(root, **{lost: False}).is_valid()
    lose(root, lost)
    assert [person.username for person in lasting_administrators()] == ["other"]


def test_nobody_counts_who_could_not_administer_or_not_for_ever(root: User) -> None:
    soon = timezone.now() + timedelta(days=1)
    marks: tuple[tuple[str, dict[str, Any]], ...] = (
        ("no-staff", {"is_staff": False}),
        ("inactive", {"is_active": False}),
        ("uncleared", {"cleared": False}),
    )
    for name, fields in marks:
        make_person(name, role="administrator", **{"is_staff": True, **fields})
    ends: dict[str, dict[str, Any]] = {"a-day": {"expires_at": soon}, "tomorrow": {"starts_at": soon}, "group": {}}
    for name, times in ends.items():
        source = RoleBinding.Source.CLAIM if name == "group" else RoleBinding.Source.GRANTED
        make_binding(make_person(name, role="", is_staff=True), "administrator", source=source, **times)
    assert list(lasting_administrators()) == [root]
    with pytest.raises(LastAdministratorError):
        update_person(user_id=root.pk, actor="test", is_active=False)


def test_people_who_are_no_administrators_change_where_there_is_none() -> None:
    eva = make_person("eva")
    update_person(user_id=eva.pk, actor="test", is_active=False)
    assert not User.objects.get(pk=eva.pk).is_active


def test_the_last_binding_is_kept_from_revocation_and_review() -> None:
    ana, aud = make_person("ana", role="administrator", is_staff=True), make_person("aud", role="auditor")
    binding = ana.bindings.get()
    other = make_person("other", role="administrator", is_staff=True)
    revoke_binding(by=ana, binding=other.bindings.get(), reason="one is enough")
    with pytest.raises(LastAdministratorError):
        revoke_binding(by=ana, binding=binding, reason="x")
    review = open_review(by=aud, reviewer=aud, due_at=timezone.now() + timedelta(days=1))
    item = review.items.get(binding=binding)
    with pytest.raises(LastAdministratorError):
        decide_item(by=aud, item=item, verdict="revoke", note="too much")
    item.refresh_from_db()
    assert (item.verdict, item.binding.revoked_at) == ("", None)


def test_the_binding_of_somebody_with_the_mark_goes() -> None:
    ana = make_person("ana", role="administrator", is_staff=True, is_superuser=True)
    revoke_binding(by=ana, binding=ana.bindings.get(), reason="the mark is enough")
    assert list(lasting_administrators()) == [ana]


def test_a_service_is_no_administrator_and_is_deactivated_whatever_it_holds() -> None:
    ana = make_person("ana", role="administrator", is_staff=True)
    account = create_service_account(by=ana, username="erp", owner=ana)
    make_binding(account, "administrator")
    with pytest.raises(LastAdministratorError):
        revoke_binding(by=ana, binding=ana.bindings.get(), reason="x")
    deactivate_account(by=ana, account=account)
    assert list(lasting_administrators()) == [ana]


def test_groups_take_the_clearance_from_all_but_the_last() -> None:
    root = make_person("root", role="", is_staff=True, is_superuser=True)
    other = make_person("other", role="", is_staff=True, is_superuser=True)
    for person in (root, other):
        SocialAccount.objects.create(user=person, provider="oidc", uid=person.username)
        make_binding(person, "viewer", source=RoleBinding.Source.CLAIM)
        apply_groups(user=person, groups=[])
    assert not User.objects.get(pk=root.pk).cleared
    assert User.objects.get(pk=other.pk).cleared
    assert not RoleBinding.objects.in_force().exists()


def deactivated(person: User) -> Callable[[], object]:
    return lambda: update_person(user_id=person.pk, actor="test", is_active=False)


@pytest.mark.django_db(transaction=True)
def test_of_two_who_are_deactivated_at_once_one_stays(transactional_db: None) -> None:
    ana = make_person("ana", role="administrator", is_staff=True)
    bea = make_person("bea", role="", is_staff=True, is_superuser=True)
    assert race([deactivated(ana), deactivated(bea)]) == [LastAdministratorError, User]
    assert lasting_administrators().count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_one_deactivated_and_one_revoked_at_once_one_stays(transactional_db: None) -> None:
    ana, bea = (make_person(name, role="administrator", is_staff=True) for name in ("ana", "bea"))
    root, mine = make_person("root", role="administrator"), ana.bindings.get()
    came = race([deactivated(bea), lambda: revoke_binding(by=root, binding=mine, reason="race")])
    assert LastAdministratorError in came
    assert lasting_administrators().count() == 1


def test_a_form_opened_before_somebody_elses_change_writes_nothing_back(redis_clean: str) -> None:
    make_person("root", role="administrator", is_staff=True)
    eva = make_person("eva", role="viewer")
    client = Client(headers={"Accept-Language": "en"})
    client.force_login(User.objects.get(username="root"))
    address = f"/admin/access/user/{eva.pk}/change/"
    opened = client.get(address).context["adminform"].form
    sent = {"username": "eva", "is_active": "on", "cleared": "on", "first_name": "Eva"}
    sent["state"] = opened["state"].value()
    update_person(user_id=eva.pk, actor="test", is_active=False)
    assert "since you opened the form" in client.post(address, sent).content.decode()
    assert not User.objects.get(pk=eva.pk).is_active
    sent["state"] = client.get(address).context["adminform"].form["state"].value()
    assert client.post(address, sent).status_code == 302
    assert User.objects.get(pk=eva.pk).is_active
