"""People of an authority with the roles of the pages, and what they ask for."""

from collections.abc import Callable
from typing import Any

from django.test import Client

from holding import clock
from iam.authority.models import Approval
from iam.authority.tests.factories import ask

ROLES = {
    "dora": ("supervisor", "pricing"),
    "dani": ("supervisor", "pricing"),
    "paula": ("subsidiary-head", "pricing"),
    "tomas": ("subsidiary-head", "tax"),
    "toni": ("supervisor", "tax"),
    "carla": ("executive", ""),
    "rita": ("executive", ""),
    "omar": ("auditor", ""),
    "sara": ("viewer", ""),
    **{f"board{n}": ("executive", "") for n in range(1, 6)},
}
SignIn = Callable[[str], Client]


def text(response: Any) -> str:
    """Return the page of an answer."""
    return str(response.content, "utf-8")


def asked(value: object = 40_000, **fields: Any) -> Approval:
    """Ask for an approval now."""
    return ask(value, at=clock.now(), **fields)


def decide(client: Client, approval: Approval, verdict: str = "approve", **fields: str) -> Any:
    """Decide on the page."""
    return client.post(f"/approvals/{approval.pk}/decide/", {"verdict": verdict, **fields})


def state(approval: Approval) -> str:
    """Return an approval's state as it is now."""
    approval.refresh_from_db()
    return str(approval.state)
