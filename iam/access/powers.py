"""Powers that people hold beside their roles: other apps say who has one, so that nobody else takes their sign-in.

Whoever sets somebody's password, or the address that a new one is sent to, can act as them. What roles give is
measured (`rights.beyond`); for a power that access does not know, the password is the person's own affair.
"""

from collections.abc import Callable

from iam.access.models import User

Holds = Callable[[User], bool]

_powers: list[Holds] = []


def register_power(holds: Holds) -> None:
    """Add the question whether somebody holds a power, now or later."""
    if holds not in _powers:
        _powers.append(holds)


def keeps_sign_in(*, user: User, by: User | None) -> bool:
    """Return whether `by` may set neither password nor address of this person; None is the operator, who may."""
    return by is not None and by.pk != user.pk and any(holds(user) for holds in _powers)
