"""Samples as they come, good and bad, into rows, sums and last values."""

import json
import random
from collections import Counter as Sums
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import IntegrityError, connection, transaction
from django.db.models import Count, Sum
from django.db.models.functions import TruncMinute
from django.utils import timezone
from msgspec import structs

from bus import counters, fencing, receipts
from bus.feeds import Raw
from bus.fencing import Fenced
from bus.models import Counter, Lease, OutboxMessage, QuarantinedMessage, Watermark
from claytom_agent.client import iso
from holding.models import Unit
from holding.tests.factories import make_holding
from subsidiaries.performance import services
from subsidiaries.performance.intake import Intake
from subsidiaries.performance.latest import LastValues
from subsidiaries.performance.models import KPIS, KpiLatest, KpiMinute, KpiSample, SampleKey
from subsidiaries.performance.tests.factories import (
    BRIEF,
    SUBJECT,
    give_lease,
    make_body,
    make_division,
    make_headers,
    make_raw,
    stored_at,
)
from subsidiaries.performance.tests.factories import (
    KPIS as VALUES,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, db: None, ingest_role: Callable[[], None]) -> None:
    """A loaded holding, and an ingest process that has just started."""
    make_holding()
    for epoch in (7, 8, 9):
        give_lease(epoch)
    ingest_role()
    monkeypatch.setattr(services, "_intake", Intake())
    monkeypatch.setattr(services, "_last_values", LastValues())
    monkeypatch.setattr(counters, "_pending", Sums())


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Fenced]:
    """What those hear who registered for hosts that act without their division."""
    heard: list[Fenced] = []
    monkeypatch.setattr(fencing, "_listeners", [heard.extend])
    return heard


def record(*raws: Raw) -> Any:
    return services.record_samples(raws=raws)


def recomputed() -> dict[tuple[datetime, int, str], tuple[float, ...]]:
    """The minute sums, from the rows."""
    rows = (
        KpiSample.objects.filter(stale=False)
        .values_list(TruncMinute("ts"), "unit_id", "role")
        .annotate(Count("seq"), *(Sum(kpi) for kpi in KPIS))
        .order_by()
    )
    return {(minute, unit, role): tuple(sums) for minute, unit, role, *sums in rows}


def rollup() -> dict[tuple[datetime, int, str], tuple[float, ...]]:
    rows = KpiMinute.objects.values_list("minute", "unit_id", "role", "n", *(f"sum_{kpi}" for kpi in KPIS))
    return {(minute, unit, role): tuple(sums) for minute, unit, role, *sums in rows}


# --- what is accepted -------------------------------------------------------------------------------------
def test_the_briefs_json_is_enough_by_itself() -> None:
    ts = timezone.now().replace(microsecond=0)
    outcome = record(make_raw(BRIEF | {"ts": ts.isoformat()}, {}))
    assert (outcome.stored, outcome.rejected) == (1, [])
    row = KpiSample.objects.get()
    assert (row.unit.slug, row.role, row.ordinal, row.generation) == ("pricing", "coordinator", None, None)
    assert (row.ts, row.epoch, row.stale) == (ts, None, False)
    assert row.okrs == {"O1": "...", "KR1": 0, "KR2": 0}
    assert [getattr(row, kpi) for kpi in KPIS] == [0] * 5


def test_a_sample_with_headers_belongs_to_its_seat_and_generation() -> None:
    ts = timezone.now().replace(microsecond=123000)
    record(make_raw(make_body(ts=ts), make_headers(agent="op-0032-g3", seq="pricing.1.7.1")))
    row = KpiSample.objects.get()
    assert (row.ordinal, row.generation, row.epoch, row.ts) == (32, 3, 7, ts)
    assert {kpi: getattr(row, kpi) for kpi in KPIS} == VALUES


