"""What django-allauth asks the portal: how a session begins, how secrets are kept, who comes from a provider."""

import logging
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode, urlsplit

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.internal.flows.login import get_authentication_records
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from cryptography.fernet import Fernet, MultiFernet
from django.conf import settings
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.encoding import force_bytes

from iam.access import claims, openid, sessions, sign_ins
from iam.access.confirmation import note_confirmation
from iam.access.middleware import LANGUAGE_COOKIE
from iam.access.models import User

log = logging.getLogger("iam.access.adapters")

PRODUCT = "ClayTomSystems Holding"
BACKEND = "iam.access.backends.PeopleBackend"


def _back_to_sign_in(problem: str) -> ImmediateHttpResponse:
    return ImmediateHttpResponse(HttpResponseRedirect(f"{reverse('sign-in')}?problem={problem}"))


def _back(state: Mapping[str, Any] | None, problem: str) -> ImmediateHttpResponse:
    """Lead back to where the provider was asked: to the sign-in, or to the confirmation."""
    if state is None or openid.AGAIN not in state:
        return _back_to_sign_in(problem)
    query = urlencode({"problem": problem, "next": state.get("next") or "/"})
    return ImmediateHttpResponse(HttpResponseRedirect(f"{reverse('confirm')}?{query}"))


class AccountAdapter(DefaultAccountAdapter):
    """A sign-in has at most two steps, begins a session with limits, and speaks the person's language."""

    def get_login_stages(self) -> list[str]:
        """Return what follows the first step."""
        return ["allauth.mfa.stages.AuthenticateStage"]

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Return False: people are invited, or come from the identity provider."""
        return False

    def add_message(self, *args: Any, **kwargs: Any) -> None:
        """Say nothing: the pages say what happened."""

    def respond_user_inactive(self, request: HttpRequest, user: Any) -> HttpResponse:
        """Lead back to the sign-in, which does not tell why."""
        return HttpResponseRedirect(f"{reverse('sign-in')}?problem=refused")

    def login(self, request: HttpRequest, user: Any) -> None:
        """Begin the session, under a new key. Raises ImmediateHttpResponse for whom may not sign in."""
        if not user.is_active or user.kind != User.Kind.PERSON:  # may have changed since the first step
            raise _back_to_sign_in("refused")
        user.backend = BACKEND
        with transaction.atomic():
            super().login(request, user)
            sessions.begin(request)
            note_confirmation(request)
            steps = get_authentication_records(request, user)
            sign_ins.record_sign_in(user=user, steps=steps, address=self.get_client_ip(request) or "")

    def post_login(self, request: HttpRequest, user: Any, **kwargs: Any) -> HttpResponse:
        """Return the redirect to where the person was headed, with the language that they chose once."""
        response: HttpResponse = super().post_login(request, user, **kwargs)
        if user.language:
            response.set_cookie(
                LANGUAGE_COOKIE,
                user.language,
                max_age=settings.SESSION_COOKIE_AGE,
                samesite="Lax",
                secure=settings.SESSION_COOKIE_SECURE,
            )
        return response


class MfaAdapter(DefaultMFAAdapter):
    """Secrets are encrypted in the database, under a key made from SECRET_KEY."""

    def encrypt(self, text: str) -> str:
        """Return the secret as it is stored."""
        return _vault().encrypt(text.encode()).decode()

    def decrypt(self, encrypted_text: str) -> str:
        """Return the secret. Raises InvalidToken when SECRET_KEY is not the one it was stored under."""
        return _vault().decrypt(encrypted_text.encode()).decode()

    def get_totp_label(self, user: Any) -> str:
        """Return what an app names the account."""
        return str(user.get_username())

    def get_totp_issuer(self) -> str:
        """Return what an app names the portal."""
        return PRODUCT

    def get_public_key_credential_rp_entity(self) -> dict[str, str]:
        """Return whom keys are made for: the host in PORTAL_URL, whatever the request says."""
        return {"id": urlsplit(settings.PORTAL_URL).hostname or "localhost", "name": PRODUCT}


def _vault() -> MultiFernet:
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return MultiFernet([Fernet(urlsafe_b64encode(sha256(b"mfa " + force_bytes(key)).digest())) for key in keys])


class ProviderAdapter(DefaultSocialAccountAdapter):
    """People of the provider are matched by a verified e-mail address or created; its groups give roles."""

    def is_open_for_signup(self, request: HttpRequest, sociallogin: Any) -> bool:
        """Return False: `pre_social_login` has found or created the person, or refused."""
        return False

    def get_provider(self, request: HttpRequest, provider: str, client_id: str | None = None) -> Any:
        """Return the identity provider, whose answers are verified (`iam.access.openid`)."""
        return openid.VerifiedProvider(request, app=super().get_provider(request, provider, client_id).app)

    def pre_social_login(self, request: HttpRequest, sociallogin: Any) -> None:
        """Find or create the person and bring roles in line with the groups; who is signed in, confirms only.

        Raises ImmediateHttpResponse for whom is refused, and after a confirmation.
        """
        said, state = sociallogin.account.extra_data, sociallogin.state
        token, info = said.get("id_token") or {}, said.get("userinfo") or {}
        try:
            openid.verify_answer(claims=token, state=state)
        except openid.UnprovenError as error:
            log.warning("The identity provider's answer is not proven: %s.", error)
            raise _back(state, "unproven") from error
        if info and info.get("sub") != token.get("sub"):  # OpenID Connect Core, 5.3.2
            log.warning("The identity provider's answers are of two people.")
            raise _back(state, "unproven")
        if openid.AGAIN in state:
            if not sociallogin.account.pk or sociallogin.account.user_id != request.user.pk:
                raise _back(state, "another")
            note_confirmation(request)
            raise ImmediateHttpResponse(HttpResponseRedirect(state.get("next") or "/"))
        told = {**token, **info}
        try:
            sociallogin.user = claims.admit(account=sociallogin.account, claims=told)
        except claims.RefusedError as error:
            raise _back_to_sign_in("refused") from error

    def on_authentication_error(self, request: HttpRequest, provider: Any, **kwargs: Any) -> None:
        """Lead back to a page that says why nobody was signed in. Raises ImmediateHttpResponse."""
        error = kwargs.get("exception")
        state = (kwargs.get("extra_context") or {}).get("state")
        if isinstance(error, openid.UnprovenError):
            log.warning("The identity provider's answer is not proven: %s.", error)
            raise _back(state, "unproven")
        raise _back(state, "provider")
