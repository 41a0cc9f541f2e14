"""Factories of people and tokens for tests."""

from datetime import datetime
from typing import Any

from iam.access.models import ApiToken, User
from iam.access.services import issue_token

PASSWORD = "correct horse battery staple"
TOKEN = "token-of-the-tests"


def make_person(username: str = "ana", *, cleared: bool = True, **fields: Any) -> User:
    """Create a person with the clearance, unless told otherwise."""
    return User.objects.create_user(username=username, password=PASSWORD, cleared=cleared, **fields)


def make_token(
    user: User, *, token: str = TOKEN, name: str = "tests", expires_at: datetime | None = None
) -> ApiToken:
    """Issue a token to a person."""
    return issue_token(user=user, name=name, token=token, expires_at=expires_at, actor="test")