def test_a_corporate_seat_reports_under_its_body() -> None:
    headers = make_headers(unit="corporate", role="c-suite", agent="ceo", seq="corporate.c-suite.3.1")
    body = make_body(subsidiary="corporate", role="c-suite")
    record(make_raw(body, headers | {"Claytom-Generation": "2"}, subject=SUBJECT.replace("pricing", "corporate")))
    row = KpiSample.objects.get()
    assert (row.unit.slug, row.role, row.generation) == ("corporate", "c-suite", 2)
    assert row.ordinal is not None


@pytest.mark.parametrize("age", [timedelta(hours=23, minutes=59), -timedelta(seconds=110)])
def test_a_sample_within_the_window_is_summed(age: timedelta) -> None:
    assert record(make_raw(make_body(ts=timezone.now() - age))).rejected == []
    assert KpiMinute.objects.get().n == 1


def test_a_sample_older_than_raw_ones_are_kept_is_summed_and_not_kept() -> None:
    outcome = record(make_raw(make_body(ts=timezone.now() - timedelta(hours=8))))
    assert (outcome.stored, outcome.expired) == (0, 1)
    assert not KpiSample.objects.exists()
    assert KpiMinute.objects.get().n == 1


# --- what is refused --------------------------------------------------------------------------------------
def text(**changes: Any) -> bytes:
    return json.dumps(make_body(**changes)).encode()


REFUSALS: Sequence[tuple[str, Raw | bytes, str, str]] = [
    ("wrong role", text(role="manager"), "semantic", "role-unknown: 'manager' - at `$.role`"),
    ("NaN", text(kpis={"quality_score": float("nan")}), "json", "not-json: "),
    ("1e999", text().replace(b"40.25", b"1e999"), "schema", "out of range"),
    ("beyond measure", text(kpis={"throughput_per_day": 1e300}), "semantic", "out-of-range: "),
    ("a score over 100", text(kpis={"quality_score": 101}), "schema", "`$.kpis.quality_score`"),
    ("text for a number", text(kpis={"sla_met_pct": "97"}), "schema", "`$.kpis.sla_met_pct`"),
    ("a field too many", text(note="x"), "schema", "unknown field `note`"),
    ("a measure missing", json.dumps(make_body(kpis=None) | {"kpis": {}}).encode(), "schema", "`$.kpis`"),
    ("not JSON", b"{not json", "json", "not-json: "),
    ("not UTF-8", text().replace(b"pricing", b"pric\xffng"), "json", "not-json: "),
    ("nothing", b"", "json", "not-json: "),
    ("deeply nested", b'{"okrs":' + b"[" * 5000, "schema", "`$.okrs`"),
    ("oversize", text(okrs={"O1": "x" * 150, **{f"KR{n}": "y" * 100 for n in range(1, 9)}}) + b" " * 16_384, "size",
     "too-large: "),
    ("no time zone", text(ts="2026-01-01T00:00:00"), "schema", "`$.ts`"),
    ("another unit", text(subsidiary="sales"), "semantic", "subsidiary-mismatch: 'sales' - at `$.subsidiary`"),
    ("an OKR of the wrong type", text(okrs={"KR1": "much"}), "semantic", "okr-type: at `$.okrs`"),
    ("NUL in an OKR", text(okrs={"O1": "a\0b"}), "semantic", "okr-type: a NUL"),
    ("a unit that is none",
     make_raw(make_body(subsidiary="nowhere"), {}, subject=SUBJECT.replace("pricing", "nowhere")),
     "semantic", "unit-unknown: "),
    ("a seat that is none", make_raw(headers=make_headers(agent="op-9999-g1")), "semantic", "seat-unknown: "),
    ("a source that is none", make_raw(headers={"ce-source": "somebody"}), "semantic", "source-malformed: "),
    ("another's source", make_raw(headers=make_headers(agent="di-0001-g1", role="director")), "semantic",
     "source-mismatch: "),
    ("another type", make_raw(headers=make_headers() | {"ce-type": "org.claytom.kpi.sample.v9"}), "type",
     "type-unknown: "),
    ("a number that is none", make_raw(headers=make_headers(seq="pricing.1.7.x")), "semantic", "seq-malformed: "),
    ("a number too large", make_raw(headers=make_headers(seq="pricing.1.7." + "9" * 30)), "semantic",
     "seq-malformed: "),
    ("another unit's number", make_raw(headers=make_headers(seq="sales.1.7.1")), "semantic", "seq-malformed: "),
]  # fmt: skip


