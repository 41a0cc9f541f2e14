"""What a page asks of whoever opens it. A page without a rule is refused to everybody.

Views carry the rule as a decorator; the API's views and the administration's lists as an attribute `permission`.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from django.urls import Resolver404, resolve

from iam.access.permissions import PERMISSIONS

View = TypeVar("View", bound=Callable[..., Any])

OPEN: Final = "open"  # to strangers too
SIGNED_IN: Final = "signed-in"  # to whoever is signed in, even without the clearance
CLEARED: Final = "cleared"  # to whoever has the clearance
NO_PAGE: Final = ""


def needs(rule: str) -> Callable[[View], View]:
    """Let a view answer only to those who hold a permission, or fulfil `OPEN`, `SIGNED_IN` or `CLEARED`.

    Holding it for any unit is enough: which rows they see is the scope's matter. Raises ValueError for a code
    that does not exist.
    """
    if rule not in (OPEN, SIGNED_IN, CLEARED, *PERMISSIONS):
        raise ValueError(f"There is no permission {rule!r}; see iam.access.permissions.")

    def marked(view: View) -> View:
        view.access_rule = rule  # type: ignore[attr-defined]
        return view

    return marked


def rule_of(path: str) -> str | None:
    """Return the rule of the page at a path; None if it has none, `NO_PAGE` if there is no page."""
    try:
        match = resolve(path)
    except Resolver404:
        return NO_PAGE
    rule: str | None = getattr(match.func, "access_rule", None)
    return rule
