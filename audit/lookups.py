"""`__in` with many values as one parameter.

Django names each value of a list by itself. A statement with four hundred parameters is too long for the driver's
cache of parsed statements, so that it is parsed anew each time: a tenth of what the bus does in a mass replacement.
"""

from typing import Any, Final

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Field, ForeignObject
from django.db.models.fields.related_lookups import RelatedIn
from django.db.models.lookups import In
from django.db.models.sql.compiler import SQLCompiler

from audit.arrays import array

FEW: Final = 8
ARRAYS: Final = {int: "bigint", str: "text"}
LEAST, MOST = -(2**63), 2**63 - 1


class _AsArray(In):
    """Compares with the elements of an array, where there are more than a few numbers or texts."""

    def process_rhs(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        """Return the right side: Django's list of placeholders, or one for all."""
        placeholder, values = super().process_rhs(compiler, connection)
        kinds = set(map(type, values)) if self.rhs_is_direct_value() and len(values) > FEW else set()
        kind = ARRAYS.get(kinds.pop()) if len(kinds) == 1 else None
        if kind == "bigint" and any(not LEAST <= int(value) <= MOST for value in values):
            kind = None  # whoever asks for a number that no column can hold finds nothing, as ever
        return (f"%s::{kind}[]", (array(values),)) if kind else (placeholder, values)

    def get_rhs_op(self, connection: BaseDatabaseWrapper, rhs: str) -> str:
        """Return the operator with the right side."""
        return f"= any({rhs})" if rhs.startswith("%s::") else super().get_rhs_op(connection, rhs)


class ManyIn(_AsArray):
    """Of a column."""


class RelatedManyIn(RelatedIn, _AsArray):
    """Of a foreign key."""


def register() -> None:
    """Use them from now on."""
    Field.register_lookup(ManyIn)
    ForeignObject.register_lookup(RelatedManyIn)
