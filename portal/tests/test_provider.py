"""Sign-in by an identity provider: a real one, started here, with its redirects followed as a browser does."""

import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from allauth.mfa.totp.internal import auth as totp
from allauth.socialaccount.models import SocialAccount
from django.conf import LazySettings
from django.test import Client

from audit.models import LedgerEntry
from holding.models import Unit
from holding.tests.factories import make_holding
from iam.access import mfa
from iam.access.models import AccessRole, GroupMapping, RoleBinding, User
from iam.access.tests.factories import make_person
from portal.tests.identity_provider import RunningProvider

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis_clean")]

EVA: dict[str, Any] = {
    "sub": "eva-1",
    "email": "eva@example.com",
    "email_verified": True,
    "preferred_username": "eva",
    "given_name": "Eva",
    "family_name": "Luna",
    "groups": ["holding-auditors"],
}


@pytest.fixture(scope="module")
def process() -> Iterator[RunningProvider]:
    with RunningProvider() as running:
        yield running


@pytest.fixture
def provider(process: RunningProvider, settings: LazySettings) -> RunningProvider:
    settings.OIDC_NAME, settings.OIDC_ISSUER = "Example", process.issuer
    app = {
        "provider_id": "provider",
        "name": "Example",
        "client_id": process.client,
        "secret": process.secret,
        "settings": {"server_url": process.issuer},
    }
    kind = settings.SOCIALACCOUNT_PROVIDERS["openid_connect"]
    settings.SOCIALACCOUNT_PROVIDERS = {"openid_connect": {**kind, "APPS": [app]}}
    process.stand_before(**EVA)
    return process


@pytest.fixture
def auditors() -> GroupMapping:
    return GroupMapping.objects.create(group="holding-auditors", role=AccessRole.objects.get(slug="auditor"))


@pytest.fixture
def client() -> Client:
    return Client(headers={"Accept-Language": "en"})


def begin(client: Client, target: str = "", **query: str) -> str:
    """Return the address of the provider to which the browser is sent."""
    begun = client.get("/sign-in/provider/", {**query, **({"next": target} if target else {})})
    assert begun.status_code == 302, begun.content
    return begun.headers["Location"]


def to_provider(client: Client, target: str = "", **query: str) -> str:
    """Go to the provider and return the address to which it sends the browser back."""
    answer = requests.get(begin(client, target, **query), allow_redirects=False, timeout=5)
    assert answer.status_code == 302, answer.text
    back = urlsplit(answer.headers["Location"])
    assert back.path == "/sign-in/oidc/provider/callback/"
    return f"{back.path}?{back.query}"


def sign_in(client: Client, target: str = "", **query: str) -> Any:
    return client.get(to_provider(client, target, **query))


def bindings() -> set[tuple[str, str]]:
    return {(row.role.slug, row.namespace) for row in RoleBinding.objects.in_force().select_related("role", "unit")}


def test_the_button_is_there_only_with_a_provider(client: Client) -> None:
    assert b"Sign in with" not in client.get("/sign-in/").content.replace(b"Sign in with a passkey", b"")
    assert client.get("/sign-in/provider/").status_code == 404


@pytest.mark.usefixtures("provider", "auditors")
def test_a_new_person_is_created_with_the_roles_of_the_groups(client: Client) -> None:
    assert b"Sign in with Example" in client.get("/sign-in/").content
    response = sign_in(client, "/account/")
    assert response.headers["Location"] == "/account/"
    eva = User.objects.get(username="eva")
    assert (eva.name, eva.email, eva.cleared, eva.has_usable_password()) == (
        "Eva Luna", "eva@example.com", True, False,
    )  # fmt: skip
    assert bindings() == {("auditor", "holding")}
    assert RoleBinding.objects.get().source == RoleBinding.Source.CLAIM
    assert client.get("/account/").status_code == 200
    actions = list(LedgerEntry.objects.order_by("id").values_list("action", flat=True))
    assert actions == ["person.create", "person.identity", "binding.grant", "person.update", "session.begin"]
    granted = json.loads(bytes(LedgerEntry.objects.get(action="binding.grant").body))["details"]
    assert granted == {"role": "auditor", "where": "holding", "reason": "holding-auditors"}
    assert "identity provider" in str(client.get("/account/sessions/").content, "utf-8")


