"""Django's question `user.has_perm(code, object)`, answered from what the account may do."""

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.db.models import Model

from holding import scope
from holding.models import Unit
from iam.access.models import User
from iam.access.opening import open_account


class PeopleBackend(ModelBackend):
    """Sign-in of people by name and password; permissions by role bindings, for the account that acts now.

    An unknown name costs as much time as a known one.
    """

    def user_can_authenticate(self, user: Any) -> bool:
        """Return whether it may sign in: an active person. Services and agents show tokens."""
        return super().user_can_authenticate(user) and user.kind == User.Kind.PERSON

    def get_user(self, user_id: Any) -> User | None:
        """Return the account of a session, if it may still sign in, with what it may do (`given`).

        Its rows are open from then on: the gate, which alone asks whose a session is, closes them.
        """
        found = open_account(user_id)
        if found is None or not self.user_can_authenticate(found[0]):
            return None
        account, given = found
        account.given = given
        return account

    def has_perm(self, user_obj: Any, perm: str, obj: Model | None = None) -> bool:
        """Return whether the account may do that, to the object's unit if it is given."""
        if not user_obj.is_active:
            return False
        held = scope.current()
        if obj is None:
            return held.has(perm)
        unit_id = obj.pk if isinstance(obj, Unit) else getattr(obj, "unit_id", None)
        return held.allows(perm, unit_id)

    def get_all_permissions(self, user_obj: Any, obj: Model | None = None) -> set[str]:
        """Return the codes that are held at all."""
        return set(scope.current().grants) if user_obj.is_active else set()

    def has_module_perms(self, user_obj: Any, app_label: str) -> bool:
        """Return whether anything is held: the lists of the administration say themselves what they show."""
        return bool(user_obj.is_active and scope.current().has("admin.use"))
