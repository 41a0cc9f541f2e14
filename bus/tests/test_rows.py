from datetime import UTC, datetime

import pytest

from bus.models import OutboxMessage
from bus.rows import insert_rows, update_rows

pytestmark = pytest.mark.django_db

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def message(name: str) -> OutboxMessage:
    payload = b'{"text": "\\\\ \\" , {} \x00\xff"}'
    return OutboxMessage(subject=f"s.{name}", headers={"a": f'{name} "ñ\\,{{}}"'}, payload=payload, dedup=name)


def stored() -> list[tuple[int, str, dict[str, str], bytes]]:
    rows = OutboxMessage.objects.order_by("pk")
    return [(row.pk, row.subject, row.headers, bytes(row.payload)) for row in rows]


def test_rows_are_inserted_in_order_and_get_their_keys() -> None:
    rows = insert_rows(message(name) for name in ("c", "a", "b"))
    assert [row.dedup for row in rows] == ["c", "a", "b"]
    assert [row.pk for row in rows] == sorted(row.pk for row in rows)
    assert stored() == [(row.pk, row.subject, row.headers, row.payload) for row in rows]
    assert all(row.created_at is not None and not row._state.adding for row in rows)


def test_rows_that_are_known_are_left_out() -> None:
    insert_rows([message("a")])
    insert_rows([message("b"), message("a")], known=True)
    assert [subject for _, subject, *_ in stored()] == ["s.a", "s.b"]


def test_only_the_named_fields_are_written_and_null_is_a_value() -> None:
    first, second, third = insert_rows(message(name) for name in "abc")
    first.sent_at, first.error, first.subject = AT, "it's \\ said", "not written"
    second.stream_seq, second.sent_at = 7, None
    assert update_rows([first, second], ["sent_at", "error", "stream_seq"]) == 2
    values = OutboxMessage.objects.order_by("pk").values_list("subject", "sent_at", "error", "stream_seq")
    assert list(values) == [("s.a", AT, "it's \\ said", None), ("s.b", None, "", 7), ("s.c", None, "", None)]
    assert third.pk


def test_no_rows_are_no_statement() -> None:
    assert insert_rows([]) == []
    assert update_rows([], ["sent_at"]) == 0
