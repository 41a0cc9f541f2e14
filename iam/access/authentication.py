"""Who is calling the API, and whether the clearance lets them in."""

from collections.abc import Mapping
from datetime import timedelta

from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from iam.access.models import ApiToken, User
from iam.access.rules import CLEARED
from iam.access.services import token_digest

USED_STEP = timedelta(minutes=1)  # a token's last use is noted this often at most
TOKEN_PATHS = ("/api/",)


def identify(request: HttpRequest) -> tuple[User | None, ApiToken | None]:
    """Return who asks, by the token shown to the API, else by the session; and the token.

    A token that does not count makes the request anonymous, whatever the session says.
    """
    header = request.headers.get("Authorization", "")
    if request.path.startswith(TOKEN_PATHS) and header.lower().startswith("bearer"):
        token = _token(header)
        request.bearer = token  # type: ignore[attr-defined]
        request.user = token.user if token else AnonymousUser()
        return (token.user, token) if token else (None, None)
    user = request.user
    return (user, None) if isinstance(user, User) else (None, None)


def _token(header: str) -> ApiToken | None:
    parts = header.split()
    if len(parts) != 2:
        return None
    token = ApiToken.objects.usable().select_related("user").filter(digest=token_digest(parts[1])).first()
    if token and (token.last_used_at is None or token.last_used_at < timezone.now() - USED_STEP):
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=timezone.now())
    return token


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

    def has_permission(self, request: Request, view: object) -> bool:
        """Return whether the caller may."""
        user = request.user
        if not (user and user.is_authenticated and user.is_active and getattr(user, "cleared", False)):
            self.message = str(_("This needs the holding's clearance."))
            return False
        code = getattr(view, "permission", None)
        if isinstance(code, Mapping):
            code = code.get(getattr(view, "action", None) or request.method)
        if code == CLEARED:
            return True
        self.message = _("This needs the permission %(code)s.") % {"code": code}
        return bool(code) and request._request.scope.has(code)  # type: ignore[attr-defined]
