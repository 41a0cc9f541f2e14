"""Which units whoever acts may see, and what for: one gate for all reads, and the setting beneath it.

A `Scope` is what somebody may do, each permission with its units. While it is open (`opened`), the managers of
models that belong to units return the rows of the units in view, and the database, by row-level security, no
others even to a query that bypasses the managers. Work that nobody asked for (tasks, handlers, commands) runs
under `EVERYTHING`; a web process begins every request under `NOTHING`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from django.conf import settings
from django.core.exceptions import EmptyResultSet, FullResultSet
from django.db import connection, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.expressions import Func
from django.db.models.sql.compiler import SQLCompiler

Units = frozenset[int] | None
"""Ids of units; None for the whole holding, whatever units it has."""

VIEW: Final = "units.view"


@dataclass(frozen=True, slots=True)
class Scope:
    """What somebody may do: the units of each permission. A permission that is not held has no entry."""

    grants: Mapping[str, Units] = field(default_factory=dict)
    unlimited: bool = False

    def units(self, code: str = VIEW) -> Units:
        """Return for which units the permission is held: None for all, an empty set for none."""
        return None if self.unlimited else self.grants.get(code, frozenset())

    def allows(self, code: str, unit_id: int | None = None) -> bool:
        """Return whether the permission is held for the unit; without one, for the whole holding."""
        units = self.units(code)
        return units is None or (unit_id is not None and unit_id in units)

    def has(self, code: str) -> bool:
        """Return whether the permission is held for anything at all."""
        return self.unlimited or code in self.grants

    def key(self) -> str:
        """Return what tells apart the scopes whose reads differ, for caches."""
        units = self.units()
        return "*" if units is None else ",".join(map(str, sorted(units)))


EVERYTHING: Final = Scope(unlimited=True)
NOTHING: Final = Scope()

_current: ContextVar[Scope | None] = ContextVar("scope", default=None)


def current() -> Scope:
    """Return the scope that is open; that of the process if none is."""
    scope = _current.get()
    if scope is not None:
        return scope
    return EVERYTHING if settings.SCOPE == "everything" else NOTHING


@contextmanager
def assumed(scope: Scope) -> Iterator[None]:
    """Read under this scope. The connection is set by whoever knows the units (`iam.access`), or by `opened`."""
    token = _current.set(scope)
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def opened(scope: Scope) -> Iterator[None]:
    """Read under this scope, on the connection too; afterwards as before."""
    before = current()
    show(scope)
    try:
        with assumed(scope):
            yield
    finally:
        show(before)


def show(scope: Scope) -> None:
    """Let the connection see the units in view of this scope, and no others."""
    with connection.cursor() as cursor:
        cursor.execute("select set_config('app.units', %s, false)", [scope.key()])


Row_co = TypeVar("Row_co", bound=models.Model, covariant=True)


class InView(Func):
    """Whether a row is of a unit in view: of the scope in which the query runs, not of that in which it was made.

    Views, filters and forms make querysets when they are imported, and that is whenever the first request comes.
    """

    output_field = models.BooleanField()
    conditional = True

    def __init__(self, model: Any) -> None:
        """Take a model that says in `UNIT` where its unit is: in a column, or in one of a table beside."""
        key, _, self.column = model.UNIT.rpartition("__")
        self.beside = model._meta.get_field(key).related_model._meta if key else None
        super().__init__(models.F(f"{key}_id" if key else self.column))

    def as_sql(  # type: ignore[override]  # none of Func's further arguments is used
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper
    ) -> tuple[str, list[Any]]:
        """Return the condition. Raises FullResultSet when everything is in view, EmptyResultSet when nothing is."""
        units = current().units()
        if units is None:
            raise FullResultSet
        if not units:
            raise EmptyResultSet
        place, params = compiler.compile(self.get_source_expressions()[0])
        mine = "= any (%s::bigint[])"
        if self.beside:  # no join: it would be there, and lock rows, even when everything is in view
            meta = self.beside
            mine = f"in (select {meta.pk.column} from {meta.db_table} where {self.column} {mine})"  # noqa: S608
        return f"{place} {mine}", [*params, sorted(units)]


class ScopedManager(models.Manager[Row_co]):
    """The rows of the units in view. The model says in `UNIT` where its unit is: `unit_id`, `seat__unit_id`."""

    def get_queryset(self) -> models.QuerySet[Row_co]:
        """Return the rows that whoever acts may see."""
        return super().get_queryset().filter(InView(self.model))


def protect(table: str, unit: str) -> tuple[str, str]:
    """Return the SQL that puts a table under row-level security, and the SQL that takes it off; for migrations.

    `unit` is the column with the unit's id, or a condition in brackets of its own when no column has it.
    """
    ids = "(select string_to_array(nullif(current_setting('app.units', true), '*'), ','))::bigint[]"
    mine = f"{unit} = any ({ids})" if unit.isidentifier() else unit
    # The setting is read once for a query, not once for a row: both selects are planned as constants.
    # `case` and not `or`: the planner takes half of the rows for seen, not one in two hundred, and joins so.
    seen = f"case when (select current_setting('app.units', true)) = '*' then true else {mine} end"
    on = f"""
        alter table {table} enable row level security, force row level security;
        create policy units on {table} using ({seen}) with check ({seen});
    """
    off = f"""
        drop policy units on {table};
        alter table {table} no force row level security, disable row level security;
    """
    return on, off
