"""What an account may do now: its bindings, read in one round trip that also opens its rows."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from django.db import connection

from holding.scope import EVERYTHING, NOTHING, Scope, Units, show
from iam.access.models import ApiToken, User
from iam.access.permissions import PERMISSIONS

ALL = Scope(dict.fromkeys(PERMISSIONS))
OPEN = "select code, whole, units from access_open(%s, %s, %s, %s)"
FOREVER = "infinity"  # for PostgreSQL later than any time; what has no end lasts until then, and nothing else


def open_for(account: User, token: ApiToken | None = None, *, until: datetime | str | None = None) -> Scope:
    """Return what the account may do, by this token if it shows one, and let the connection see its units.

    With `until` only what lasts until then, without emergency access; `FOREVER` is what has no end.
    Whoever calls this must close again (`holding.scope.show`): the connection stays open until then.
    """
    if not (account.is_active and account.cleared):
        return NOTHING
    if account.is_superuser and (token is None or not (token.permissions or token.unit_id)):
        show(EVERYTHING)
        return ALL
    codes: Sequence[str] = token.permissions if token else ()
    with connection.cursor() as cursor:
        cursor.execute(OPEN, [account.pk, list(codes), token.unit_id if token else None, until])
        return scope_of(cursor.fetchall())


def scope_of(rows: Iterable[tuple[str, bool, list[int]]]) -> Scope:
    """Return the scope of the rows of `access_open`."""
    grants: dict[str, Units] = {}
    for code, whole, units in rows:
        permission = PERMISSIONS.get(code)
        if permission is None or (permission.wide and not whole):
            continue  # a word of another version; or about the whole holding, and held for a part of it
        grants[code] = None if whole else frozenset(units)
    return Scope(grants)
