"""Keys, codes and the pages about oneself, as a person with a browser meets them."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal import auth as totp
from allauth.usersessions.models import UserSession
from playwright.sync_api import CDPSession, Page, expect

from iam.access import mail
from iam.access.models import AccessRole, RoleBinding, User
from iam.access.tests.factories import PASSWORD, make_person, make_token
from portal.tests.browser.conftest import Person
from portal.tests.browser.test_screens import assert_fits, assert_no_barrier

pytestmark = pytest.mark.browser

PAGES = [
    "/account/", "/account/email/", "/account/password/", "/account/second-step/", "/account/second-step/app/",
    "/account/second-step/key/", "/account/second-step/key/?kind=passkey", "/account/second-step/codes/",
    "/account/sessions/", "/account/tokens/", "/account/invitations/", "/account/mail/", "/account/confirm/",
]  # fmt: skip
STRANGERS = ["/sign-in/", "/sign-in/reset/", "/sign-in/invitation/nothing/"]


class Key:
    """The virtual authenticator of a browser."""

    def __init__(self, person: Person, *, passkeys: bool) -> None:
        self.session: CDPSession = person.context.new_cdp_session(person.page)
        self.session.send("WebAuthn.enable")
        made = self.session.send(
            "WebAuthn.addVirtualAuthenticator",
            {
                "options": {
                    "protocol": "ctap2",
                    "transport": "internal" if passkeys else "usb",
                    "hasResidentKey": passkeys,
                    "hasUserVerification": passkeys,
                    "isUserVerified": passkeys,
                    "automaticPresenceSimulation": True,
                }
            },
        )
        self.id: str = made["authenticatorId"]

    def is_lost(self) -> None:
        """Take the key away."""
        self.session.send("WebAuthn.removeVirtualAuthenticator", {"authenticatorId": self.id})

    def credentials(self) -> list[Any]:
        found: list[Any] = self.session.send("WebAuthn.getCredentials", {"authenticatorId": self.id})["credentials"]
        return found


def sign_out(person: Person) -> Page:
    person.context.clear_cookies()
    person.choose()
    return person.visit("/sign-in/")


def give_password(page: Page) -> None:
    page.fill("[name=username]", "ana")
    page.fill("[name=password]", PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()


def add_key(person: Person, name: str, *, kind: str = "") -> None:
    page = person.visit(f"/account/second-step/key/{kind}")
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Add").click()


@pytest.fixture
def english(person: Person) -> Iterator[Person]:
    person.choose()
    yield person
    assert person.complaints == []


def test_a_security_key_is_the_second_step_until_it_is_removed(english: Person) -> None:
    key = Key(english, passkeys=False)
    add_key(english, "Blue key")
    page = english.page
    expect(page.locator(".codes li")).to_have_count(10)
    page.get_by_role("link", name="I have them").click()
    expect(page.locator("tbody")).to_contain_text("Blue key")
    assert len(key.credentials()) == 1

    give_password(sign_out(english))
    page.wait_for_url("**/sign-in/second-step/")
    assert_no_barrier(page)
    english.complaints.clear()  # axe provokes the policy on styles
    page.get_by_role("button", name="Use a key").click()
    page.wait_for_url(f"{english.portal.url}/")
    assert Authenticator.objects.get(type="webauthn").last_used_at is not None

    english.visit("/account/second-step/").get_by_role("link", name="Remove Security key Blue key").click()
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_text("Your password alone opens your account.")).to_be_visible()
    give_password(sign_out(english))
    page.wait_for_url(f"{english.portal.url}/")


def test_a_key_of_somebody_else_opens_nothing(english: Person) -> None:
    key = Key(english, passkeys=False)
    add_key(english, "Blue key")
    expect(english.page.locator(".codes li")).to_have_count(10)
    key.is_lost()
    Key(english, passkeys=False)
    page = sign_out(english)
    give_password(page)
    page.wait_for_url("**/sign-in/second-step/")
    page.get_by_role("button", name="Use a key").click()
    page.wait_for_timeout(1500)
    assert page.url.endswith("/sign-in/second-step/")
    assert english.visit("/account/").url.endswith("/sign-in/?next=/account/")


def test_a_passkey_signs_in_by_itself(english: Person) -> None:
    Key(english, passkeys=True)
    add_key(english, "This computer", kind="?kind=passkey")
    page = english.page
    page.get_by_role("link", name="I have them").click()
    sign_out(english)
    page.get_by_role("button", name="Sign in with a passkey").click()
    page.wait_for_url(f"{english.portal.url}/")
    expect(page.get_by_role("link", name="ana", exact=True)).to_be_visible()


def test_a_passkey_of_who_has_left_opens_nothing(english: Person) -> None:
    Key(english, passkeys=True)
    add_key(english, "This computer", kind="?kind=passkey")
    expect(english.page.locator(".codes li")).to_have_count(10)
    User.objects.filter(username="ana").update(is_active=False)
    page = sign_out(english)
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect(page.get_by_role("alert")).to_contain_text("may not sign in here")


def test_an_app_is_added_from_the_picture_and_asked_at_sign_in(english: Person) -> None:
    page = english.visit("/account/second-step/app/")
    assert page.locator(".qr svg path").count() == 1
    secret = page.locator("[data-secret]").inner_text().replace(" ", "")

    def code(steps: int) -> str:
        return str(totp.format_hotp_value(totp.hotp_value(secret, int(time.time()) // 30 + steps)))

    page.get_by_role("textbox", name="Code").fill(code(-1))
    page.get_by_role("button", name="Add").click()
    expect(page.locator(".codes li")).to_have_count(10)
    give_password(sign_out(english))
    page.wait_for_url("**/sign-in/second-step/")
    page.get_by_label("Code of the app, or a recovery code").fill(code(0))
    page.get_by_role("button", name="Go on").click()
    page.wait_for_url(f"{english.portal.url}/")


def test_every_page_about_oneself_fits_without_a_complaint_or_barrier(person: Person) -> None:
    ana = User.objects.get(username="ana")
    RoleBinding.objects.create(user=ana, role=AccessRole.objects.get(slug="administrator"))
    make_token(ana)
    make_person("eva", email="eva@example.com")
    UserSession.objects.create(user=ana, ip="2001:db8::1", session_key="x" * 32, user_agent="Mozilla/5.0 " * 12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("django.conf.settings.EMAIL_BACKEND", "iam.access.mail.FolderBackend")
        mail.send(
            to="eva@example.com", language="es", template="reset", context={"address": "http://x/" + "y" * 120}
        )
    message = f"/account/mail/{mail.kept()[0].name}/"
    try:
        for theme, width in (("light", 1440), ("dark", 320)):
            person.choose(theme=theme)
            person.page.set_viewport_size({"width": width, "height": 900})
            for path in [*PAGES, message]:
                page = person.visit(path)
                assert page.locator("h1").count() == 1, path
                assert_fits(page, width)
                assert person.complaints == [], path
                assert_no_barrier(page)
                person.complaints.clear()  # axe provokes the policy on styles
            person.context.clear_cookies()
            person.choose(theme=theme)
            for path in STRANGERS:
                page = person.visit(path)
                assert_fits(page, width)
                assert [one for one in person.complaints if "410" not in one] == [], path
                assert_no_barrier(page)
                person.complaints.clear()
            person.sign_in()
    finally:
        (mail._folder() / f"{mail.kept()[0].name}{mail.SUFFIX}").unlink()