@pytest.mark.usefixtures("provider")
def test_without_a_mapped_group_there_is_no_clearance(client: Client) -> None:
    response = sign_in(client)
    assert response.status_code == 302
    refused = client.get("/")
    assert refused.status_code == 403
    assert b"clearance" in refused.content
    assert not User.objects.get(username="eva").cleared


@pytest.mark.usefixtures("auditors")
def test_what_is_no_more_in_the_claim_is_revoked_at_the_next_sign_in(
    client: Client, provider: RunningProvider
) -> None:
    make_holding(subsidiaries=("pricing",))
    pricing = Unit.objects.get(slug="pricing")
    GroupMapping.objects.create(group="pricing", role=AccessRole.objects.get(slug="viewer"), unit=pricing)
    provider.stand_before(**{**EVA, "groups": ["holding-auditors", "pricing", "unknown"]})
    sign_in(client)
    assert bindings() == {("auditor", "holding"), ("viewer", "subs-pricing")}
    client.post("/sign-out/")
    provider.stand_before(**{**EVA, "groups": "pricing"})
    sign_in(client)
    assert bindings() == {("viewer", "subs-pricing")}
    provider.stand_before(**{**EVA, "groups": []})
    client.post("/sign-out/")
    sign_in(client)
    assert bindings() == set()
    assert not User.objects.get(username="eva").cleared
    assert RoleBinding.objects.exclude(revoked_at=None).count() == 2
    assert client.get("/").status_code == 403


@pytest.mark.usefixtures("provider")
def test_roles_that_a_person_granted_stay(client: Client) -> None:
    eva = make_person("eva", email="Eva@Example.com", role="")
    RoleBinding.objects.create(
        user=eva, role=AccessRole.objects.get(slug="viewer"), granted_by=make_person("boss", role="")
    )
    sign_in(client)
    assert bindings() == {("viewer", "holding")}
    assert User.objects.get(username="eva").cleared


@pytest.mark.usefixtures("provider", "auditors")
def test_a_verified_address_finds_the_person_once_and_the_subject_after_that(
    client: Client, provider: RunningProvider
) -> None:
    known = make_person("luna", email="Eva@Example.com", cleared=False)
    sign_in(client)
    assert SocialAccount.objects.get().user == known
    client.post("/sign-out/")
    provider.stand_before(**{**EVA, "email": "other@example.com"})
    sign_in(client)
    assert User.objects.count() == 1
    assert client.get("/account/").status_code == 200


@pytest.mark.parametrize(
    "person",
    [
        {**EVA, "email_verified": False},
        {**EVA, "email_verified": "true"},
        {name: value for name, value in EVA.items() if name != "email"},
    ],
)
@pytest.mark.usefixtures("auditors")
def test_an_address_that_is_not_verified_opens_nothing(
    client: Client, provider: RunningProvider, person: dict[str, Any]
) -> None:
    make_person("luna", email="eva@example.com")
    provider.stand_before(**person)
    assert sign_in(client).headers["Location"] == "/sign-in/?problem=refused"
    assert not SocialAccount.objects.exists()
    assert client.get("/account/").status_code == 302
    assert b"may not sign in here" in client.get("/sign-in/?problem=refused").content


@pytest.mark.usefixtures("provider", "auditors")
def test_a_name_in_use_whatever_its_case_is_given_a_number(client: Client) -> None:
    make_person("Eva", email="other@example.com")
    sign_in(client)
    assert User.objects.get(email="eva@example.com").username == "eva-2"


@pytest.mark.usefixtures("provider", "auditors")
@pytest.mark.parametrize("change", ["inactive", "service"])
def test_who_may_not_sign_in_may_not_by_the_provider_either(client: Client, change: str) -> None:
    if change == "inactive":
        make_person("luna", email="eva@example.com", is_active=False)
    else:
        make_person("luna", email="eva@example.com", kind="service", owner=make_person("boss"))
    assert sign_in(client).headers["Location"] == "/sign-in/?problem=refused"
    assert client.get("/account/").status_code == 302


