"""Who asks and what they may do, in one round trip that also opens their rows: the start of every request.

Each request begins so, and the rights take effect with the next one. So it is plain SQL, which costs the process a
fifth of what the same costs as a queryset. Whoever opens must close again (`holding.scope.show`).
"""

import json
from collections.abc import Sequence
from typing import Any, Final, TypeVar

from django.db import DEFAULT_DB_ALIAS, connection
from django.db.models import Model
from django.utils import timezone

from holding.scope import EVERYTHING, NOTHING, Scope
from iam.access.grants import ALL, scope_of
from iam.access.models import ApiToken, User

Opened = tuple[User, Scope]
Row = TypeVar("Row", bound=Model)


def _names(model: type[Model]) -> list[str]:
    return [field.attname for field in model._meta.concrete_fields]


def _columns(model: type[Model]) -> str:
    return ", ".join(f'{model._meta.db_table}."{field.column}"' for field in model._meta.concrete_fields)


# `iam.access.grants.open_for` while the account's own row is read. An account that may not act opens nothing.
GIVEN: Final = """
    case when not (access_user.is_active and access_user.cleared) then null
         when access_user.is_superuser and {whole} then set_config('app.units', '*', false)
         else (select coalesce(jsonb_agg(jsonb_build_array(code, whole, units)), '[]')::text
                 from access_open(access_user.id, {codes}, {unit}, null)) end
"""
# ruff: noqa: S608 - what stands in the statements are names of this program
ACCOUNT: Final = f"""
    select {_columns(User)}, {GIVEN.format(whole="true", codes="'{}'", unit="null")}
      from access_user where access_user.id = %s
"""
OF_TOKEN: Final = GIVEN.format(
    whole="cardinality(access_apitoken.permissions) = 0 and access_apitoken.unit_id is null",
    codes="access_apitoken.permissions",
    unit="access_apitoken.unit_id",
)
TOKEN: Final = f"""
    select {_columns(User)}, {OF_TOKEN}, {_columns(ApiToken)}
      from access_apitoken join access_user on access_user.id = access_apitoken.user_id
     where access_apitoken.digest = %s
       and (access_apitoken.expires_at is null or access_apitoken.expires_at > %s)
       and access_user.is_active and access_user.cleared
"""
USER: Final = _names(User)


def open_account(pk: Any) -> Opened | None:
    """Return the account and what it may do, and let the connection see its units; None if there is none."""
    row = _first(ACCOUNT, [pk])
    return _opened(row) if row else None


def open_token(digest: str) -> tuple[ApiToken, Scope] | None:
    """Return a token with its account and what it opens, and let the connection see those units.

    None, and nothing opened, when it is unknown or has expired, or its account is not active or has no clearance.
    """
    row = _first(TOKEN, [digest, timezone.now()])
    if row is None:
        return None
    user, given = _opened(row)
    token = _made(ApiToken, row[len(USER) + 1 :])
    token.user = user
    return token, given


def _first(statement: str, params: Sequence[Any]) -> Sequence[Any] | None:
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        row: Sequence[Any] | None = cursor.fetchone()
    return row


def _opened(row: Sequence[Any]) -> Opened:
    return _made(User, row[: len(USER)]), _scope(row[len(USER)])


def _made(model: type[Row], values: Sequence[Any]) -> Row:
    return model.from_db(DEFAULT_DB_ALIAS, _names(model), values)


def _scope(given: str | None) -> Scope:
    if given is None:
        return NOTHING
    return ALL if given == EVERYTHING.key() else scope_of(json.loads(given))
