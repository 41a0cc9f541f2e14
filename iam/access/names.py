"""How whoever did something is named to whoever looks."""

from typing import Final

from django.utils.translation import gettext

from holding import scope
from holding.models import SUBJECT_ROOT

NOBODY: Final = (f"{SUBJECT_ROOT}.", "portal/", "operator/")
"""How the names of agents, of parts of the portal and of its commands begin: they are told to everybody."""


def shown_who(who: str, unit_id: int) -> str:
    """Return an agent's subject, a part of the portal, or a person's name to whoever sees the unit's people."""
    named = not who or who.startswith(NOBODY)
    return who if named or scope.current().allows("people.view", unit_id) else gettext("a person")