@pytest.mark.parametrize(
    "spoil",
    [
        *(
            {"spoil_token": claims}
            for claims in (
                {"aud": "somebody else"}, {"aud": ["portal", "another"]}, {"azp": "somebody else"}, {"aud": None},
                {"iss": "http://localhost:1"}, {"iss": None}, {"exp": 1_000_000}, {"exp": None},
                {"iat": 9_000_000_000}, {"sub": "another"}, {"nonce": "that of another sign-in"}, {"nonce": None},
            )
        ),
        *(
            {"spoil_signature": how}
            for how in ("another key", "unknown key", "shared secret", "none", "another body")
        ),
        {"no_token": True},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.usefixtures("auditors")
def test_an_answer_that_is_not_proven_opens_nothing(
    client: Client, provider: RunningProvider, spoil: dict[str, Any]
) -> None:
    provider.stand_before(**EVA, **spoil)
    refused = sign_in(client)
    assert refused.headers["Location"] == "/sign-in/?problem=unproven"
    assert b"answer could not be verified" in client.get(refused.headers["Location"]).content
    assert not User.objects.exists()
    assert not LedgerEntry.objects.exists()
    assert client.get("/account/").status_code == 302


@pytest.mark.usefixtures("auditors")
def test_an_answer_to_another_sign_in_opens_nothing(client: Client, provider: RunningProvider) -> None:
    nonces = {parse_qs(urlsplit(begin(client)).query)["nonce"][0] for _ in range(2)}
    assert len(nonces) == 2
    provider.stand_before(**EVA, spoil_token={"nonce": nonces.pop()})
    assert sign_in(client).headers["Location"] == "/sign-in/?problem=unproven"


@pytest.mark.usefixtures("auditors")
def test_a_configuration_of_another_issuer_opens_nothing(
    client: Client, provider: RunningProvider, settings: LazySettings
) -> None:
    settings.OIDC_ISSUER = f"{provider.issuer}/another"
    assert sign_in(client).headers["Location"] == "/sign-in/?problem=unproven"
    settings.OIDC_ISSUER = f"{provider.issuer}/.well-known/openid-configuration"
    assert sign_in(client).headers["Location"] == "/"


@pytest.mark.usefixtures("auditors")
def test_a_clock_that_is_a_little_off_is_borne(client: Client, provider: RunningProvider) -> None:
    now = int(time.time())
    provider.stand_before(**EVA, spoil_token={"iat": now + 20, "exp": now + 320})
    assert sign_in(client).headers["Location"] == "/"


@pytest.mark.usefixtures("auditors")
def test_a_cancelled_sign_in_and_one_that_did_not_begin_here_open_nothing(
    client: Client, provider: RunningProvider
) -> None:
    back = to_provider(client)
    stranger = Client()
    assert stranger.get(back).headers["Location"] == "/sign-in/?problem=provider"
    assert client.get(back).status_code == 302
    assert client.get("/account/").status_code == 200
    assert Client().get(back).headers["Location"] == "/sign-in/?problem=provider"  # the code was used
    client.post("/sign-out/")
    provider.stand_before(error="access_denied")
    assert sign_in(client).headers["Location"] == "/sign-in/?problem=provider"


@pytest.mark.usefixtures("provider", "auditors")
def test_a_foreign_destination_is_not_followed(client: Client) -> None:
    assert sign_in(client, "//evil.example/").headers["Location"] == "/"


def forget_confirmation(client: Client) -> None:
    """As eleven minutes later."""
    session = client.session
    session["confirmed_at"] -= 660
    session.save()


@pytest.mark.usefixtures("provider", "auditors")
def test_who_has_no_password_confirms_by_signing_in_again(client: Client) -> None:
    sign_in(client)
    forget_confirmation(client)
    assert client.get("/account/tokens/").headers["Location"] == "/account/confirm/?next=%2Faccount%2Ftokens%2F"
    page = client.get("/account/confirm/?next=/account/tokens/").content
    assert b"Sign in again with Example" in page
    assert b'href="/sign-in/provider/?again=1&amp;next=/account/tokens/"' in page
    assert client.post("/account/confirm/", {"password": "", "next": "/account/tokens/"}).status_code == 422
    key, asked = client.session.session_key, parse_qs(urlsplit(begin(client, again="1")).query)
    assert (asked["prompt"], asked["max_age"]) == (["login"], ["0"])
    assert sign_in(client, "/account/tokens/", again="1").headers["Location"] == "/account/tokens/"
    assert client.get("/account/tokens/").status_code == 200
    assert client.session.session_key == key  # the same session goes on, with its own end
    assert LedgerEntry.objects.filter(action="session.begin").count() == 1


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"spoil_token": {"auth_time": 1_000_000}}, "unproven"),
        ({"spoil_token": {"auth_time": None}}, "unproven"),
        ({"spoil_token": {"auth_time": "now"}}, "unproven"),
        ({"spoil_token": {"nonce": "x"}}, "unproven"),
        ({"spoil_signature": "another key"}, "unproven"),
        ({"sub": "sol-1", "email": "sol@example.com"}, "another"),
        ({"error": "access_denied"}, "provider"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("auditors")
def test_what_confirms_nothing_is_told_on_the_page_that_asks(
    client: Client, provider: RunningProvider, change: dict[str, Any], problem: str
) -> None:
    sign_in(client)
    forget_confirmation(client)
    provider.stand_before(**{**EVA, **change})
    back = sign_in(client, "/account/tokens/", again="1").headers["Location"]
    assert back == f"/account/confirm/?problem={problem}&next=%2Faccount%2Ftokens%2F"
    page = client.get(back).content
    assert b'role="alert"' in page
    assert b"next=/account/tokens/" in page
    assert client.get("/account/tokens/").status_code == 302
    assert User.objects.count() == 1


@pytest.mark.usefixtures("provider", "auditors")
def test_a_stranger_who_asks_to_confirm_signs_in(client: Client) -> None:
    assert "prompt" not in parse_qs(urlsplit(begin(client, again="1")).query)
    assert sign_in(client, "/account/", again="1").headers["Location"] == "/account/"
    assert client.get("/account/").status_code == 200


@pytest.mark.usefixtures("provider", "auditors")
def test_a_second_step_here_is_asked_for_after_the_provider_too(client: Client) -> None:
    sign_in(client)
    secret = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
    number = int(time.time()) // 30
    user = User.objects.get(username="eva")
    codes = [totp.format_hotp_value(totp.hotp_value(secret, number + step)) for step in (-1, 0)]
    mfa.add_app(user=user, secret=secret, code=codes[0])
    client.post("/sign-out/")
    assert sign_in(client, "/account/").headers["Location"] == "/sign-in/second-step/"
    assert client.get("/account/").status_code == 302
    assert client.post("/sign-in/second-step/", {"code": codes[1]}).headers["Location"] == "/account/"
    assert client.get("/account/").status_code == 200


@pytest.mark.usefixtures("provider")
def test_only_signing_in_can_be_begun(client: Client) -> None:
    begun = client.get("/sign-in/provider/?process=connect&next=/account/")
    assert begun.headers["Location"] == "/sign-in/provider/?next=%2Faccount%2F"


def test_a_provider_that_is_away_is_told(client: Client, provider: RunningProvider, settings: LazySettings) -> None:
    app = dict(settings.SOCIALACCOUNT_PROVIDERS["openid_connect"]["APPS"][0])
    app["settings"] = {"server_url": "http://localhost:1"}
    kind = settings.SOCIALACCOUNT_PROVIDERS["openid_connect"]
    settings.SOCIALACCOUNT_PROVIDERS = {"openid_connect": {**kind, "APPS": [app]}}
    assert client.get("/sign-in/provider/").headers["Location"] == "/sign-in/?problem=provider"
