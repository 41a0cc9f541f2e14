"""Who is calling the API, and whether the clearance lets them in."""

from collections.abc import Mapping
from datetime import timedelta

from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from holding import scope
from iam.access.models import ApiToken, User
from iam.access.opening import open_token
from iam.access.rules import CLEARED
from iam.access.services import token_digest

USED_STEP = timedelta(minutes=1)  # a token's last use is noted this often at most
TOKEN_PATHS = ("/api/",)


def shows_token(request: HttpRequest) -> bool:
    """Return whether a request to the API shows a bearer token; then its session does not count."""
    return request.path.startswith(TOKEN_PATHS) and _header(request).lower().startswith("bearer")


def identify(request: HttpRequest) -> tuple[User | None, scope.Scope]:
    """Return who asks, by the token shown to the API, else by the session; and what they may do by it.

    A token that does not count makes the request anonymous, whatever the session says. The connection is open for
    the rows of whoever asks; when nobody does, it may be open for those of an account whose session is over.
    """
    if shows_token(request):
        found = _token(_header(request))
        request.bearer = found and found[0]  # type: ignore[attr-defined]
        request.user = found[0].user if found else AnonymousUser()
        return (found[0].user, found[1]) if found else (None, scope.NOTHING)
    user = request.user
    return (user, user.given) if isinstance(user, User) else (None, scope.NOTHING)


def _header(request: HttpRequest) -> str:
    return request.headers.get("Authorization", "")


def _token(header: str) -> tuple[ApiToken, scope.Scope] | None:
    parts = header.split()
    if len(parts) != 2 or (found := open_token(token_digest(parts[1]))) is None:
        return None
    token = found[0]
    if token.last_used_at is None or token.last_used_at < timezone.now() - USED_STEP:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=timezone.now())
    return found


class BearerTokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer <token>`, as the gate has found it."""

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        """Return the token's account, or None when no bearer token was shown. Raises AuthenticationFailed."""
        parts = get_authorization_header(request).split()
        if not parts or parts[0].lower() != b"bearer":
            return None
        if len(parts) != 2:
            raise AuthenticationFailed(_("Send the header as: Authorization: Bearer <token>."))
        token: ApiToken | None = getattr(request._request, "bearer", None)
        if token is None:
            raise AuthenticationFailed(_("This token is unknown, expired or revoked."))
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        """Return the challenge of a 401 answer."""
        return 'Bearer realm="api"'


class BearerTokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How the OpenAPI document names the bearer token."""

    target_class = "iam.access.authentication.BearerTokenAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        """Return the OpenAPI security scheme."""
        return {"type": "http", "scheme": "bearer"}


class MayDo(BasePermission):
    """Whether the caller has the clearance and the permission that the view names; a view without one is closed."""

    message = ""

    def has_permission(self, request: Request, view: object) -> bool:
        """Return whether the caller may."""
        user = request.user
        if not (user and user.is_authenticated and user.is_active and getattr(user, "cleared", False)):
            self.message = gettext("This needs the holding's clearance.")
            return False
        code = getattr(view, "permission", None)
        if isinstance(code, Mapping):
            code = code.get(getattr(view, "action", None) or request.method)
        if code == CLEARED:
            return True
        self.message = gettext("This needs the permission %(code)s.") % {"code": code}
        return bool(code) and request._request.scope.has(code)  # type: ignore[attr-defined]
