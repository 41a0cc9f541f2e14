"""The second step of a sign-in, who must have one, and showing again who one is."""

import re
import time
from io import StringIO
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal import auth as totp
from cryptography.fernet import InvalidToken
from django.conf import LazySettings
from django.core.management import CommandError, call_command
from django.test import Client

from audit.models import LedgerEntry
from iam.access import mfa
from iam.access.models import User
from iam.access.tests.factories import PASSWORD, make_person, make_token
from portal import attempts

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis_clean")]
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


@pytest.fixture(autouse=True)
def quick_hashes(settings: LazySettings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def client() -> Client:
    return Client(headers={"Accept-Language": "en"})


def code(secret: str = SECRET, *, steps: int = 0) -> str:
    """The code that an app with the secret shows, `steps` half minutes from now."""
    return str(totp.format_hotp_value(totp.hotp_value(secret, int(time.time()) // 30 + steps)))


def sign_in(client: Client, name: str = "ana", target: str = "") -> Any:
    return client.post("/sign-in/", {"username": name, "password": PASSWORD, "next": target})


def make_enrolled(name: str = "ana", **fields: Any) -> tuple[User, list[str]]:
    """A person with an app, whose code of half a minute ago is used, and the recovery codes."""
    user = make_person(name, **fields)
    return user, mfa.add_app(user=user, secret=SECRET, code=code(steps=-1))


def text(response: Any) -> str:
    return str(response.content, "utf-8")


# --- adding ------------------------------------------------------------------------------------------------


def test_an_app_is_added_with_a_code_and_recovery_codes_are_shown_once(client: Client) -> None:
    make_person()
    sign_in(client)
    page = text(client.get("/account/second-step/app/"))
    assert "<svg" in page
    assert "style=" not in page
    found = re.search(r"<code data-secret>([A-Z2-7 ]+)</code>", page)
    assert found
    secret = found[1].replace(" ", "")
    assert client.post("/account/second-step/app/", {"code": "000000"}).status_code == 422
    shown = text(client.post("/account/second-step/app/", {"code": code(secret)}))
    codes = re.findall(r"<code>(\d{12})</code>", shown)
    assert len(codes) == len(set(codes)) == 10
    listing = text(client.get("/account/second-step/"))
    assert "App with codes" in listing
    assert codes[0] not in listing
    stored = str(list(Authenticator.objects.values_list("data", flat=True)))
    assert secret not in stored
    assert codes[0] not in stored
    assert [entry.action for entry in LedgerEntry.objects.order_by("id")] == ["session.begin", "mfa.add"]
    assert secret.encode() not in b"".join(bytes(entry.body) for entry in LedgerEntry.objects.all())


def test_the_secret_of_the_page_is_new_each_time_it_is_opened(client: Client) -> None:
    make_person()
    sign_in(client)
    pages = {text(client.get("/account/second-step/app/")).split("data-secret>")[1][:30] for _ in range(2)}
    assert len(pages) == 2


# --- signing in --------------------------------------------------------------------------------------------


def test_the_password_alone_opens_nothing(client: Client) -> None:
    make_enrolled()
    first = sign_in(client, target="/agents/")
    assert first.headers["Location"] == "/sign-in/second-step/"
    assert client.get("/account/").status_code == 302
    assert client.get("/sign-in/second-step/").status_code == 200
    second = client.post("/sign-in/second-step/", {"code": code()})
    assert second.headers["Location"] == "/agents/"
    assert client.get("/account/").status_code == 200


def test_the_second_step_alone_opens_nothing(client: Client) -> None:
    make_enrolled()
    for response in (client.get("/sign-in/second-step/"), client.post("/sign-in/second-step/", {"code": code()})):
        assert response.headers["Location"] == "/sign-in/"
    assert client.get("/account/").status_code == 302


def test_a_code_counts_once(client: Client, redis_clean: str) -> None:
    make_enrolled()
    used = code()
    sign_in(client)
    assert client.post("/sign-in/second-step/", {"code": used}).status_code == 302
    other = Client(headers={"Accept-Language": "en"})
    sign_in(other)
    refused = other.post("/sign-in/second-step/", {"code": used})
    assert refused.status_code == 422
    assert "That is not right" in text(refused)
    assert other.post("/sign-in/second-step/", {"code": code(steps=-1)}).status_code == 422  # older than a used one


@pytest.mark.parametrize("wrong", ["", "000000", "12345", "x", "１２３４５６", "0" * 5000])
def test_a_wrong_code_opens_nothing(client: Client, wrong: str) -> None:
    make_enrolled()
    sign_in(client)
    assert client.post("/sign-in/second-step/", {"code": wrong}).status_code == 422
    assert client.post("/sign-in/second-step/", {"credential": wrong}).status_code == 422
    assert client.get("/account/").status_code == 302


def test_the_code_of_another_opens_nothing(client: Client) -> None:
    make_enrolled()
    other = make_person("eva")
    mfa.add_app(
        user=other, secret="KRSXG5CTMVRXEZLUKRSXG5CTMVRXEZLU", code=code("KRSXG5CTMVRXEZLUKRSXG5CTMVRXEZLU")
    )
    sign_in(client)
    wrong = code("KRSXG5CTMVRXEZLUKRSXG5CTMVRXEZLU", steps=1)
    assert client.post("/sign-in/second-step/", {"code": wrong}).status_code == 422


def test_a_recovery_code_opens_once_and_is_counted(client: Client) -> None:
    _user, codes = make_enrolled()
    sign_in(client)
    assert client.post("/sign-in/second-step/", {"code": f"{codes[0][:6]} {codes[0][6:]}"}).status_code == 302
    assert "9 codes are left" in text(client.get("/account/second-step/"))
    assert LedgerEntry.objects.filter(action="mfa.recovery-code").count() == 1
    other = Client()
    sign_in(other)
    assert other.post("/sign-in/second-step/", {"code": codes[0]}).status_code == 422
    assert other.post("/sign-in/second-step/", {"code": codes[1]}).status_code == 302


def test_the_second_step_is_locked_after_five_failures_for_the_person(client: Client) -> None:
    make_enrolled()
    sign_in(client)
    for _ in range(attempts.MOST_PER_NAME):
        assert client.post("/sign-in/second-step/", {"code": "000000"}).status_code == 422
    assert client.post("/sign-in/second-step/", {"code": code()}).status_code == 429
    other = Client()
    sign_in(other)
    assert other.post("/sign-in/second-step/", {"code": code()}).status_code == 429
    assert client.get("/account/").status_code == 302


def test_who_leaves_between_the_steps_stays_outside(client: Client) -> None:
    user, _codes = make_enrolled()
    sign_in(client)
    User.objects.filter(pk=user.pk).update(is_active=False)
    response = client.post("/sign-in/second-step/", {"code": code()})
    assert response.headers["Location"] == "/sign-in/?problem=refused"
    assert client.get("/account/").status_code == 302


def test_the_first_step_is_forgotten_after_a_quarter_of_an_hour(client: Client) -> None:
    make_enrolled()
    sign_in(client)
    session = client.session
    session["account_login"]["initiated_at"] -= 901
    session.save()
    assert client.post("/sign-in/second-step/", {"code": code()}).headers["Location"] == "/sign-in/"


@pytest.mark.parametrize("kind", ["service", "agent"])
def test_service_accounts_and_agents_cannot_sign_in(client: Client, kind: str) -> None:
    make_person("robot", kind=kind, owner=make_person("boss"))
    refused = sign_in(client, "robot")
    assert refused.status_code == 422
    assert "Name or password is wrong." in text(refused)


# --- who must have one -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("required", "staff", "led"),
    [("none", True, False), ("staff", False, False), ("staff", True, True), ("all", False, True)],
)
def test_who_must_have_a_second_step_is_led_to_it_first(
    client: Client, settings: LazySettings, required: str, staff: bool, led: bool
) -> None:
    settings.MFA_REQUIRED = required
    make_person(is_staff=staff, is_superuser=staff)
    sign_in(client)
    for path in ("/account/", "/admin/", "/account/tokens/"):
        response = client.get(path)
        assert response.headers.get("Location", "").startswith("/account/second-step/") == led, path
    assert (client.get("/api/v1/units/").status_code == 403) == led
    assert ("HX-Redirect" in client.get("/account/", headers={"HX-Request": "true"}).headers) == led
    assert ("Add a second step to your sign-in" in text(client.get("/account/second-step/"))) == led


def test_who_has_added_one_goes_on_and_cannot_remove_the_last(client: Client, settings: LazySettings) -> None:
    settings.MFA_REQUIRED = "all"
    make_person()
    sign_in(client)
    page = text(client.get("/account/second-step/app/"))
    secret = page.split("data-secret>")[1].split("<")[0].replace(" ", "")
    client.post("/account/second-step/app/", {"code": code(secret)})
    assert client.get("/account/").status_code == 200
    step = Authenticator.objects.get(type="totp")
    refused = client.post(f"/account/second-step/{step.pk}/remove/")
    assert refused.status_code == 422
    assert "Add another before you remove this one" in text(refused)
    settings.MFA_REQUIRED = "none"
    assert client.post(f"/account/second-step/{step.pk}/remove/").status_code == 302
    assert not Authenticator.objects.exists()
    settings.MFA_REQUIRED = "all"
    assert client.get("/account/").status_code == 302


def test_a_token_of_the_api_needs_no_second_step(settings: LazySettings) -> None:
    settings.MFA_REQUIRED = "all"
    make_token(make_person())
    answer = Client().get("/api/v1/units/", headers={"Authorization": "Bearer token-of-the-tests"})
    assert answer.status_code == 200


def test_nobody_removes_the_second_step_of_another(client: Client) -> None:
    make_enrolled("eva")
    step = Authenticator.objects.get(type="totp")
    make_person()
    sign_in(client)
    assert client.post(f"/account/second-step/{step.pk}/remove/").status_code == 404
    assert Authenticator.objects.filter(pk=step.pk).exists()


# --- showing again who one is ------------------------------------------------------------------------------


def age(client: Client, seconds: int = 601) -> None:
    """Let the last confirmation be that old."""
    session = client.session
    session["confirmed_at"] -= seconds
    session.save()


DANGEROUS = [
    "/account/second-step/app/", "/account/second-step/key/", "/account/second-step/codes/", "/account/tokens/",
    "/account/email/", "/account/password/", "/account/invitations/",
]  # fmt: skip


@pytest.mark.parametrize("path", DANGEROUS)
def test_a_dangerous_act_asks_again_who_one_is(client: Client, path: str) -> None:
    make_person(role="administrator")
    sign_in(client)
    assert client.get(path).status_code != 302 or "confirm" not in client.get(path).headers["Location"]
    age(client)
    for response in (client.get(path), client.post(path)):
        assert response.headers["Location"].startswith("/account/confirm/?next=%2Faccount%2F")
    assert client.post("/account/confirm/", {"password": "wrong", "next": path}).status_code == 422
    assert client.get(path).status_code == 302
    assert client.post("/account/confirm/", {"password": PASSWORD, "next": path}).headers["Location"] == path


def test_who_has_a_second_step_confirms_by_it_and_not_by_the_password(client: Client) -> None:
    _user, codes = make_enrolled()
    sign_in(client)
    client.post("/sign-in/second-step/", {"code": code()})
    age(client)
    page = text(client.get("/account/confirm/"))
    assert 'name="password"' not in page
    assert client.post("/account/confirm/", {"password": PASSWORD}).status_code == 422
    assert client.get("/account/second-step/codes/").status_code == 302
    assert client.post("/account/confirm/", {"code": codes[0]}).status_code == 302
    assert client.get("/account/second-step/codes/").status_code == 200


def test_new_recovery_codes_replace_the_old_ones(client: Client) -> None:
    user, old = make_enrolled()
    sign_in(client)
    client.post("/sign-in/second-step/", {"code": code()})
    new = re.findall(r"<code>(\d{12})</code>", text(client.post("/account/second-step/codes/")))
    assert len(new) == 10
    assert not set(old) & set(new)
    with pytest.raises(mfa.WrongAnswerError):
        mfa.accept_code(user=user, code=old[5])
    mfa.accept_code(user=user, code=new[5])


def test_a_confirmation_is_guessed_five_times_at_most(client: Client) -> None:
    make_person()
    sign_in(client)
    age(client)
    for _ in range(attempts.MOST_PER_NAME):
        client.post("/account/confirm/", {"password": "wrong"})
    assert client.post("/account/confirm/", {"password": PASSWORD}).status_code == 429


def test_the_operator_removes_what_somebody_has_lost(client: Client) -> None:
    make_enrolled()
    sign_in(client)
    client.post("/sign-in/second-step/", {"code": code()})
    call_command("forget_second_steps", "ana", stdout=StringIO())
    assert client.get("/account/").status_code == 302
    assert sign_in(client).headers["Location"] == "/"
    assert LedgerEntry.objects.filter(action="mfa.forget", actor="operator").count() == 1
    with pytest.raises(CommandError):
        call_command("forget_second_steps", "nobody")


def test_secrets_are_read_under_a_former_key_only_while_it_is_named(settings: LazySettings) -> None:
    user, codes = make_enrolled()
    former, settings.SECRET_KEY = settings.SECRET_KEY, "n" * 60
    settings.SECRET_KEY_FALLBACKS = [former]
    mfa.accept_code(user=user, code=codes[0])
    settings.SECRET_KEY_FALLBACKS = []
    with pytest.raises(InvalidToken):
        mfa.accept_code(user=user, code=codes[1])