def test_bad_samples_are_quarantined_once_with_their_reason_and_the_good_ones_stored() -> None:
    bad = [message if isinstance(message, Raw) else make_raw(message) for _, message, _, _ in REFUSALS]
    good = make_division(range(1, len(bad) + 1))
    record(*(raw for pair in zip(good, bad, strict=True) for raw in pair))
    record(*bad)
    rows = {row.stream_seq: row for row in QuarantinedMessage.objects.all()}
    for raw, (name, _, stage, reason) in zip(bad, REFUSALS, strict=True):
        row = rows.pop(raw.seq)
        assert (name, row.stage) == (name, stage)
        assert reason in row.reason, name
        assert (bytes(row.body), row.size) == (raw.body[:32_768], len(raw.body)), name
    assert not rows
    assert KpiSample.objects.count() == len(good)


@pytest.mark.parametrize(("age", "reason"), [(timedelta(hours=25), "ts-old"), (-timedelta(minutes=3), "ts-future")])
def test_a_sample_of_another_day_is_refused(age: timedelta, reason: str) -> None:
    record(make_raw(make_body(ts=timezone.now() - age)))
    assert QuarantinedMessage.objects.get().reason.startswith(f"{reason}: ")
    assert not KpiMinute.objects.exists()


def test_the_first_and_the_last_time_there_is_are_refused() -> None:
    record(make_raw(make_body(ts="0001-01-01T00:00:00Z")), make_raw(make_body(ts="9999-12-31T23:59:59Z")))
    assert QuarantinedMessage.objects.count() == 2


def test_a_refusal_is_told_to_the_holding_and_counted(django_capture_on_commit_callbacks: Any) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        record(make_raw(b"{", seq=77), make_raw(b"{!", seq=78))
    told = OutboxMessage.objects.get(dedup="q-CT_KPI-77")
    assert told.subject == "org.claytom.corporate.quarantine.pricing"
    assert json.loads(bytes(told.payload))["stage"] == "json"
    counters.flush()
    counter = Counter.objects.get(name="claytom_rejected_total")
    assert counter.labels == {"stream": "CT_KPI", "stage": "json", "rule": "not-json"}
    assert counter.value == 2


def test_a_refused_sample_counts_as_received() -> None:
    record(make_raw(b"{", make_headers(seq="pricing.1.7.1")), make_raw(headers=make_headers(seq="pricing.1.7.2")))
    assert received() == "{[1,3)}"


# --- duplicates -------------------------------------------------------------------------------------------
def received() -> str:
    with connection.cursor() as cursor:
        cursor.execute("select received::text from bus_watermark order by epoch desc limit 1")
        return str(cursor.fetchone()[0])


def test_a_batch_that_comes_again_changes_nothing() -> None:
    batch = make_division(range(1, 21))
    record(*batch)
    before = rollup()
    outcome = record(*batch)
    assert (outcome.stored, outcome.duplicates) == (0, 20)
    assert KpiSample.objects.count() == 20
    assert rollup() == before == recomputed()
    assert received() == "{[1,21)}"


def test_samples_published_again_overlap_and_are_stored_once() -> None:
    first, second = make_division(range(1, 11)), make_division(range(5, 16))  # other places in the stream
    record(*first, *first[:3], *second)
    assert KpiSample.objects.count() == 15
    assert rollup() == recomputed()


