"""Many rows written by one statement, with columns as arrays.

Django's `bulk_update` makes a case distinction per row and column: for a hundred rows of twelve columns it thinks
for a quarter of a second before it asks the database. Its `bulk_create` names each value of each row by itself. As
arrays, the same costs a fraction, here and at the server.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import Enum
from typing import Any, Final, TypeAlias, TypeVar

from django.db import connection, models
from django.db.models.expressions import DatabaseDefault

from audit.arrays import array

Row = TypeVar("Row", bound=models.Model)
Column: TypeAlias = "models.Field[Any, Any]"
WRITTEN_AS_THEY_ARE: Final = frozenset({int, str, bool, datetime, type(None)})


def update_rows(rows: Iterable[models.Model], fields: Sequence[str]) -> int:
    """Write those fields of rows of one model, by primary key; return how many rows were there to write.

    In the caller's transaction, who holds the rows' locks where the order of locking matters. Nothing is computed
    by the database: values, not expressions. `auto_now` is not applied.
    """
    written = list(rows)
    if not written:
        return 0
    key = written[0]._meta.pk
    columns = [key, *(_column(written[0], name) for name in fields)]
    assignments = ", ".join(f"{_name(column)} = i.{_name(column)}" for column in columns[1:])
    statement = (
        f"update {_table(written[0])} t set {assignments} from {_arrays(columns)}"  # noqa: S608 - names of the model's own
        f" where t.{_name(key)} = i.{_name(key)}"
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, [array(_values(column, written)) for column in columns])
        return int(cursor.rowcount)


def insert_rows(rows: Iterable[Row], *, known: bool = False) -> list[Row]:
    """Write new rows of one model, in order, in the caller's transaction; return them with their primary keys.

    With `known`, rows that break a unique constraint are left out: they are there already. Then none gets its key.
    Columns that the database fills in are left to it.
    """
    written = list(rows)
    if not written:
        return []
    meta = written[0]._meta
    own_key = not isinstance(meta.pk, models.AutoField)
    for column in meta.concrete_fields:
        for row in written:
            column.pre_save(row, add=True)  # `auto_now_add`
    columns = [
        column
        for column in meta.concrete_fields
        if (own_key or column is not meta.pk)
        and not isinstance(getattr(written[0], column.attname), DatabaseDefault)
    ]
    names = ", ".join(_name(column) for column in columns)
    statement = (
        f"insert into {_table(written[0])} ({names}) select {names} from {_arrays(columns)} order by i.place"  # noqa: S608
        + (" on conflict do nothing" if known else f" returning {_name(meta.pk)}")
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, [array(_values(column, written)) for column in columns])
        if not known:
            for row, (number,) in zip(written, cursor.fetchall(), strict=True):
                row.pk = number
    for row in written:
        row._state.adding, row._state.db = False, "default"
    return written


def _column(row: models.Model, name: str) -> Column:
    column = row._meta.get_field(name)
    assert isinstance(column, models.Field)  # noqa: S101 - a relation back has no column
    return column


def _arrays(columns: Sequence[Column]) -> str:
    arrays = ", ".join(f"%s::{column.db_type(connection)}[]" for column in columns)
    return f"unnest({arrays}) with ordinality as i ({', '.join(_name(column) for column in columns)}, place)"


def _name(column: Column) -> str:
    return connection.ops.quote_name(str(column.column))


def _table(row: models.Model) -> str:
    return connection.ops.quote_name(row._meta.db_table)


def _values(column: Column, rows: Iterable[models.Model]) -> list[Any]:
    values = [getattr(row, column.attname) for row in rows]
    if WRITTEN_AS_THEY_ARE.issuperset(map(type, values)) and not isinstance(column, models.JSONField):
        return values  # what Django would return too, after looking at each
    return [_value(column, value) for value in values]


def _value(column: Column, value: Any) -> Any:
    value = column.get_db_prep_save(value, connection)
    return value.value if isinstance(value, Enum) else value
