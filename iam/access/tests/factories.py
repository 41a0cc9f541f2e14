"""Factories of people and tokens for tests."""

from datetime import datetime
from typing import Any

from holding.models import Unit
from iam.access.models import AccessRole, ApiToken, RoleBinding, User
from iam.access.services import issue_token

PASSWORD = "correct horse battery staple"
TOKEN = "token-of-the-tests"


def make_person(
    username: str = "ana", *, cleared: bool = True, role: str = "executive", unit: Unit | None = None, **fields: Any
) -> User:
    """Create a person with the clearance and a role for the whole holding, unless told otherwise."""
    person = User.objects.create_user(username=username, password=PASSWORD, cleared=cleared, **fields)
    if role:
        make_binding(person, role, unit)
    return person


def make_binding(user: User, role: str = "viewer", unit: Unit | None = None, **fields: Any) -> RoleBinding:
    """Bind a role to somebody."""
    return RoleBinding.objects.create(user=user, role=AccessRole.objects.get(slug=role), unit=unit, **fields)


def make_token(
    user: User, *, token: str = TOKEN, name: str = "tests", expires_at: datetime | None = None
) -> ApiToken:
    """Issue a token to a person."""
    return issue_token(user=user, name=name, token=token, expires_at=expires_at, actor="test")