def test_numbers_may_come_in_any_order_and_with_gaps() -> None:
    record(*make_division(range(11, 21)))
    record(*make_division(range(1, 5)), *make_division(range(19, 23)))
    assert received() == "{[1,5),[11,23)}"
    record(*make_division(range(1, 23)))
    assert received() == "{[1,23)}"
    assert KpiSample.objects.count() == 22
    assert rollup() == recomputed()


@pytest.mark.parametrize("seed", range(5))
def test_however_numbers_come_each_counts_once(seed: int) -> None:
    dice = random.Random(seed)
    sent: set[tuple[int, int]] = set()
    for _ in range(6):  # batches of pieces that overlap each other, what came before, or nothing
        batch: list[Raw] = []
        for _ in range(8):
            epoch, first, length = dice.choice((7, 8)), dice.randint(1, 60), dice.randint(1, 25)
            batch += make_division(range(first, first + length), epoch=epoch)
            sent |= {(epoch, number) for number in range(first, first + length)}
        if dice.random() < 0.5:
            dice.shuffle(batch)
        before = KpiSample.objects.count()
        outcome = record(*batch)
        assert outcome.stored + outcome.duplicates == len(batch)
        assert KpiSample.objects.count() == before + outcome.stored == len(sent)
    received = dict(Watermark.objects.values_list("epoch", "received"))
    assert {
        (epoch, number)
        for epoch, parts in received.items()
        for part in parts
        for number in range(part.lower, part.upper)
    } == sent
    assert rollup() == recomputed()


def test_an_unnumbered_sample_is_known_by_its_source_and_body() -> None:
    body = make_body()
    record(make_raw(body), make_raw(body))
    record(make_raw(body), make_raw(body, make_headers(agent="op-0032-g1")))
    assert list(KpiSample.objects.order_by("ordinal").values_list("ordinal", flat=True)) == [31, 32]


def test_two_anonymous_samples_may_be_equal() -> None:
    one, two = make_raw(BRIEF | {"ts": iso()}, {}), make_raw(BRIEF | {"ts": iso()}, {})
    record(one, two)
    record(one)
    assert KpiSample.objects.count() == 2


def test_another_epoch_counts_anew() -> None:
    record(*make_division(range(1, 4), epoch=7), *make_division(range(1, 4), epoch=9))
    assert KpiSample.objects.count() == 6


# --- fencing ----------------------------------------------------------------------------------------------
def test_samples_of_a_fenced_epoch_are_kept_and_not_counted() -> None:
    current, zombie = make_division(range(1, 4), epoch=9), make_division(range(1, 3), epoch=8)
    Lease.objects.filter(epoch=9).update(acquired_at=stored_at(current[0]))
    record(*current)
    before = rollup()
    outcome = record(*zombie)
    assert outcome.stale == 2
    assert set(KpiSample.objects.values_list("epoch", "stale")) == {(9, False), (8, True)}
    assert rollup() == before
    services.flush_latest()
    assert KpiLatest.objects.count() == 3


def test_a_takeover_in_the_middle_of_a_batch_fences_what_comes_after_it() -> None:
    old, new, zombie = (make_division(numbers, epoch=epoch) for numbers, epoch in
                        ((range(1, 3), 8), (range(1, 3), 9), (range(3, 5), 8)))  # fmt: skip
    Lease.objects.filter(epoch=9).update(acquired_at=stored_at(new[0]))
    record(*old, *new, *zombie)
    assert list(KpiSample.objects.order_by("seq").values_list("epoch", "stale")) == [
        (8, False), (8, False), (9, False), (9, False), (8, True), (8, True)
    ]  # fmt: skip


def test_an_epoch_that_nobody_was_given_counts_for_nothing_and_fences_nobody(told: list[Fenced]) -> None:
    outcome = record(*make_division(range(1, 3), epoch=10**15), *make_division(range(1, 4), epoch=9))
    assert (outcome.stored, outcome.stale) == (5, 2)
    assert set(KpiSample.objects.values_list("epoch", "stale")) == {(10**15, True), (9, False)}
    (item,) = told
    assert (item.verdict.standing, item.division, item.epoch, item.type, item.count) == (
        "unknown", "pricing.1", 10**15, "kpi.sample", 2
    )  # fmt: skip
    assert item.current is not None
    assert (item.current.epoch, item.current.host) == (9, "host-a")


