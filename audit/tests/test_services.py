"""The ledger: written with its change, sealed in one order, and every kind of tampering found."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from uuid import UUID

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.utils import ProgrammingError

from audit import merkle
from audit.models import Leaf, LedgerEntry, TreeHead, UnsealedEntry
from audit.services import Act, canonical, digest, record, record_many, seal, verify

UID = UUID("12345678-1234-5678-1234-567812345678")
AT = datetime(2026, 11, 22, 16, 40, 12, 31337, tzinfo=UTC)
ENTRIES = 11  # 8 + 2 + 1: three peaks


@pytest.fixture
def superuser(postgres_superuser_dsn: str) -> Iterator[psycopg.Connection]:
    """The administrator of the database, who can put every protection out of force."""
    with psycopg.connect(postgres_superuser_dsn, autocommit=True) as administrator:
        administrator.execute("set session_replication_role = replica")
        yield administrator


def make_entries(count: int = ENTRIES) -> None:
    with transaction.atomic():
        record_many(acts=[Act(actor="ana", action="seat.appoint", object=f"seat/{n}") for n in range(count)])


# --- the format, which is final ----------------------------------------------------------------------------


def test_the_canonical_bytes_are_these_for_ever() -> None:
    act = Act(
        actor="añá", action="seat.appoint", object="seat/pricing/op-0042",
        before={"generation": 1}, after={"generation": 2, "agent": "x"},
        details={"z": 1.0, "a": [True, None, "\u20ac"], "big": 1e21},
    )  # fmt: skip
    body = canonical(uid=UID, at=AT, act=act, correlation_id="c-1")
    assert body.decode() == (
        '{"action":"seat.appoint","actor":"añá",'
        '"after":"b714bbf07ba9706e8a775b69065f42125e8a0f0eaf0af3761c68a3b8f0630de3",'
        '"at":"2026-11-22T16:40:12.031337+00:00",'
        '"before":"fa02354bd70e0b908b245c66be4bbc6626f0e5c7dae4b4953d802d0b647b1ffb",'
        '"correlation":"c-1","details":{"a":[true,null,"€"],"big":1e+21,"z":1},'
        '"id":"12345678-1234-5678-1234-567812345678","object":"seat/pricing/op-0042","v":1}'
    )


def test_the_time_is_utc_whatever_zone_it_came_in() -> None:
    act = Act(actor="a", action="b", object="c")
    elsewhere = AT.astimezone(timezone(timedelta(hours=-5)))
    assert canonical(uid=UID, at=AT, act=act, correlation_id="") == canonical(
        uid=UID, at=elsewhere, act=act, correlation_id=""
    )


def test_digests_are_of_canonical_json() -> None:
    assert digest(None) == ""
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1}) == sha256(b'{"a":2,"b":1}').hexdigest()


# --- writing -----------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_an_entry_outside_its_changes_transaction_is_refused() -> None:
    with pytest.raises(RuntimeError, match="open atomic"):
        record(actor="ana", action="x", object="y")
    assert not LedgerEntry.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_an_entry_goes_with_its_change() -> None:
    def fail() -> None:
        with transaction.atomic():
            record(actor="ana", action="x", object="y")
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        fail()
    assert not LedgerEntry.objects.exists()
    assert not UnsealedEntry.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("table", ["audit_ledgerentry", "audit_leaf", "audit_treehead"])
@pytest.mark.parametrize("statement", ["update {} set {} = {}", "delete from {}", "truncate {} cascade"])
def test_the_application_cannot_change_what_is_written(table: str, statement: str) -> None:
    make_entries(3)
    seal()
    column = {"audit_ledgerentry": "actor", "audit_leaf": "leaf_hash", "audit_treehead": "root"}[table]
    with pytest.raises(ProgrammingError, match=r"denied|append-only"), connection.cursor() as cursor:
        cursor.execute(statement.format(table, column, column))
    assert verify().ok


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("statement", ["update audit_leaf set leaf_hash = ''", "delete from audit_ledgerentry"])
def test_not_even_the_owner_can(statement: str, postgres_superuser_dsn: str) -> None:
    make_entries(3)
    seal()
    with psycopg.connect(postgres_superuser_dsn) as owner:
        owner.execute("set role claytom_owner")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
            owner.execute(statement)


# --- sealing -----------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_sealing_goes_on_from_where_it_was() -> None:
    assert seal() == 0
    make_entries(5)
    assert [seal(limit=2) for _ in range(4)] == [2, 2, 1, 0]
    make_entries(6)
    assert seal() == 6
    assert list(Leaf.objects.order_by("index").values_list("index", flat=True)) == list(range(11))
    leaves = [
        merkle.leaf_hash(bytes(body)) for body in LedgerEntry.objects.order_by("id").values_list("body", flat=True)
    ]
    head = TreeHead.objects.order_by("-size").first()
    assert head is not None
    assert bytes(head.root) == merkle.root(merkle.append([], 0, leaves)[0])
    result = verify()
    assert (result.ok, result.entries, result.size, result.unsealed) == (True, 11, 11, 0)
    assert result.root == bytes(head.root).hex()


@pytest.mark.django_db(transaction=True)
def test_entries_committed_late_are_sealed_late_and_lost_never(postgres_superuser_dsn: str) -> None:
    """Numbers are drawn before the commit: a lower one may appear after a higher one was sealed."""
    drawn, commit = threading.Event(), threading.Event()

    def slow() -> None:
        with transaction.atomic():
            record(actor="slow", action="x", object="y")
            drawn.set()
            commit.wait(10)
        connection.close()

    thread = threading.Thread(target=slow)
    thread.start()
    assert drawn.wait(10)
    make_entries(2)
    assert seal() == 2
    commit.set()
    thread.join()
    assert seal() == 1
    assert verify().ok
    assert Leaf.objects.get(index=2).entry.actor == "slow"


@pytest.mark.django_db(transaction=True)
def test_two_sequencers_seal_each_entry_once() -> None:
    total, sealed = 60, []
    make_entries(total)

    def work() -> None:
        while UnsealedEntry.objects.exists():  # who finds another at work is told 0 at once
            sealed.append(seal(limit=7))
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(sealed) == total
    result = verify()
    assert (result.ok, result.size) == (True, total)


# --- tampering, by somebody whom the database does not stop ------------------------------------------------


def edit_body(db: psycopg.Connection) -> None:
    row = db.execute("select id, body from audit_ledgerentry order by id limit 1").fetchone()
    assert row is not None
    body = json.loads(bytes(row[1])) | {"actor": "eve"}
    db.execute(
        "update audit_ledgerentry set body = %s, actor = 'eve' where id = %s", [json.dumps(body).encode(), row[0]]
    )


def rewrite_leaf_too(db: psycopg.Connection) -> None:
    edit_body(db)
    row = db.execute("select id, body from audit_ledgerentry order by id limit 1").fetchone()
    assert row is not None
    db.execute(
        "update audit_leaf set leaf_hash = %s where entry_id = %s", [merkle.leaf_hash(bytes(row[1])), row[0]]
    )


def swap(db: psycopg.Connection) -> None:
    rows: dict[int, int] = dict(
        db.execute("select index, entry_id from audit_leaf where index in (2, 3)").fetchall()
    )
    hashes: dict[int, bytes] = dict(
        db.execute("select index, leaf_hash from audit_leaf where index in (2, 3)").fetchall()
    )
    db.execute("delete from audit_leaf where index in (2, 3)")
    for here, there in ((2, 3), (3, 2)):
        db.execute(
            "insert into audit_leaf (index, entry_id, leaf_hash) values (%s, %s, %s)",
            [here, rows[there], hashes[there]],
        )


def truncate_tail(db: psycopg.Connection) -> None:
    db.execute("delete from audit_ledgerentry where id in (select entry_id from audit_leaf where index >= 8)")
    db.execute("delete from audit_leaf where index >= 8")


def forge_head(db: psycopg.Connection) -> None:
    rewrite_leaf_too(db)
    bodies = [bytes(body) for (body,) in db.execute("select body from audit_ledgerentry order by id").fetchall()]
    peaks, size = merkle.append([], 0, [merkle.leaf_hash(body) for body in bodies])
    db.execute("update audit_treehead set root = %s where size = %s", [merkle.root(peaks), size])


def insert_unsealed(db: psycopg.Connection) -> None:
    db.execute(
        """
        insert into audit_ledgerentry (uid, at, actor, action, object, before, after, correlation_id, body)
        select gen_random_uuid(), at, actor, action, object, before, after, correlation_id, body
        from audit_ledgerentry limit 1
        """
    )


def statement(text: str) -> Callable[[psycopg.Connection], object]:
    return lambda db: db.execute(text)


TAMPERS: dict[str, tuple[Callable[[psycopg.Connection], object], str]] = {
    "the bytes of an entry": (edit_body, "not those that were sealed"),
    "the bytes and their leaf": (rewrite_leaf_too, "root does not follow"),
    "a column": (
        statement("update audit_ledgerentry set actor = 'eve' where object = 'seat/4'"),
        "columns disagree",
    ),
    "the time of an entry": (
        statement("update audit_ledgerentry set at = at - interval '1 day' where object = 'seat/4'"),
        "columns disagree",
    ),
    "bytes that are no JSON": (
        statement("update audit_ledgerentry set body = 'x' where object = 'seat/4'"),
        "not those that were sealed",
    ),
    "an entry deleted": (
        statement("delete from audit_ledgerentry where object = 'seat/4'"),
        "missing|entries, but",
    ),
    "a leaf deleted": (statement("delete from audit_leaf where index = 4"), "leaf 4 is missing"),
    "two leaves swapped": (swap, "root does not follow"),
    "the tail cut off": (truncate_tail, "the log has only 8 leaves"),
    "an entry slipped in": (insert_unsealed, "entries, but"),
    "a waiting entry forgotten": (statement("insert into audit_unsealedentry values (999999)"), "entries, but"),
    "a head forged": (statement("update audit_treehead set root = sha256('x')"), "root does not follow"),
    "a head invented": (
        statement("insert into audit_treehead select 99, at, root, peaks from audit_treehead limit 1"),
        "the log has only",
    ),
}  # fmt: skip


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", TAMPERS)
def test_tampering_is_found(kind: str, superuser: psycopg.Connection) -> None:
    make_entries()
    seal()
    assert verify().ok
    tamper, expected = TAMPERS[kind]
    tamper(superuser)
    result = verify()
    assert not result.ok
    assert any(re.search(expected, fault) for fault in result.faults), result.faults


@pytest.mark.django_db(transaction=True)
def test_the_command_says_what_is_wrong_and_fails(superuser: psycopg.Connection) -> None:
    make_entries()
    call_command("verify_ledger")
    edit_body(superuser)
    with pytest.raises(CommandError, match="bytes are not those that were sealed"):
        call_command("verify_ledger")
