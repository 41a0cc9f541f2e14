"""Who gets in: tokens, the clearance, the first administrator."""

import json
import os
from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from audit.models import LedgerEntry
from iam.access.models import ApiToken, User
from iam.access.rules import OPEN, SIGNED_IN, rule_of
from iam.access.services import ensure_administrator, revoke_token
from iam.access.tests.factories import PASSWORD, TOKEN, make_person, make_token

pytestmark = pytest.mark.django_db
HEALTH = {"/healthz"}  # the process answers: no data, no database
BY_TOKEN = {"/api/v1/agents/credentials/"}  # what opens is posted: a one-time token, or the proof of a key


def ask(token: str = TOKEN, scheme: str = "Bearer", path: str = "/api/v1/units/") -> int:
    return Client().get(path, headers={"Authorization": f"{scheme} {token}"}).status_code


# --- tokens ------------------------------------------------------------------------------------------------


def test_a_token_opens_the_api_and_only_the_api() -> None:
    make_token(make_person())
    assert ask() == 200
    assert ask(scheme="bearer") == 200
    assert ask(path="/admin/") == 302


def test_only_the_digest_of_a_token_is_kept() -> None:
    token = make_token(make_person())
    assert token.digest == sha256(TOKEN.encode()).hexdigest()
    assert TOKEN not in str(vars(token))
    entry = LedgerEntry.objects.get(action="token.issue")
    assert TOKEN.encode() not in bytes(entry.body)
    assert token.digest.encode() not in bytes(entry.body)


@pytest.mark.parametrize(
    "header", ["", "x", "Bearer", f"Bearer {TOKEN} x", f"Token {TOKEN}", "Bearer \xff", "Bearer x"]
)
def test_other_headers_open_nothing(header: str) -> None:
    make_token(make_person())
    response = Client().get("/api/v1/units/", headers={"Authorization": header})
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_an_expired_token_is_refused() -> None:
    token = make_token(make_person(), expires_at=timezone.now() + timedelta(seconds=60))
    assert ask() == 200
    ApiToken.objects.filter(pk=token.pk).update(expires_at=timezone.now())
    assert ask() == 401


def test_a_revoked_token_is_refused_at_once_and_the_ledger_knows() -> None:
    token = make_token(make_person())
    revoke_token(token=token, actor="ana")
    assert ask() == 401
    assert LedgerEntry.objects.get(action="token.revoke").actor == "ana"


@pytest.mark.parametrize("field", ["cleared", "is_active"])
def test_a_token_is_worth_what_its_person_is(field: str) -> None:
    person = make_person()
    make_token(person)
    assert ask() == 200
    User.objects.filter(pk=person.pk).update(**{field: False})
    assert ask() == 401


def test_the_name_of_a_token_is_its_persons_once() -> None:
    person = make_person()
    make_token(person)
    with pytest.raises(IntegrityError), transaction.atomic():
        make_token(person, token="other")
    make_token(make_person("eva"), token="another")


# --- the clearance, on every address -----------------------------------------------------------------------


def addresses(resolver: URLResolver | None = None, prefix: str = "/") -> Iterator[str]:
    """Yield each route of the URL map, with something in the place of its arguments."""
    for pattern in (resolver or get_resolver()).url_patterns:
        route = prefix + str(pattern.pattern).lstrip("^").removesuffix("$").removesuffix(r"\Z")
        if isinstance(pattern, URLResolver):
            yield from addresses(pattern, route)
        elif isinstance(pattern, URLPattern):
            yield fill(route)


def fill(route: str) -> str:
    """Put a value in the place of each argument of a route."""
    path, depth, inside = "", 0, ""
    for letter in route:
        if letter in "(<":
            depth += 1
        if depth:
            inside += letter
        else:
            path += letter
        if letter in ")>":
            depth -= 1
            if not depth:
                path += "1" if "int" in inside or "0-9" in inside else "pricing"
                inside = ""
    return path.replace("\\", "").replace("?", "")


def test_the_map_is_walked() -> None:
    found = set(addresses())
    assert {"/api/v1/units/", "/api/v1/units/pricing/", "/api/v1/overview/", "/admin/login/"} <= found
    assert len(found) > 40


@pytest.mark.parametrize("who", ["stranger", "uncleared", "inactive"])
def test_without_the_clearance_every_address_is_closed(who: str) -> None:
    """A new route that answers without the clearance fails here."""
    client = Client()
    if who != "stranger":
        client.force_login(make_person(cleared=False, is_staff=True, is_superuser=True))
    if who == "inactive":
        User.objects.update(is_active=False, cleared=True)
    for address in sorted(set(addresses())):
        open_rules = {OPEN, SIGNED_IN} if who == "uncleared" else {OPEN}
        if (
            rule_of(address) in open_rules
            or address in BY_TOKEN
            or address.startswith("/admin/log")
            or address in HEALTH
        ):
            continue
        response = client.get(address)
        assert response.status_code in {301, 302, 401, 403}, address
        if response.status_code in {301, 302}:
            target = response.headers["Location"]
            assert target.startswith(("/sign-in/", "/admin/login/")), (address, target)


def test_a_person_without_clearance_cannot_enter_the_admin() -> None:
    make_person(cleared=False, is_staff=True, is_superuser=True)
    client = Client()
    client.post("/admin/login/?next=/admin/", {"username": "ana", "password": PASSWORD, "next": "/admin/"})
    assert client.get("/admin/").status_code == 302


def test_htmx_is_moved_to_the_sign_in_as_a_page() -> None:
    response = Client().get("/", headers={"HX-Request": "true"})
    assert response.status_code == 401
    assert response.headers["HX-Redirect"].endswith("/sign-in/")


# --- the first administrator -------------------------------------------------------------------------------


def test_the_administrator_is_made_once() -> None:
    for _ in range(3):
        ensure_administrator(username="admin", password=PASSWORD, token=TOKEN, actor="operator")
    admin = User.objects.get()
    assert (admin.is_staff, admin.is_superuser, admin.cleared) == (True, True, True)
    assert admin.check_password(PASSWORD)
    assert ask() == 200
    assert [entry.action for entry in LedgerEntry.objects.all()] == ["person.create"]


def test_new_credentials_replace_the_old_ones() -> None:
    ensure_administrator(username="admin", password=PASSWORD, token=TOKEN, actor="operator")
    ensure_administrator(username="admin", password="another long password", token="second", actor="operator")
    assert ask() == 401
    assert ask("second") == 200
    assert User.objects.get().check_password("another long password")
    assert list(LedgerEntry.objects.order_by("id").values_list("action", flat=True)) == [
        "person.create",
        "person.credentials",
    ]


def test_a_changed_token_alone_is_in_the_ledger_too() -> None:
    ensure_administrator(username="admin", password=PASSWORD, token=TOKEN, actor="operator")
    ensure_administrator(username="admin", password=PASSWORD, token="second", actor="operator")
    assert LedgerEntry.objects.filter(action="person.credentials").count() == 1


def test_the_command_prints_the_sign_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "ADMIN_PASSWORD", PASSWORD)
    monkeypatch.setitem(os.environ, "ADMIN_TOKEN", TOKEN)
    outputs: list[dict[str, Any]] = []
    for _ in range(2):
        out = StringIO()
        call_command("ensure_administrator", username="boss", stdout=out)
        outputs.append(json.loads(out.getvalue()))
    assert outputs == [{"username": "boss", "password": PASSWORD, "api_token": TOKEN}] * 2
    assert ask() == 200