def test_what_a_host_owes_from_before_the_takeover_is_late_and_no_intrusion(told: list[Fenced]) -> None:
    late, zombie = make_division(range(1, 3), epoch=8), make_division(range(3, 5), epoch=8)
    Lease.objects.filter(epoch=9).update(acquired_at=stored_at(late[0]))
    late = [with_time(raw, stored_at(raw) - timedelta(minutes=1)) for raw in late]
    assert record(*late).stale == 2
    assert not told
    assert record(*(with_time(raw, timezone.now()) for raw in zombie)).stale == 2
    assert [(item.verdict.standing, item.host, item.count) for item in told] == [("superseded", "host-a", 2)]


def with_time(raw: Raw, at: datetime) -> Raw:
    """A message that says to have been made at that time."""
    return structs.replace(raw, headers=raw.headers[:-2] + f"ce-time: {iso(at)}\r\n\r\n".encode())


# --- last values ------------------------------------------------------------------------------------------
def test_the_last_value_is_the_one_with_the_latest_time() -> None:
    now = timezone.now().replace(microsecond=0)
    for minutes, score in ((1, 50), (3, 10)):
        record(make_raw(make_body(ts=now - timedelta(minutes=minutes), kpis={"quality_score": score})))
        services.flush_latest()
    last = KpiLatest.objects.get()
    assert (last.ts, last.quality_score, last.ordinal) == (now - timedelta(minutes=1), 50, 31)
    assert KpiLatest.objects.for_seats([(last.unit_id, 31), (last.unit_id, 32)]) == {(last.unit_id, 31): last}


def test_last_values_that_a_killed_process_lost_are_made_good() -> None:
    record(*make_division(range(1, 6)))
    services.rebuild_latest()
    rebuilt = list(KpiLatest.objects.order_by("id").values())
    KpiLatest.objects.all().delete()
    services.flush_latest()
    assert list(KpiLatest.objects.order_by("id").values()) == rebuilt
    assert len(rebuilt) == 5


def test_a_flush_that_fails_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    record(make_raw())
    with monkeypatch.context() as patch:
        patch.setattr("subsidiaries.performance.latest.UPDATE", "select %s / 0")
        with pytest.raises(Exception, match="zero"), transaction.atomic():
            services.flush_latest()
    assert services.flush_latest() == 1


# --- reads ------------------------------------------------------------------------------------------------
def test_means_are_sums_over_sums() -> None:
    now = timezone.now().replace(second=1, microsecond=0)
    for minutes, score in ((0, 90), (0, 60), (1, 30)):
        record(make_raw(make_body(ts=now - timedelta(minutes=minutes), kpis={"quality_score": score}), {}))
    unit = Unit.objects.get(slug="pricing")
    overview = KpiMinute.objects.for_overview(now - timedelta(minutes=5))
    assert list(overview) == [unit.id]
    assert (overview[unit.id].n, overview[unit.id].quality_score) == (3, 60)
    assert KpiMinute.objects.for_roles(unit.id, now - timedelta(minutes=5)) == {"operator": overview[unit.id]}
    series = KpiMinute.objects.for_unit(unit.id, now - timedelta(minutes=5))["operator"]
    assert [(minute.minute, means.quality_score) for minute, means in series] == [
        ((now - timedelta(minutes=1)).minute, 30), (now.minute, 75)
    ]  # fmt: skip
    assert KpiMinute.objects.series(unit.id, now - timedelta(minutes=5)) == series


