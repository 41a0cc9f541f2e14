"""OpenID Connect: what is asked of the identity provider, and the proof that its answer is meant for this sign-in.

The code flow is django-allauth's. Here its ID token is verified in full (OpenID Connect Core, 3.1.3.7): the library
leaves out the signature of a token that came straight from the provider, and the nonce.
"""

import hmac
import secrets
import time
from collections.abc import Mapping
from typing import Any

import jwt
from allauth.socialaccount.internal import jwtkit
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.openid_connect.provider import OpenIDConnectProvider
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from django.conf import settings
from django.http import HttpRequest, HttpResponse

AGAIN = "again"  # in the request and the state: who is signed in already shows the provider again who they are
NONCE_BYTES = 24
LEEWAY_SECONDS = 60  # that the provider's clock may be off
WELL_KNOWN = "/.well-known/"
# Of keys that the provider publishes. Neither "none", nor one that the shared secret could have signed.
ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})
REQUIRED = ["iss", "sub", "aud", "exp", "iat"]


class UnprovenError(OAuth2Error):
    """The answer is not proven to be the provider's, for this portal and this sign-in; says why, for the log."""


class VerifyingAdapter(OpenIDConnectOAuth2Adapter):
    """The library's steps, with an ID token that must be there and is verified."""

    def complete_login(self, request: HttpRequest, app: Any, token: Any, **kwargs: Any) -> Any:
        """Return the library's `SocialLogin`. Raises UnprovenError."""
        if not kwargs["response"].get("id_token"):
            raise UnprovenError("there is no ID token")
        return super().complete_login(request, app, token, **kwargs)

    def _decode_id_token(self, app: Any, id_token: str) -> dict[str, Any]:
        """Return the claims of an ID token that the provider signed for this portal. Raises UnprovenError."""
        config = self.openid_config
        asked = settings.OIDC_ISSUER.partition(WELL_KNOWN)[0].rstrip("/")
        if str(config["issuer"]).rstrip("/") != asked:  # OpenID Connect Discovery, 4.3
            raise UnprovenError(f"the configuration is that of {config['issuer']}")
        try:
            _check_header(jwt.get_unverified_header(id_token))
            algorithm, key = jwtkit.fetch_key(id_token, config["jwks_uri"], jwtkit.lookup_kid_jwk)
            claims: dict[str, Any] = jwt.decode(
                id_token,
                key=key,
                algorithms=[algorithm],
                issuer=config["issuer"],
                audience=app.client_id,
                leeway=LEEWAY_SECONDS,
                options={"require": REQUIRED},
            )
        except UnprovenError:
            raise
        except (jwt.PyJWTError, OAuth2Error, TypeError) as error:  # TypeError: a key of another kind
            raise UnprovenError(str(error)) from error
        many = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", None if many else app.client_id) != app.client_id:
            raise UnprovenError(f"it was issued to {claims.get('azp')}")
        return claims


def _check_header(header: Mapping[str, Any]) -> None:
    if header.get("alg") not in ALGORITHMS or "kid" not in header:
        raise UnprovenError(f"it is signed by {header.get('alg')}, with the key {header.get('kid')}")


class VerifiedProvider(OpenIDConnectProvider):
    """The provider, asked with a nonce; and to ask the person anew, when they are signed in and must confirm."""

    oauth2_adapter_class = VerifyingAdapter

    def redirect(
        self, request: HttpRequest, process: str, next_url: str | None = None, data: Any = None, **kwargs: Any
    ) -> HttpResponse:
        """Return the redirect to the provider; nonce and time stay in the session, under the state."""
        kept: dict[str, Any] = {"nonce": secrets.token_urlsafe(NONCE_BYTES)}
        asked = {**self.get_auth_params(), "nonce": kept["nonce"]}
        if request.user.is_authenticated and AGAIN in request.GET:
            asked |= {"prompt": "login", "max_age": "0"}
            kept[AGAIN] = int(time.time())
        response: HttpResponse = super().redirect(
            request, process, next_url, data, **{**kwargs, **kept, "auth_params": asked}
        )
        return response


def verify_answer(*, claims: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Raise UnprovenError unless the ID token answers what was asked: this sign-in's nonce, and a sign-in since."""
    nonce = str(state.get("nonce") or "")
    if not nonce or not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
        raise UnprovenError("it has not the nonce of this sign-in")
    if AGAIN not in state:
        return
    at = claims.get("auth_time")
    if not isinstance(at, int) or isinstance(at, bool) or at < state[AGAIN] - LEEWAY_SECONDS:
        raise UnprovenError("the person did not sign in again at the provider")
