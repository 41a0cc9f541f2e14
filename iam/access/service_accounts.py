"""Accounts of services and agents: somebody answers for each, and they open the API by tokens only."""

import secrets
from collections.abc import Collection
from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import Count, Max, Min, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import services as audit
from holding.models import Unit
from iam.access.explaining import people_in_view
from iam.access.models import ApiToken, User
from iam.access.rights import RefusedError, rights_of
from iam.access.services import issue_token, person_state, revoke_token

TOKEN_BYTES = 32


def accounts_in_view() -> QuerySet[User]:
    """Return the accounts of services and agents in view.

    Each with its number of tokens that have not expired (`token_count`), the next end of those (`next_end`), and
    when one was shown last (`last_used_at`).
    """
    good = Q(tokens__expires_at=None) | Q(tokens__expires_at__gt=timezone.now())
    return (
        people_in_view()
        .exclude(kind=User.Kind.PERSON)
        .select_related("owner")
        .annotate(
            token_count=Count("tokens", filter=good & Q(tokens__isnull=False)),
            next_end=Min("tokens__expires_at", filter=good),
            last_used_at=Max("tokens__last_used_at"),
        )
    )


def tokens_of_accounts() -> QuerySet[ApiToken]:
    """Return the tokens of services and agents, for whoever manages them."""
    return ApiToken.objects.exclude(user__kind=User.Kind.PERSON).select_related("user", "unit")


def new_token(
    *,
    by: User,
    account: User,
    name: str,
    expires_at: datetime,
    permissions: Collection[str] = (),
    unit: Unit | None = None,
) -> tuple[ApiToken, str]:
    """Issue a token of an account, or one's own; return it with its text, which is stored nowhere.

    Raises RefusedError for a name in use and an end that is past, and what `issue_token` raises.
    """
    if expires_at <= timezone.now():
        raise RefusedError(_("The end must be in the future."))
    text = secrets.token_urlsafe(TOKEN_BYTES)
    try:
        token = issue_token(
            user=account,
            name=name,
            token=text,
            expires_at=expires_at,
            actor=by.username,
            permissions=permissions,
            unit=unit,
            by=by,
        )
    except IntegrityError as error:
        raise RefusedError(
            _("%(account)s has a token called %(name)s already: choose another name.")
            % {"account": account.username, "name": name}
        ) from error
    return token, text


@transaction.atomic
def create_service_account(*, by: User, username: str, owner: User, cleared: bool = True) -> User:
    """Create the account of a service.

    It has no password that could be used; roles are granted to it as to people, and `issue_token` makes its
    tokens. Raises NotHeldError without `people.manage`, RefusedError for an owner who is not an active person
    with the clearance, and for a username in use.
    """
    return _create(by=by, username=username, owner=owner, kind=User.Kind.SERVICE, cleared=cleared)


@transaction.atomic
def create_agent_account(*, by: User, username: str, owner: User, cleared: bool = True) -> User:
    """Create the account of an agent that acts in the portal. As `create_service_account`."""
    return _create(by=by, username=username, owner=owner, kind=User.Kind.AGENT, cleared=cleared)


def _create(*, by: User, username: str, owner: User, kind: User.Kind, cleared: bool) -> User:
    rights_of(by).require("people.manage")
    if owner.kind != User.Kind.PERSON or not owner.is_active or not owner.cleared:
        raise RefusedError(_("An active person with the clearance must answer for the account."))
    username = User.normalize_username(username.strip())
    User.username_validator(username)
    if User.objects.filter(username=username).exists():
        raise RefusedError(_("The name %(name)s is in use: choose another.") % {"name": username})
    account = User(username=username, kind=kind, owner=owner, cleared=cleared)
    account.set_unusable_password()
    account.save(force_insert=True)
    audit.record(
        actor=by.username,
        action="account.create",
        object=f"person/{account.pk}",
        after=person_state(account),
        details={"username": username, "kind": str(kind), "owner": owner.username, "cleared": cleared},
    )
    return account


@transaction.atomic
def deactivate_account(*, by: User, account: User) -> User:
    """Make a service's or an agent's account inactive and revoke its tokens; its roles stay in the record.

    Raises NotHeldError without `people.manage`, RefusedError for a person and for an account that is inactive.
    """
    rights_of(by).require("people.manage")
    account = User.objects.select_for_update().get(pk=account.pk)
    if account.kind == User.Kind.PERSON:
        raise RefusedError(_("This is a person: deactivate people where people are managed."))
    if not account.is_active:
        raise RefusedError(_("The account is inactive already."))
    before = person_state(account)
    account.is_active = False
    account.save(update_fields=["is_active"])
    for token in account.tokens.all():
        revoke_token(token=token, actor=by.username)
    audit.record(
        actor=by.username,
        action="account.deactivate",
        object=f"person/{account.pk}",
        before=before,
        after=person_state(account),
    )
    return account
