"""Which statuses an attempt of the access matrix may end with."""

from typing import Final

from holding.scope import VIEW
from tests.access_rules import CLEARED, OPEN, SIGNED_IN
from tests.doors import MISSING, UNSAFE, Door
from tests.principals import UNITS, Principal

REFUSED: Final = {"page": {403}, "api": {403}, "admin": {302, 403}}
STRANGE: Final = {"page": {302}, "api": {401}, "admin": {302}}
OF_THEIR_OWN: Final = frozenset(
    f"admin:{name}"
    for name in ("autocomplete", "view_on_site", "logout", "login", "password_change", "password_change_done")
)
"""Addresses of the administration that answer in ways of their own; the last two lead to the portal's page."""


def allowed(principal: Principal, door: Door, method: str, *, fragment: bool = False) -> set[int]:
    """Return the statuses that an attempt may have."""
    rule = door.asks(method)
    if rule == OPEN:
        return {200, 302, 400, 403, 404, 405, 410, 422, 429}
    if rule is None and OPEN in door.offers:
        return {405}  # where nobody is asked who they are, all that is told is what is offered
    return _guarded(principal, door, method, fragment=fragment)


def _guarded(principal: Principal, door: Door, method: str, *, fragment: bool) -> set[int]:
    """Return the statuses of an attempt at a door that asks who comes."""
    rule = door.asks(method)
    standing = principal.standing(door.kind)
    if standing == "stranger":
        return {401} if fragment else STRANGE[door.kind]
    if door.kind == "admin" and not (principal.staff and principal.holds("admin.use")):
        # The administration leads those without its permission to its sign-in, which refuses them.
        return {403} if door.name == "admin:login" and standing != "stranger" else REFUSED["admin"]
    if rule is None:
        return {403, 405}
    # Only the rows of units are cut to what is in view: all else in the administration needs the whole holding.
    everywhere = door.kind == "admin" and rule != VIEW
    holds = principal.holds_everywhere(rule) if everywhere else principal.holds(rule)
    refused = rule != SIGNED_IN and standing == "uncleared"
    if refused or not (rule in (SIGNED_IN, CLEARED) or holds):
        # The administration looks for a row before it asks whether one may see it.
        absent = door.of == MISSING or (door.of in UNITS and not principal.sees(door.of))
        gone = {302, 404} if door.kind == "admin" and absent else set()
        return {403} | gone
    return _granted(principal, door, method)


def _granted(principal: Principal, door: Door, method: str) -> set[int]:
    """Return the statuses of an attempt at a door that the principal may pass."""
    there = door.of == "" or (door.of in UNITS and principal.reaches(door.of, door.seen))
    if door.kind == "admin":
        if method in UNSAFE:
            return {200, 302, 400, 403, 404, 405}
        if door.name in OF_THEIR_OWN:
            return {200, 302, 403, 404, 405}
        return {200, 302, 400} if door.queried else {200} if there else {302, 404}
    if method in UNSAFE:
        return _written(door, there)
    if not there or door.asks(method) == SIGNED_IN:
        return {200, 302, 410} if there else {404}
    return {200, 400} if door.queried and door.kind == "api" else {200}


def _written(door: Door, there: bool) -> set[int]:
    """Return the statuses of a write by somebody who may. What is sent is empty: most change nothing."""
    if door.name == "api-not-found":
        return {404}
    if isinstance(door.rule, str):
        return {400, 405}
    if not there:
        return {400, 404} if door.kind == "api" else {404}
    return {200, 201, 204, 302, 400, 403, 404, 409, 410, 422, 429}
