"""Nobody takes the sign-in of somebody who decides under an office."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from iam.access.models import User
from iam.access.rights import NotHeldError
from iam.access.services import update_person
from iam.access.tests.factories import PASSWORD, make_person
from iam.authority.models import Appointment, Delegation, Substitution
from iam.authority.powers import holds_authority
from iam.authority.tests.factories import DAY, make_authority

pytestmark = pytest.mark.django_db
OTHER = "another long enough secret"


@pytest.fixture(autouse=True)
def people() -> None:
    make_authority()


def person(name: str) -> User:
    return User.objects.get(username=name)


def lend(start: timedelta, end: timedelta) -> None:
    now, given = timezone.now(), Appointment.objects.get(person__username="gema")
    Delegation.objects.create(
        appointment=given,
        delegator=given.person,
        person=person("rita"),
        valid_from=now + start,
        valid_to=now + end,
        recorded_by="gema",
        reason="x",
    )


def stand_in(start: timedelta, end: timedelta) -> None:
    now = timezone.now()
    Substitution.objects.create(
        person=person("gema"),
        substitute=person("rita"),
        valid_from=now + start,
        valid_to=now + end,
        recorded_by="gema",
        reason="x",
    )


@pytest.mark.parametrize("give", [lend, stand_in])
def test_authority_is_held_now_and_later_and_not_when_it_has_ended(
    give: Callable[[timedelta, timedelta], None],
) -> None:
    assert holds_authority(person("gema"))
    assert not holds_authority(person("rita"))
    give(-2 * DAY, -DAY)
    assert not holds_authority(person("rita"))
    give(DAY, 2 * DAY)
    assert holds_authority(person("rita"))


@pytest.mark.parametrize("change", [{"password": OTHER}, {"email": "mine@example.com"}])
def test_nobody_else_sets_password_or_address_of_an_office(change: dict[str, Any]) -> None:
    root, gema, rita = make_person("root", role="", is_superuser=True), person("gema"), person("rita")
    with pytest.raises(NotHeldError, match="holds an office"):
        update_person(user_id=gema.pk, actor="root", by=root, **change)
    update_person(user_id=rita.pk, actor="root", by=root, **change)
    User.objects.filter(pk=rita.pk).update(email="")
    update_person(user_id=gema.pk, actor="root", by=root, first_name="Gema", is_active=False)
    update_person(user_id=gema.pk, actor="gema", by=gema, **change)
    assert not person("gema").is_active


def test_the_administration_does_not_offer_it(redis_clean: str) -> None:
    root, gema = make_person("root", role="administrator", is_staff=True), person("gema")
    User.objects.filter(pk=gema.pk).update(email="gema@example.com")
    client = Client(headers={"Accept-Language": "en"})
    client.force_login(root)
    address = f"/admin/access/user/{gema.pk}/change/"
    page = client.get(address).content.decode()
    assert page.count("They ask for a link to a new password") == 2
    sent = {"username": "gema", "is_active": "on", "cleared": "on", "first_name": "Gema"}
    assert client.post(address, {**sent, "password": OTHER, "email": "mine@example.com"}).status_code == 302
    after = person("gema")
    assert (after.first_name, after.email, after.password) == ("Gema", "gema@example.com", gema.password)
    own = client.get(f"/admin/access/user/{root.pk}/change/").content.decode()
    assert "They ask for a link" not in own
    assert person("root").check_password(PASSWORD)
