"""Accounts of services and agents: somebody answers for each, and they open the API by tokens only."""

from django.db import transaction
from django.utils.translation import gettext as _

from audit import services as audit
from iam.access.models import User
from iam.access.rights import RefusedError, rights_of
from iam.access.services import person_state, revoke_token


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
