"""An e-mail address is one account's, whatever its case, and the database says so."""

from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.core.management import CommandError
from django.db import IntegrityError, connections, transaction
from django.test import Client

from iam.access import invitations, profile, services
from iam.access.models import User
from iam.access.tests.factories import make_person

pytestmark = pytest.mark.django_db
migration = import_module("iam.access.migrations.0004_unique_email")


def test_the_database_refuses_an_address_in_use_and_lets_several_have_none() -> None:
    make_person(email="ana@example.com")
    make_person("eva")
    make_person("sol")
    with pytest.raises(IntegrityError, match="user_email_once"), transaction.atomic():
        User.objects.filter(username="eva").update(email="ANA@example.com")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"username": "eva", "email": "Ana@Example.com"}, "email"),
        ({"username": "ana", "email": "eva@example.com"}, "username"),
    ],
)
def test_services_say_what_is_in_use(fields: dict[str, Any], field: str) -> None:
    make_person(email="ana@example.com")
    with pytest.raises(services.TakenError, match="in use" if field == "username" else "already") as refused:
        services.create_person(password="x", actor="test", **fields)
    assert refused.value.field == field
    make_person("boss", is_staff=True, is_superuser=True)
    sol = make_person("sol")
    with pytest.raises(services.TakenError):
        services.update_person(user_id=sol.pk, actor="test", **{field: fields[field]})
    sol.refresh_from_db()
    assert (sol.username, sol.email) == ("sol", "")


def test_the_administration_says_it_next_to_the_field(redis_clean: str) -> None:
    make_person(email="ana@example.com")
    make_person("root", is_staff=True, is_superuser=True, role="administrator")
    client = Client(headers={"Accept-Language": "en"})
    client.force_login(User.objects.get(username="root"))
    form = {"username": "eva", "email": "ANA@example.com", "password": "another long enough secret"}
    page = client.post("/admin/access/user/add/", form)
    assert "Somebody has this e-mail address already." in str(page.content, "utf-8")
    assert not User.objects.filter(username="eva").exists()
    assert client.post("/admin/access/user/add/", {**form, "email": "eva@example.com"}).status_code == 302
    eva = User.objects.get(username="eva")
    changed = client.post(f"/admin/access/user/{eva.pk}/change/", {**form, "email": "Eva@example.com"})
    assert changed.status_code == 302
    eva.refresh_from_db()
    assert eva.email == "Eva@example.com"  # one's own address in another case is nobody else's


def test_an_address_given_away_since_the_link_was_sent_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when two confirm at once: both have looked before either has written."""
    ana = make_person()
    make_person("eva", email="new@example.com")
    monkeypatch.setattr(profile, "email_of_link", lambda **_named: "NEW@example.com")
    with pytest.raises(profile.LinkError):
        profile.change_email(user=ana, token="")
    ana.refresh_from_db()
    assert ana.email == ""


def test_an_invitation_to_an_address_given_away_creates_nobody() -> None:
    boss = make_person("boss", role="administrator")
    _invitation, token = invitations.invite_person(email="new@example.com", role=None, unit=None, invited_by=boss)
    make_person("eva", email="NEW@example.com")
    told = {"first_name": "", "last_name": "", "password": "x"}
    with pytest.raises(invitations.InvitationError):
        invitations.accept_invitation(token=token, username="noa", **told)


@pytest.mark.django_db(databases=["owner"])
def test_the_migration_names_the_accounts_that_share_an_address() -> None:
    with connections["owner"].schema_editor() as editor:
        editor.execute("drop index user_email_once")
        people: Any = User.objects.using("owner")
        given = {"ana": "a@x.example", "eva": "A@X.example", "sol": "s@x.example", "luz": "", "mar": ""}
        for username, email in given.items():
            people.create(username=username, email=email)
        with pytest.raises(CommandError, match=r"these are shared: a@x\.example \(ana, eva\)\. "):
            migration.refuse_collisions(apps, editor)
        people.filter(username="eva").update(email="")
        migration.refuse_collisions(apps, editor)
