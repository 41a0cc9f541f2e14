"""Who may sign in with a password or by a session."""

from typing import Any

from django.contrib.auth.backends import ModelBackend

from iam.access.models import User


class PeopleBackend(ModelBackend):
    """Signs people in, never service accounts or agents. An unknown name costs as much time as a known one."""

    def user_can_authenticate(self, user: Any) -> bool:
        """Return whether it is an active person; asked at sign-in and again with every request."""
        return super().user_can_authenticate(user) and user.kind == User.Kind.PERSON
