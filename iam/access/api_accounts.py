"""The REST API of accounts of services and agents, of their tokens, and of one's own."""

from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.exceptions import PermissionDenied
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from iam.access.api_answers import NUMBER, USERNAME, NamedViewSet, caller, refusals, require_confirmation
from iam.access.filters import AccountFilter, TokenFilter
from iam.access.models import ApiToken, User
from iam.access.rules import CLEARED
from iam.access.serializers_accounts import (
    AccountSerializer,
    IssuedTokenSerializer,
    NewAccountSerializer,
    NewAccountTokenSerializer,
    NewTokenSerializer,
    TokenSerializer,
)
from iam.access.service_accounts import (
    accounts_in_view,
    create_agent_account,
    create_service_account,
    deactivate_account,
    new_token,
    tokens_of_accounts,
)
from iam.access.services import revoke_token

NAME = OpenApiParameter("username", OpenApiTypes.STR, OpenApiParameter.PATH, description="Username of the account.")
ID = OpenApiParameter("id", OpenApiTypes.INT, OpenApiParameter.PATH, description="Number of the token.")
MAKERS = {User.Kind.SERVICE: create_service_account, User.Kind.AGENT: create_agent_account}


@extend_schema_view(
    list=extend_schema(
        summary="List the services and agents",
        description="Accounts with a binding in units where the caller may see people.",
    ),
    retrieve=extend_schema(summary="Read a service or an agent", parameters=[NAME]),
)
class AccountViewSet(ListModelMixin, RetrieveModelMixin, NamedViewSet[User]):
    """Accounts of services and agents: somebody answers for each, and they open the API by tokens only."""

    permission = {
        "list": "people.view",
        "retrieve": "people.view",
        "create": "people.manage",
        "deactivate": "people.manage",
    }
    queryset = User.objects.all()
    serializer_class = AccountSerializer
    filterset_class = AccountFilter
    ordering = "username"
    lookup_field = "username"
    lookup_value_regex = USERNAME
    missing = gettext_lazy("There is no service or agent called “%(key)s”.")

    def get_queryset(self) -> QuerySet[User]:
        """Return the accounts in view."""
        return accounts_in_view()

    @extend_schema(
        summary="Create an account of a service or an agent",
        description="Without a password. Roles are granted to it as to people; tokens are issued for it.",
        request=NewAccountSerializer,
        responses={201: AccountSerializer},
    )
    def create(self, request: Request) -> Response:
        """Create an account. Raises PermissionDenied, ValidationError."""
        asked = NewAccountSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        wanted = dict(asked.validated_data)
        make = MAKERS[wanted.pop("kind")]
        with refusals():
            account = make(by=caller(request), **wanted)
        return Response(_shown(account), status=status.HTTP_201_CREATED)

    @extend_schema(
        summary="Deactivate a service or an agent",
        description="Its tokens are revoked; its roles stay in the record.",
        parameters=[NAME],
        request=None,
        responses=AccountSerializer,
    )
    @action(detail=True, methods=["post"])
    def deactivate(self, request: Request, username: str) -> Response:
        """Deactivate an account. Raises PermissionDenied, ValidationError, Http404."""
        account = self.get_object()
        with refusals():
            account = deactivate_account(by=caller(request), account=account)
        return Response(_shown(account))


def _shown(account: User) -> Any:
    """Return what is told of an account without tokens, whether or not it is in view already."""
    nothing = {"token_count": 0, "next_end": None, "last_used_at": None}
    for name, value in nothing.items():
        setattr(account, name, value)
    return AccountSerializer(account).data


class Tokens(ListModelMixin, NamedViewSet[ApiToken]):
    """Tokens: listed without what they are, revoked; what is issued is told once."""

    queryset = ApiToken.objects.all()
    serializer_class = TokenSerializer
    lookup_value_regex = NUMBER
    missing = gettext_lazy("There is no token %(key)s.")

    def issued(self, request: Request, account: User, wanted: dict[str, Any]) -> Response:
        """Issue a token and answer with it. Raises PermissionDenied, ValidationError."""
        require_confirmation(request)
        with refusals():
            token, text = new_token(by=caller(request), account=account, **wanted)
        answer = IssuedTokenSerializer(token, context={"token": text}).data
        return Response(answer, status=status.HTTP_201_CREATED, headers={"Cache-Control": "no-store"})

    @extend_schema(
        summary="Revoke a token",
        description="The next request that shows it is refused.",
        parameters=[ID],
        responses={204: None},
    )
    def destroy(self, request: Request, pk: str) -> Response:
        """Revoke a token. Raises Http404."""
        revoke_token(token=self.get_object(), actor=caller(request).username)
        return Response(status=status.HTTP_204_NO_CONTENT)


@extend_schema_view(
    list=extend_schema(summary="List the tokens of services and agents", description="The newest first.")
)
class TokenViewSet(Tokens):
    """Tokens of services and agents."""

    permission = "tokens.manage"
    filterset_class = TokenFilter

    def get_queryset(self) -> QuerySet[ApiToken]:
        """Return the tokens of all services and agents."""
        return tokens_of_accounts()

    @extend_schema(
        summary="Issue a token of a service or an agent",
        description="It opens no more than its account may, and nothing that the caller does not hold. A session "
        "must have been confirmed in the last ten minutes.",
        request=NewAccountTokenSerializer,
        responses={201: IssuedTokenSerializer},
    )
    def create(self, request: Request) -> Response:
        """Issue a token. Raises PermissionDenied, ValidationError."""
        asked = NewAccountTokenSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        wanted = asked.wanted()
        return self.issued(request, wanted.pop("account"), wanted)


@extend_schema_view(list=extend_schema(summary="List one's own tokens", description="The newest first."))
class OwnTokenViewSet(Tokens):
    """Tokens of whoever calls."""

    permission = CLEARED

    def get_queryset(self) -> QuerySet[ApiToken]:
        """Return the caller's tokens."""
        return ApiToken.objects.filter(user=caller(self.request)).select_related("user", "unit")

    @extend_schema(
        summary="Issue a token of one's own",
        description="With a token, only by one that opens all that its account may, and no longer than that one. "
        "A session must have been confirmed in the last ten minutes.",
        request=NewTokenSerializer,
        responses={201: IssuedTokenSerializer},
    )
    def create(self, request: Request) -> Response:
        """Issue a token. Raises PermissionDenied, ValidationError."""
        asked = NewTokenSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        _require_whole(request)
        shown, wanted = request.auth, asked.wanted()
        if isinstance(shown, ApiToken) and shown.expires_at and wanted["expires_at"] > shown.expires_at:
            raise PermissionDenied(_("A token does not outlive the one that it is issued with."))
        return self.issued(request, caller(request), wanted)

    @extend_schema(summary="Revoke a token of one's own", parameters=[ID], responses={204: None})
    def destroy(self, request: Request, pk: str) -> Response:
        """Revoke one of one's own tokens: the next request that shows it is refused."""
        self.get_object()
        _require_whole(request)
        return super().destroy(request, pk)


def _require_whole(request: Request) -> None:
    """Raise PermissionDenied for a token that opens less than its account: it must not reach for more."""
    shown = request.auth
    if isinstance(shown, ApiToken) and (shown.permissions or shown.unit_id):
        raise PermissionDenied(
            _("This token opens less than its account may: it neither issues nor revokes the account's tokens.")
        )
