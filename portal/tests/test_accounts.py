"""New passwords, invitations, one's own profile and tokens, and the mail that brings links."""

import json
import re
import smtplib
import socket
import stat
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from audit.models import LedgerEntry
from holding.models import Unit
from holding.scope import EVERYTHING, opened, show
from holding.tests.factories import make_holding
from iam.access import invitations, mail, passwords
from iam.access.models import AccessRole, ApiToken, Invitation, RoleBinding, User
from iam.access.tests.factories import PASSWORD, make_person
from portal import attempts
from portal.tests.worker import work

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis_clean")]
NEW = "another long enough secret"


@pytest.fixture(autouse=True)
def folder(settings: LazySettings, tmp_path: Path) -> Path:
    """Mail in a folder of the test, and hashes that are quick."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.EMAIL_BACKEND = "iam.access.mail.FolderBackend"
    settings.MAIL_DIR = tmp_path / "mail"
    return tmp_path / "mail"


@pytest.fixture
def client() -> Client:
    return Client(headers={"Accept-Language": "en"})


def sign_in(name: str = "ana", password: str = PASSWORD) -> Client:
    client = Client(headers={"Accept-Language": "en"})
    client.post("/sign-in/", {"username": name, "password": password})
    return client


def is_in(client: Client) -> bool:
    return client.get("/account/").status_code == 200


def text(response: Any) -> str:
    return str(response.content, "utf-8")


def link() -> str:
    """The path of the link in the newest mail."""
    found = re.search(r"http://localhost:8000(/\S+)", mail.kept()[0].text)
    assert found
    return found[1]


def bind(user: User, role: str = "administrator", unit: Unit | None = None) -> None:
    RoleBinding.objects.create(user=user, role=AccessRole.objects.get(slug=role), unit=unit)


@pytest.fixture
def gate(settings: LazySettings) -> Iterator[None]:
    """As in the web process, where only the gate opens rows."""
    settings.SCOPE = "nothing"
    yield
    settings.SCOPE = "everything"
    show(EVERYTHING)


# --- a new password ----------------------------------------------------------------------------------------


def ask_for_link(client: Client, email: str = "ana@example.com") -> Any:
    response = client.post("/sign-in/reset/", {"email": email})
    work()
    return response


def test_a_link_brings_a_new_password_once_and_ends_all_sessions(client: Client) -> None:
    make_person(email="Ana@example.com", language="es")
    former = sign_in()
    assert ask_for_link(client).status_code == 200
    message = mail.kept()[0]
    assert (message.to, message.subject) != ("", "")
    path = link()
    moved = client.get(path)
    assert moved.headers["Location"] == "/sign-in/reset/new/"
    assert client.post("/sign-in/reset/new/", {"password": "short", "again": "short"}).status_code == 422
    assert client.post("/sign-in/reset/new/", {"password": NEW, "again": "other"}).status_code == 422
    assert client.post("/sign-in/reset/new/", {"password": NEW, "again": NEW}).status_code == 200
    assert not is_in(former)
    assert not is_in(client)
    assert not is_in(sign_in())
    assert is_in(sign_in(password=NEW))
    for again in (client, Client()):
        assert again.get(path).headers["Location"] == "/sign-in/?problem=expired"
        assert again.get("/sign-in/reset/new/").status_code == 302
    entries = LedgerEntry.objects.order_by("id").values_list("action", flat=True)
    assert list(entries) == ["session.begin", "person.credentials", "session.end", "session.begin"]


def test_the_answer_is_the_same_whether_somebody_has_the_address_or_not(client: Client) -> None:
    make_person(email="ana@example.com")
    make_person("left", email="left@example.com", is_active=False)
    make_person("robot", email="robot@example.com", kind="service", owner=User.objects.get(username="ana"))
    eva = make_person("eva", email="eva@example.com")
    eva.set_unusable_password()
    eva.save()
    answers = set()
    for name in ("ana", "nobody", "left", "robot", "eva"):
        response = client.post("/sign-in/reset/", {"email": f"{name}@example.com"})
        answers.add((response.status_code, text(response).replace(name, "").split("csrfmiddlewaretoken")[0]))
    assert len(answers) == 1
    assert mail.kept() == []  # nothing is sent by the request itself: it takes the same time for everybody
    assert work() == 5
    assert [message.to for message in mail.kept()] == ["ana@example.com"]


def test_a_link_is_asked_for_five_times_at_most(client: Client) -> None:
    make_person(email="ana@example.com")
    for _ in range(attempts.MOST_PER_NAME):
        assert ask_for_link(client).status_code == 200
    assert ask_for_link(client).status_code == 429
    assert ask_for_link(client, "nobody@example.com").status_code == 200
    assert len(mail.kept()) == attempts.MOST_PER_NAME


def test_a_link_expires_after_an_hour(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    make_person(email="ana@example.com")
    ask_for_link(client)
    now = PasswordResetTokenGenerator()._now
    monkeypatch.setattr(PasswordResetTokenGenerator, "_now", lambda self: now() + timedelta(seconds=3602))
    assert client.get(link()).headers["Location"] == "/sign-in/?problem=expired"


def test_a_tampered_link_and_that_of_another_open_nothing(client: Client) -> None:
    make_person(email="ana@example.com")
    make_person("eva", email="eva@example.com")
    ask_for_link(client)
    number, token = link().split("/")[3:5]
    ask_for_link(client, "eva@example.com")
    other = link().split("/")[3]
    for wrong in (f"{other}/{token}", f"{number}/{token[:-1]}x", f"x/{token}", f"{'9' * 40}/{token}", f"é/{token}"):
        assert client.get(f"/sign-in/reset/{wrong}/").headers["Location"] == "/sign-in/?problem=expired"


def test_a_link_counts_no_more_after_a_sign_in_or_when_the_person_has_left(client: Client) -> None:
    make_person(email="ana@example.com")
    ask_for_link(client)
    path = link()
    sign_in()
    assert client.get(path).headers["Location"] == "/sign-in/?problem=expired"
    ask_for_link(client)
    User.objects.update(is_active=False)
    assert client.get(link()).headers["Location"] == "/sign-in/?problem=expired"


def test_two_uses_at_once_are_one() -> None:
    make_person(email="ana@example.com")
    passwords.send_reset_link(email="ana@example.com", language="en")
    number, token = link().split("/")[3:5]
    assert passwords.reset_password(number=number, token=token, password=NEW) is not None
    assert passwords.reset_password(number=number, token=token, password=PASSWORD) is None


def test_an_invitation_for_a_unit_is_accepted_by_a_stranger(client: Client, gate: None) -> None:
    with opened(EVERYTHING):
        make_holding(subsidiaries=("pricing", "tax"))
        boss, pricing = make_person("boss", role=""), Unit.objects.get(slug="pricing")
        bind(boss, unit=pricing)
        _sent, token = invitations.invite_person(
            email="noa@example.com", role=AccessRole.objects.get(slug="viewer"), unit=pricing, invited_by=boss
        )
    told = {"username": "noa", "first_name": "Noa", "last_name": "N", "password": NEW, "again": NEW}
    accepted = client.post(reverse("invitation", args=[token]), told)
    assert accepted.status_code == 200
    with opened(EVERYTHING):
        binding = RoleBinding.objects.select_related("unit").get(user__username="noa")
        assert binding.namespace == "subs-pricing"


# --- invitations -------------------------------------------------------------------------------------------


@pytest.fixture
def boss() -> User:
    boss = make_person("boss", first_name="Bea")
    bind(boss)
    return boss


def invite(role: str = "auditor", **fields: Any) -> Any:
    data = {"email": "new@example.com", "first_name": "Noa", "role": role, "language": "en", **fields}
    return sign_in("boss").post("/account/invitations/", data)


ACCEPTED = {"username": "noa", "first_name": "Noa", "last_name": "Sol", "password": NEW, "again": NEW}


@pytest.mark.usefixtures("boss")
def test_an_invited_person_chooses_name_and_password_and_has_the_role(client: Client) -> None:
    make_holding(subsidiaries=("pricing",))
    assert invite(unit="pricing").status_code == 302
    path = link()
    assert Invitation.objects.get().digest not in path
    assert path.split("/")[3] not in str(list(Invitation.objects.values()))
    assert path.split("/")[3].encode() not in b"".join(bytes(entry.body) for entry in LedgerEntry.objects.all())
    assert "Noa" in text(client.get(path))
    assert client.post(path, {**ACCEPTED, "password": "short", "again": "short"}).status_code == 422
    assert client.post(path, {**ACCEPTED, "username": "BOSS"}).status_code == 422
    assert client.post(path, ACCEPTED).status_code == 200
    noa = User.objects.get(username="noa")
    assert (noa.email, noa.cleared, noa.is_staff, noa.language) == ("new@example.com", True, False, "en")
    binding = RoleBinding.objects.get(user=noa)
    assert (binding.role.slug, binding.namespace) == ("auditor", "subs-pricing")
    assert binding.granted_by == User.objects.get(username="boss")
    assert is_in(sign_in("noa", NEW))
    assert client.get(path).status_code == 410
    assert client.post(path, {**ACCEPTED, "username": "second"}).status_code == 410


@pytest.mark.usefixtures("boss")
@pytest.mark.parametrize("why", ["expired", "revoked", "tampered", "inviter left", "inviter lost", "taken"])
def test_an_invitation_that_counts_no_more_creates_nobody(client: Client, why: str) -> None:
    invite()
    path = link()
    if why == "expired":
        Invitation.objects.update(expires_at=timezone.now())
    elif why == "revoked":
        sign_in("boss").post(f"/account/invitations/{Invitation.objects.get().pk}/revoke/")
    elif why == "tampered":
        path = path[:-2] + ("A/" if path[-2] != "A" else "B/")
    elif why == "inviter left":
        User.objects.filter(username="boss").update(is_active=False)
    elif why == "inviter lost":
        RoleBinding.objects.update(revoked_at=timezone.now())
    else:
        make_person("other", email="NEW@example.com")
    assert client.post(path, ACCEPTED).status_code == 410
    assert not User.objects.filter(username="noa").exists()


@pytest.mark.usefixtures("boss")
def test_a_second_invitation_replaces_the_first(client: Client) -> None:
    invite()
    first = link()
    invite(email="NEW@example.com")
    assert client.get(first).status_code == 410
    assert client.get(link()).status_code == 200


@pytest.mark.usefixtures("boss")
def test_who_is_here_is_not_invited_again() -> None:
    make_person("other", email="New@example.com")
    refused = invite()
    assert refused.status_code == 422
    assert "Somebody has this e-mail address already." in text(refused)


def test_only_who_manages_people_invites_and_gives_no_more_than_they_have() -> None:
    make_person()
    assert sign_in().get("/account/invitations/").status_code == 403
    assert sign_in().post("/account/invitations/1/revoke/").status_code == 403
    limited = make_person("limited")
    role = AccessRole.objects.create(slug="people", name_es="p", name_en="p", permissions=["people.manage"])
    RoleBinding.objects.create(user=limited, role=role)
    for asked in (role, AccessRole.objects.get(slug="administrator")):  # of neither could they make a binding
        with pytest.raises(invitations.InvitationError):
            invitations.invite_person(email="x@example.com", role=asked, unit=None, invited_by=limited)
    invitations.invite_person(email="x@example.com", role=None, unit=None, invited_by=limited)
    RoleBinding.objects.create(
        user=limited,
        role=AccessRole.objects.create(slug="gives", name_es="g", name_en="g", permissions=["bindings.grant"]),
    )
    invitations.invite_person(email="x@example.com", role=role, unit=None, invited_by=limited)
    with pytest.raises(invitations.InvitationError, match=r"admin\.use, agents\.enrol, authority\.manage"):
        invitations.invite_person(
            email="y@example.com", role=AccessRole.objects.get(slug="administrator"), unit=None, invited_by=limited
        )


@pytest.mark.usefixtures("boss")
def test_each_binding_has_a_ledger_entry_of_the_same_form(client: Client) -> None:
    make_holding(subsidiaries=("pricing",))
    invite(unit="pricing")
    client.post(link(), ACCEPTED)
    entry = LedgerEntry.objects.get(action="binding.grant")
    reason = f"invitation/{Invitation.objects.get().pk}"
    assert json.loads(bytes(entry.body))["details"] == {
        "role": "auditor",
        "where": "subs-pricing",
        "reason": reason,
    }
    assert entry.after
    invite(email="whole@example.com", unit="corporate")
    client.post(link(), {**ACCEPTED, "username": "whole"})
    assert RoleBinding.objects.get(user__username="whole").unit is None  # the parent company is the whole holding


def test_a_permission_about_the_holding_that_is_bound_for_a_unit_opens_no_page(client: Client) -> None:
    make_holding(subsidiaries=("pricing",))
    role = AccessRole.objects.create(
        slug="part", name_es="p", name_en="p", permissions=["people.manage", "mail.view", "units.view"]
    )
    part = make_person("part", role="")
    RoleBinding.objects.create(user=part, role=role, unit=Unit.objects.get(slug="pricing"))
    inside = sign_in("part")
    page = text(inside.get("/account/"))
    assert "Invitations" not in page
    assert "Outgoing mail" not in page
    form = text(inside.get("/account/tokens/"))
    assert 'value="units.view"' in form
    assert 'value="people.manage"' not in form


# --- one's own profile and tokens --------------------------------------------------------------------------


def test_the_profile_is_ones_own(client: Client) -> None:
    make_person()
    ana = sign_in()
    form = {"first_name": "Ana", "last_name": "Ríos", "language": "en", "time_zone": "Europe/Madrid"}
    changed = ana.post("/account/", {**form, "is_superuser": "1", "cleared": "", "email": "x@example.com"})
    assert changed.cookies["language"].value == "en"
    user = User.objects.get()
    assert (user.name, user.time_zone, user.email, user.is_superuser) == ("Ana Ríos", "Europe/Madrid", "", False)
    assert user.cleared
    assert ana.post("/account/", {**form, "time_zone": "Mars/Olympus"}).status_code == 422
    assert LedgerEntry.objects.filter(action="person.profile").count() == 1


def test_another_address_is_taken_when_its_link_is_confirmed() -> None:
    make_person(email="ana@example.com")
    make_person("eva")
    ana = sign_in()
    ana.post("/account/email/", {"email": "new@example.com"})
    assert mail.kept()[0].to == "new@example.com"
    path = link()
    assert User.objects.get(username="ana").email == "ana@example.com"
    assert sign_in("eva").post(path).status_code == 410
    assert Client().post(path).status_code == 302
    assert "new@example.com" in text(ana.get(path))
    assert User.objects.get(username="ana").email == "ana@example.com"
    assert ana.post(path).status_code == 302
    assert User.objects.get(username="ana").email == "new@example.com"
    assert ana.post(path).status_code == 410
    assert ana.get(path[:-3] + "xx/").status_code == 410


def test_an_address_that_somebody_has_is_refused_only_to_who_reads_its_mail() -> None:
    make_person(email="ana@example.com")
    make_person("eva", email="eva@example.com")
    ana = sign_in()
    assert ana.post("/account/email/", {"email": "EVA@example.com"}).status_code == 302
    assert ana.post(link()).status_code == 410


def test_tokens_of_ones_own_are_issued_shown_once_and_revoked() -> None:
    make_person()
    make_holding(subsidiaries=("pricing",))
    ana = sign_in()
    form = {"name": "script", "days": "30", "unit": "pricing", "permissions": ["units.view"]}
    found = re.search(r"<code data-token>([^<]+)</code>", text(ana.post("/account/tokens/", form)))
    assert found
    token = ApiToken.objects.get()
    assert (token.permissions, token.unit.slug if token.unit else "") == (["units.view"], "pricing")
    assert token.expires_at is not None
    assert timedelta(days=29) < token.expires_at - timezone.now() <= timedelta(days=30)
    assert Client().get("/api/v1/units/", headers={"Authorization": f"Bearer {found[1]}"}).status_code == 200
    page = text(ana.get("/account/tokens/"))
    assert found[1] not in page
    assert "script" in page
    assert ana.post("/account/tokens/", form).status_code == 422
    make_person("eva")
    assert sign_in("eva").post(f"/account/tokens/{token.pk}/revoke/").status_code == 404
    ana.post(f"/account/tokens/{token.pk}/revoke/")
    assert Client().get("/api/v1/units/", headers={"Authorization": f"Bearer {found[1]}"}).status_code == 401


@pytest.mark.parametrize(
    "change", [{"days": "366"}, {"days": "0"}, {"permissions": ["roles.manage"]}, {"unit": "mars"}, {"name": ""}]
)
def test_a_token_is_good_for_a_year_and_for_what_one_may_at_most(change: dict[str, Any]) -> None:
    bind(make_person(), "viewer")
    form = {"name": "script", "days": "30", "permissions": ["units.view"], **change}
    assert sign_in().post("/account/tokens/", form).status_code == 422
    assert not ApiToken.objects.exists()


def test_a_token_for_a_unit_opens_what_one_holds_there_and_says_what_is_missing() -> None:
    make_holding(subsidiaries=("pricing", "tax"))
    pricing, tax = Unit.objects.get(slug="pricing"), Unit.objects.get(slug="tax")
    ana = make_person(role="")
    bind(ana, "viewer", pricing)
    bind(ana, "executive", tax)
    form = {"name": "script", "days": "30", "unit": "pricing", "permissions": ["units.view", "exports.create"]}
    refused = sign_in().post("/account/tokens/", form)
    assert refused.status_code == 422
    assert "ana does not hold there: exports.create." in text(refused)
    assert 'value="script"' in text(refused)
    assert sign_in().post("/account/tokens/", {**form, "unit": "tax"}).status_code == 200
    assert ApiToken.objects.get().unit == tax


# --- mail --------------------------------------------------------------------------------------------------


def test_kept_mail_is_readable_only_by_its_machine_and_who_may_view_it(folder: Path) -> None:
    mail.send(to="x@example.com", language="en", template="reset", context={"name": "<b>", "address": "http://a/b"})
    (path,) = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    make_person()
    bind(make_person("boss"))
    name = mail.kept()[0].name
    for address in ("/account/mail/", f"/account/mail/{name}/"):
        assert sign_in().get(address).status_code == 403
    boss = sign_in("boss")
    assert "A new password" in text(boss.get("/account/mail/"))
    page = text(boss.get(f"/account/mail/{name}/"))
    assert "&lt;b&gt;" in page
    assert 'href="http://a/b"' in page
    for wrong in ("..", "x", "%2e%2e%2fenv", "0" * 19 + "-deadbeef"):
        assert boss.get(f"/account/mail/{wrong}/").status_code == 404, wrong


def test_only_the_newest_messages_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail, "MOST_KEPT", 3)
    for number in range(5):
        mail.send(to=f"x{number}@example.com", language="en", template="email", context={})
    assert [message.to for message in mail.kept()] == ["x4@example.com", "x3@example.com", "x2@example.com"]


def test_a_name_with_a_line_break_adds_no_header(folder: Path) -> None:
    with pytest.raises(ValueError, match="newlines"):
        mail.send(to="x@example.com\nBcc: all@example.com", language="en", template="email", context={})


@pytest.fixture
def smtp() -> Iterator[tuple[int, list[str]]]:
    """A server that speaks SMTP: its port and the lines that it was told."""
    told: list[str] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _address = listener.accept()
        with connection, connection.makefile("rw", newline="\r\n") as file:
            answers = {"EHLO": "250 tests", "MAIL": "250 ok", "RCPT": "250 ok", "DATA": "354 go on"}
            file.write("220 tests\n")
            file.flush()
            inside = False
            for line in file:
                told.append(line.rstrip("\r\n"))
                if inside and told[-1] != ".":
                    continue
                file.write(("250 kept" if inside else answers.get(line[:4].upper(), "221 bye")) + "\n")
                file.flush()
                inside = told[-1].upper() == "DATA"

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1], told
    listener.close()


def test_a_mail_server_is_spoken_to(smtp: tuple[int, list[str]], settings: LazySettings) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", smtp[0]
    mail.send(to="x@example.com", language="en", template="email", context={"address": "http://a/b"})
    assert "rcpt TO:<x@example.com>" in "\n".join(smtp[1])
    assert "http://a/b" in smtp[1]


@pytest.mark.usefixtures("boss")
def test_a_mail_server_that_is_away_is_told_and_nothing_is_half_done(settings: LazySettings) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    refused = invite()
    assert refused.status_code == 422
    assert "mail server gave no answer" in text(refused)
    assert not invitations.open_invitations().exists()
    with pytest.raises((OSError, smtplib.SMTPException)):
        mail.send(to="x@example.com", language="en", template="email", context={})
