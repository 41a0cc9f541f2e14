"""What an approval may do once it is approved: a registry that apps fill when they are loaded.

`verify` is asked when the approval is requested, and again right before it is executed: it raises ValueError
for parameters that cannot be carried out. `run` carries them out, in the transaction that makes the approval
`executed`. `confirm`, if given, reads the state back and says whether the effect is there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from iam.authority.models import Approval

Verify = Callable[[Mapping[str, Any]], None]
Run = Callable[[Approval], None]
Confirm = Callable[[Approval], bool]


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that approvals do."""

    name: str
    verify: Verify
    run: Run
    confirm: Confirm | None = None


class UnknownActionError(ValueError):
    """No app has registered the action."""

    def __init__(self, name: str) -> None:
        super().__init__(f"No app has registered the action “{name}”.")


_actions: dict[str, Action] = {}


def register_action(*, name: str, verify: Verify, run: Run, confirm: Confirm | None = None) -> None:
    """Add an action. Raises ValueError for a name that is taken."""
    if name in _actions:
        raise ValueError(f"The action {name} is registered already, by {_actions[name].run.__module__}.")
    _actions[name] = Action(name, verify, run, confirm)


def action_named(name: str) -> Action:
    """Return a registered action. Raises UnknownActionError."""
    try:
        return _actions[name]
    except KeyError:
        raise UnknownActionError(name) from None