def test_coverage_is_the_share_of_seats_heard_of_and_falls_in_silence() -> None:
    record(*make_division(range(1, 6)))
    services.flush_latest()
    services.count_coverage()
    pricing = Unit.objects.get(slug="pricing").id
    coverage = KpiLatest.objects.coverage(timezone.now())
    assert len(coverage) == 36
    assert coverage[pricing] == 5 / 35
    assert sum(coverage.values()) == coverage[pricing]
    assert KpiLatest.objects.coverage(timezone.now() + timedelta(minutes=3))[pricing] == 0


@pytest.mark.parametrize("read", [
    lambda unit, since: KpiMinute.objects.for_overview(since),
    KpiMinute.objects.for_roles,
    KpiMinute.objects.for_unit,
    KpiMinute.objects.series,
    lambda unit, since: KpiLatest.objects.coverage(since),
])  # fmt: skip
def test_a_read_is_one_query(read: Any, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1):
        read(1, timezone.now())


# --- partitions -------------------------------------------------------------------------------------------
def partitions() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "select relname from pg_inherits join pg_class on oid = inhrelid "
            "where inhparent = 'performance_kpisample'::regclass order by relname"
        )
        return [name.removeprefix("performance_kpisample_") for (name,) in cursor.fetchall()]


def hour(offset: int) -> str:
    return (datetime.now(UTC) + timedelta(hours=offset)).strftime("%Y%m%d%H")


def test_partitions_are_made_ahead_and_dropped_when_they_expire(settings: LazySettings) -> None:
    services.maintain_partitions()
    assert partitions() == [*(hour(n) for n in range(-6, 4)), "default"]
    record(make_raw(make_body(ts=timezone.now() - timedelta(hours=4))), make_raw(make_body(), {}))
    settings.KPI_RETENTION_HOURS = 2
    assert services.maintain_partitions().dropped == 4
    assert partitions() == [*(hour(n) for n in range(-2, 4)), "default"]
    assert KpiSample.objects.count() == 1
    assert services.maintain_partitions() == services.Upkeep(0, 0, 0)


def test_rows_that_had_no_partition_are_moved_into_theirs(settings: LazySettings) -> None:
    settings.KPI_RETENTION_HOURS = 2
    services.maintain_partitions()
    settings.KPI_RETENTION_HOURS = 6
    record(make_raw(make_body(ts=timezone.now() - timedelta(hours=4))), make_raw(make_body(), {}))
    assert services.maintain_partitions() == services.Upkeep(4, 0, 1)
    with connection.cursor() as cursor:
        cursor.execute("select count(*) from performance_kpisample_default")
        assert cursor.fetchone() == (0,)
    assert KpiSample.objects.count() == 2


@pytest.mark.parametrize("arguments", [(0, 3), (6, 0), (10_000, 3), (6, 1000)])
def test_the_owners_function_refuses_other_bounds(arguments: tuple[int, int]) -> None:
    with pytest.raises(Exception, match="Retention must be"), connection.cursor() as cursor:
        cursor.execute("select performance_maintain_partitions(%s, %s)", arguments)


def test_what_is_no_longer_needed_is_forgotten() -> None:
    record(*make_division(range(1, 3), epoch=7), *make_division(range(1, 3), epoch=9), make_raw(make_body(), {}))
    services.maintain_partitions()
    assert (Watermark.objects.count(), SampleKey.objects.count()) == (2, 1)
    Watermark.objects.update(updated_at=timezone.now() - timedelta(days=2))
    SampleKey.objects.update(at=timezone.now() - timedelta(days=2))
    services.maintain_partitions()
    receipts.forget()
    assert [mark.epoch for mark in Watermark.objects.all()] == [9]
    assert not SampleKey.objects.exists()


def test_the_key_of_a_seat_is_held_by_the_database() -> None:
    unit = Unit.objects.get(slug="pricing")
    with pytest.raises(IntegrityError), transaction.atomic():
        KpiLatest.objects.create(id=1, unit=unit, ordinal=1, role="director", ts=timezone.now(), **VALUES)
