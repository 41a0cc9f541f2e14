"""Whose fault a failure is: the database's is waited out, a message's isolates the message."""

import threading
from collections.abc import Callable, Sequence

import django.db
import psycopg
import pytest
from django.db import connection

from bus import counters
from bus.commit import Committer, is_outage
from bus.feeds import Feed, Raw
from bus.models import Counter, OutboxMessage, QuarantinedMessage
from bus.services import Rejected, quarantine

pytestmark = pytest.mark.django_db


def make_raw(seq: int) -> Raw:
    return Raw(
        b"org.claytom.pricing.metrics.kpi", b"NATS/1.0\r\nce-source: x\r\n\r\n", b"%d" % seq, seq, "CT_KPI", seq
    )


def make_committer(handle: Callable[[Sequence[Raw]], None], stop: threading.Event | None = None) -> Committer:
    return Committer(Feed("CT_KPI", "portal-kpi", handle), stop or threading.Event())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bus.commit.FIRST_DELAY", 0.001)
    monkeypatch.setattr(connection, "close", lambda: None)  # the test's transaction lives on it


@pytest.mark.parametrize("bad", [{1}, {100}, {37}, {1, 50, 51, 100}, set(range(1, 101))])
def test_a_message_that_fails_is_isolated(bad: set[int]) -> None:
    done: list[int] = []

    def handle(raws: Sequence[Raw]) -> None:
        if any(raw.seq in bad for raw in raws):
            raise KeyError("surprise")
        done.extend(raw.seq for raw in raws)

    assert make_committer(handle).commit([make_raw(seq) for seq in range(1, 101)])
    assert done == [seq for seq in range(1, 101) if seq not in bad]
    rows = QuarantinedMessage.objects.all()
    assert {row.stream_seq for row in rows} == bad
    assert {(row.stage, row.reason) for row in rows} == {("handler", "KeyError: 'surprise'")}


@pytest.mark.parametrize(
    "error",
    [
        django.db.OperationalError("down"),
        psycopg.errors.AdminShutdown("restarting"),
        psycopg.errors.DiskFull("No space left on device"),
        psycopg.errors.DeadlockDetected("deadlock"),
        psycopg.errors.ReadOnlySqlTransaction("standby"),
        psycopg.errors.UndefinedTable("not migrated"),
        psycopg.errors.InsufficientPrivilege("not granted"),
        psycopg.InterfaceError("closed"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_failing_database_gets_the_same_batch_until_it_takes_it(error: Exception) -> None:
    batch, tries = [make_raw(1), make_raw(2)], []

    def handle(raws: Sequence[Raw]) -> None:
        tries.append(list(raws))
        if len(tries) < 4:
            raise error

    assert make_committer(handle).commit(batch)
    assert tries == [batch] * 4
    assert not QuarantinedMessage.objects.exists()


@pytest.mark.parametrize(
    "error",
    [psycopg.errors.NumericValueOutOfRange("x"), psycopg.errors.UniqueViolation("x"),
     psycopg.errors.ProgramLimitExceeded("x"), psycopg.errors.UntranslatableCharacter("x"), ValueError("x")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_what_waiting_cannot_mend_is_the_messages_fault(error: Exception) -> None:
    assert not is_outage(error)


def test_a_stop_ends_the_wait_without_a_commit() -> None:
    stop = threading.Event()

    def handle(_raws: Sequence[Raw]) -> None:
        stop.set()
        raise django.db.OperationalError("down")

    assert not make_committer(handle, stop).commit([make_raw(1)])
    assert not QuarantinedMessage.objects.exists()


def test_a_failing_tick_does_not_stop_the_messages() -> None:
    committer = make_committer(lambda _raws: None)
    committer.attempt(lambda: 1 / 0)  # type: ignore[arg-type]
    assert committer.commit([make_raw(1)])


# --- quarantine -------------------------------------------------------------------------------------------
def test_a_refusal_that_comes_again_is_kept_and_told_once() -> None:
    rejected = [Rejected(make_raw(seq), "json", "not JSON", "not-json") for seq in (1, 2)]
    assert quarantine(rejected=[*rejected, rejected[0]]) == 2
    assert quarantine(rejected=rejected) == 0
    assert QuarantinedMessage.objects.count() == OutboxMessage.objects.count() == 2


def test_of_a_flood_the_first_are_kept_and_all_counted(
    monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Callable[..., object]
) -> None:
    flood = [Rejected(make_raw(seq), "schema", f"field {seq}", "flood") for seq in range(1000)]
    with django_capture_on_commit_callbacks(execute=True):  # type: ignore[attr-defined]
        kept = quarantine(rejected=flood)
    assert 50 <= kept < 60
    assert QuarantinedMessage.objects.count() == kept
    counters.flush()
    assert Counter.objects.get(name="claytom_rejected_total", labels__rule="flood").value == 1000
    assert quarantine(rejected=[Rejected(make_raw(2000), "schema", "another", "another")]) == 1


def test_hostile_bytes_fit_into_the_quarantine() -> None:
    headers = b"NATS/1.0\r\nce-source: \x00\xff\r\nno colon\r\n\r\n"
    raw = Raw(b"org.claytom.\xff\x00.metrics.kpi", headers, b"\0" * 40_000, 1, "CT_KPI", 1)
    assert quarantine(rejected=[Rejected(raw, "json", "\0" * 900, "x")]) == 1
    row = QuarantinedMessage.objects.get()
    assert (row.size, len(bytes(row.body))) == (40_000, 32_768)
    assert OutboxMessage.objects.get().subject == "org.claytom.corporate.quarantine.unknown"


# --- counters ---------------------------------------------------------------------------------------------
def test_counters_of_all_processes_add_up_and_survive_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        counters.add("claytom_test_total", 2, stream="A")
        counters.add("claytom_test_total", stream="B")
        with monkeypatch.context() as patch:
            patch.setattr(
                "bus.models.CounterManager.add", lambda *_: (_ for _ in ()).throw(django.db.OperationalError())
            )
            with pytest.raises(django.db.OperationalError):
                counters.flush()
        counters.flush()
    rows = Counter.objects.filter(name="claytom_test_total").order_by("id").values_list("labels", "value")
    assert list(rows) == [({"stream": "A"}, 4), ({"stream": "B"}, 2)]
