"""Arrays as text: whatever goes in comes out of the database as it was."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase
from psycopg.types.json import Jsonb

from audit.arrays import array

AT = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)
LARGEST = 2**63 - 1


def through(kind: str, values: Sequence[Any]) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(f"select %s::{kind}[]", [array(values)])
        found: list[Any] = cursor.fetchone()[0]
    return found


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("bigint", []),
        ("bigint", [0, -LARGEST - 1, LARGEST, None]),
        ("bool", [True, None, False]),
        (
            "text",
            ["", "null", "NULL", None, "{}", "a,b", '"', "\\", '\\"', "\\n", "\n", "\t\x01\x7f", "ñ€😀", " x "],
        ),
        ("text", ["{1,2}", '{"a": "b\\\\"}', "\\x00ff"]),
        ("timestamptz", [AT, None, AT.astimezone(timezone(timedelta(hours=-3)))]),
        ("uuid", [UUID(int=0), UUID(int=2**128 - 1), None]),
        ("bytea", [b"", b"\x00\xff\\x41", None, b'{"a":"\\""}']),
        ("float8", [1.5, -0.1, None]),
        ("numeric", [Decimal("1.10"), Decimal("-3")]),
        ("numeric", [2**64, -(2**70)]),
    ],
)
def test_values_are_read_as_they_were(kind: str, values: list[Any]) -> None:
    found = through(kind, values)
    assert [bytes(v) if isinstance(v, memoryview) else v for v in found] == values


@pytest.mark.django_db
def test_json_is_read_as_it_was() -> None:
    values: list[Any] = [{"a": 'b"\\\n', "c": [1, None, {"é": "\u2028"}]}, [], "text", 7]
    with connection.cursor() as cursor:
        for wrapped in map(Jsonb, values):
            parameters: list[Any] = [wrapped, array([wrapped])]
            cursor.execute("select %s::jsonb = (%s::jsonb[])[1]", parameters)
            assert cursor.fetchone()[0] is True


class AnyText(TestCase):
    """Texts that nobody thought of."""

    @given(st.lists(st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))))
    def test_any_text(self, values: list[str | None]) -> None:
        assert through("text", values) == values
