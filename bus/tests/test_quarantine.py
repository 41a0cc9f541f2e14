"""What becomes of refused messages: in which order they are refused, sent again, discarded, expired."""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone, translation

from audit.models import LedgerEntry
from bus.dispatch import Message, _handlers, decode_message, dispatch
from bus.feeds import Raw
from bus.models import HandledMessage, OutboxMessage, QuarantinedMessage, Suspect
from bus.quarantine import (
    KEPT_FOR,
    MAX_KEPT_BODY,
    RefusedActError,
    Rejected,
    discard,
    expire,
    quarantine,
    replay,
    take_replays,
    why_not_replayed,
)
from bus.services import MAX_BODY, is_suspect, suspect_sources
from bus.suspects import CALM, MANY, WITHIN, blamed, close_calm, count_refusals
from bus.suspects import Blame as Refusals
from bus.throttle import Throttle
from holding.tests.factories import make_holding

pytestmark = pytest.mark.django_db

AGENT = "org.claytom.pricing.operator.op-0031-g1"
SUBJECT = "org.claytom.pricing.metrics.state"


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    with translation.override("en"):
        yield


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has refused nothing yet."""
    monkeypatch.setattr("bus.quarantine._same_refusals", Throttle(burst=50, per_second=1))
    monkeypatch.setattr("bus.quarantine._all_refusals", Throttle(burst=2000, per_second=20))


def make_body(**changes: Any) -> bytes:
    body = {
        "ts": datetime.now(UTC).isoformat(), "agent": AGENT, "from": "idle", "to": "stuck", "reason": "slow",
        "restarts": 0, **changes,
    }  # fmt: skip
    return json.dumps(body).encode()


def make_raw(
    seq: int = 1,
    body: bytes | None = None,
    *,
    subject: str = SUBJECT,
    stream: str = "CT_EVENTS",
    without: str = "",
    headers: Mapping[str, str] | None = None,
) -> Raw:
    given = {
        "ce-type": "org.claytom.agent.state.v1", "ce-source": AGENT, "Nats-Msg-Id": f"st-{seq}",
        "Claytom-Epoch": "5", **(headers or {}),
    }  # fmt: skip
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items() if name != without)
    block = f"NATS/1.0\r\n{lines}\r\n".encode("utf-8", "surrogateescape")
    return Raw(subject.encode(), block, make_body() if body is None else body, seq, stream, seq)


def refuse(raw: Raw, **changes: Any) -> QuarantinedMessage:
    fields: dict[str, Any] = {"stage": "schema", "reason": "bad - at `$.to`", "rule": "schema", **changes}
    quarantine(rejected=[Rejected(raw, **fields)])
    return QuarantinedMessage.objects.get(stream=raw.stream, stream_seq=raw.seq)


# --- the order of the checks -------------------------------------------------------------------------------
UNKNOWN_TYPE = {"ce-type": "org.claytom.nothing.known.v1"}
HUGE = b'"' + b"x" * MAX_BODY + b'"'


@pytest.mark.parametrize(
    ("raw", "stage", "rule", "told"),
    [
        # Each is wrong in all that comes later too: the first check that it does not pass is the reason.
        (make_raw(body=HUGE + b"{", headers=UNKNOWN_TYPE), "size", "size", "at most 262144"),
        (make_raw(body=b"\xff{", headers=UNKNOWN_TYPE), "json", "not-json", "not UTF-8: byte 0xff"),
        (make_raw(body=b'{"later": "\xc3("}'), "json", "not-json", "not UTF-8"),
        (make_raw(body=b"{]", headers=UNKNOWN_TYPE), "json", "not-json", "JSON is malformed"),
        (make_raw(body=b"[" * 100_000), "json", "not-json", "recursion"),
        (make_raw(body=b"{} {}", headers=UNKNOWN_TYPE), "json", "not-json", "trailing"),
        (make_raw(body=b"[]", headers=UNKNOWN_TYPE), "type", "type-unknown", "org.claytom.nothing.known.v1"),
        (make_raw(body=b"[]", without="ce-source"), "type", "source-missing", "ce-source"),
        (make_raw(body=b"[]", subject="org.claytom.tax.metrics.cost"), "schema", "schema", "at `$`"),
        (make_raw(body=make_body(to="asleep")), "schema", "schema", "at `$.to`"),
        (make_raw(subject="org.claytom.pricing.metrics.cost"), "semantic", "subject-type", "does not travel on"),
        (make_raw(headers={"ce-source": "portal/x"}), "semantic", "source-party", "not by 'portal/x'"),
        (make_raw(headers={"ce-source": "a.b"}), "semantic", "source-malformed", "ce-source"),
        (make_raw(headers={"ce-source": "host/a b"}), "semantic", "source-malformed", "ce-source"),
        (make_raw(subject="org.claytom.tax.metrics.state"), "semantic", "source-unit", "another unit"),
        (
            make_raw(headers={"ce-source": "org.claytom.pricing.operator.op-0032-g1"}),
            "semantic", "agent-mismatch", "at `$.agent`",
        ),
        (
            make_raw(headers={"ce-source": "host/h1"}, subject="org.claytom.tax.metrics.state"),
            "semantic", "agent-unit", "at `$.agent`",
        ),
        (
            make_raw(body=make_body(agent="nobody"), headers={"ce-source": "host/h1"}),
            "semantic", "agent-malformed", "at `$.agent`",
        ),
        (make_raw(headers={"Claytom-Epoch": "-1"}), "semantic", "number-malformed", "Claytom-Epoch"),
        (make_raw(headers={"Nats-Msg-Id": "x" * 201}), "semantic", "id-too-long", "200"),
    ],
)  # fmt: skip
def test_the_first_check_that_fails_is_the_reason(raw: Raw, stage: str, rule: str, told: str) -> None:
    refusal = decode_message(raw)
    assert isinstance(refusal, Rejected)
    assert (refusal.stage, refusal.rule) == (stage, rule)
    assert told in refusal.reason


@pytest.mark.parametrize("source", [AGENT, "host/h1"])
def test_what_is_right_passes(source: str) -> None:
    assert isinstance(decode_message(make_raw(headers={"ce-source": source})), Message)


# --- what is kept ------------------------------------------------------------------------------------------
def test_a_message_is_kept_with_its_unit_and_those_of_no_unit_without() -> None:
    make_holding(subsidiaries=("pricing",))
    kept = refuse(make_raw(1))
    assert (kept.unit_id, kept.rule, kept.state, kept.whole) == (kept.unit_id, "schema", "held", True)
    assert kept.unit_id is not None
    assert refuse(make_raw(2, subject="org.claytom.nowhere.metrics.state")).unit_id is None
    assert refuse(make_raw(3, subject="$JS.EVENT.ADVISORY.x")).unit_id is None


@pytest.mark.parametrize(
    ("raw", "whole"),
    [
        (make_raw(body=b"x" * MAX_KEPT_BODY), True),
        (make_raw(body=b"x" * (MAX_KEPT_BODY + 1)), False),
        (make_raw(headers={"a": "x" * 1001}), False),
        (make_raw(headers={"a": "\0"}), False),
        (make_raw(headers={"a": "\udcff"}), False),
        (make_raw(headers={"ce-type": "b\r\nce-type: c"}), False),
    ],
    ids=["fits", "cut", "long header", "NUL", "no UTF-8", "twice"],
)
def test_only_what_is_kept_exactly_can_be_sent_again(raw: Raw, whole: bool) -> None:
    message = refuse(raw)
    assert message.whole is whole
    if whole:
        replay(number=message.pk, actor="ada")
        return
    with pytest.raises(RefusedActError, match=r"cut|Not all"):
        replay(number=message.pk, actor="ada")
    assert not OutboxMessage.objects.filter(insist=True).exists()


# --- replay and discard ------------------------------------------------------------------------------------
def test_a_message_is_sent_again_as_it_came() -> None:
    body = make_body()
    message = refuse(make_raw(7, body, headers={"Nats-Batch-Id": "b1", "Nats-Batch-Commit": "1", "x": "y"}))
    replay(number=message.pk, actor="ada")
    sent = OutboxMessage.objects.get(insist=True)
    assert (sent.subject, bytes(sent.payload), sent.dedup) == (SUBJECT, body, f"replay-{message.pk}")
    assert sent.headers == {
        "ce-type": "org.claytom.agent.state.v1", "ce-source": AGENT, "Nats-Msg-Id": "st-7", "Claytom-Epoch": "5",
        "x": "y", "Claytom-Replay": str(message.pk),
    }  # fmt: skip
    message.refresh_from_db()
    assert (message.state, message.decided_by, message.replay_id) == ("replayed", "ada", sent.pk)
    entry = LedgerEntry.objects.get(action="quarantine.replay")
    assert (entry.actor, entry.object) == ("ada", f"quarantine/{message.pk}")


def test_what_is_decided_stays_decided() -> None:
    message = refuse(make_raw())
    discard(number=message.pk, actor="ada", reason=" a test ")
    with pytest.raises(RefusedActError, match="discarded"):
        replay(number=message.pk, actor="bob")
    with pytest.raises(RefusedActError, match="discarded"):
        discard(number=message.pk, actor="bob", reason="again")
    message.refresh_from_db()
    assert (message.state, message.decided_by, message.note) == ("discarded", "ada", "a test")
    assert LedgerEntry.objects.filter(action__startswith="quarantine.").count() == 1


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501, "a\0b"])
def test_a_discard_needs_a_reason(reason: str) -> None:
    message = refuse(make_raw())
    with pytest.raises(RefusedActError):
        discard(number=message.pk, actor="ada", reason=reason)
    assert QuarantinedMessage.objects.get().state == "held"


def test_a_request_is_not_sent_again() -> None:
    message = refuse(make_raw(stream="request", subject="org.claytom.pricing.command.hello"))
    assert "no longer waits" in why_not_replayed(message)


def test_a_replay_has_its_effect_though_its_id_was_handled_and_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    handled: list[int] = []
    monkeypatch.setitem(
        _handlers, "org.claytom.agent.state.v1", lambda messages: handled.extend(one.raw.seq for one in messages)
    )
    HandledMessage.objects.create(consumer="portal-events", message_id="st-7")
    body = make_body()
    message = refuse(make_raw(7, body))
    dispatch([make_raw(8, body, headers={"Nats-Msg-Id": "st-7"})])
    assert handled == [], "an id that was handled changes nothing"
    replay(number=message.pk, actor="ada")
    mark = {"Nats-Msg-Id": "st-7", "Claytom-Replay": str(message.pk)}
    dispatch([make_raw(9, body, headers=mark)])
    assert handled == [9]
    dispatch([make_raw(10, body, headers=mark), make_raw(11, body, headers=mark)])
    assert handled == [9], "what was sent again has its effect once"


def test_nobody_makes_a_replay_by_writing_its_header() -> None:
    held, other = refuse(make_raw(1)), refuse(make_raw(2))
    replay(number=other.pk, actor="ada")
    mark = {"Claytom-Replay": str(other.pk)}
    forged = [
        make_raw(11, headers={"Claytom-Replay": str(held.pk)}),
        make_raw(12, make_body(to="idle"), headers=mark),
        make_raw(13, bytes(other.body), subject="org.claytom.tax.metrics.state", headers=mark),
        make_raw(14, headers={"Claytom-Replay": "9" * 30}),
        make_raw(15, headers={"Claytom-Replay": "x"}),
        make_raw(16),
    ]
    assert take_replays(forged) == set()
    assert take_replays([make_raw(17, bytes(other.body), headers=mark)]) == {17}


def test_after_ninety_days_the_bytes_are_wiped_and_what_was_held_is_expired() -> None:
    old, decided, new = (refuse(make_raw(seq)) for seq in (1, 2, 3))
    discard(number=decided.pk, actor="ada", reason="a test")
    now = timezone.now()
    past = now - KEPT_FOR - timedelta(minutes=1)
    QuarantinedMessage.objects.filter(pk__in=(old.pk, decided.pk)).update(received_at=past)
    assert expire(now=now) == 2
    assert expire(now=now) == 0
    rows = {row.pk: (row.state, bytes(row.body), row.headers) for row in QuarantinedMessage.objects.all()}
    assert rows[old.pk] == ("expired", b"", {})
    assert rows[decided.pk] == ("discarded", b"", {})
    assert rows[new.pk][0] == "held"
    assert rows[new.pk][1]
    with pytest.raises(RefusedActError, match="expired"):
        replay(number=old.pk, actor="ada")
    assert LedgerEntry.objects.filter(action="quarantine.expire").count() == 1
    expire(now=now + timedelta(days=370))
    assert set(QuarantinedMessage.objects.values_list("pk", flat=True)) == {new.pk}


# --- suspects ----------------------------------------------------------------------------------------------
def refuse_many(count: int, start: int = 100, **raw: Any) -> None:
    quarantine(
        rejected=[
            Rejected(make_raw(start + n, b"%d" % n, **raw), "schema", f"bad {n}", "schema") for n in range(count)
        ]
    )


def test_twenty_refusals_within_a_minute_make_a_suspect() -> None:
    make_holding(subsidiaries=("pricing",))
    refuse_many(MANY - 1)
    assert not suspect_sources()
    refuse_many(1, start=200)
    suspect = is_suspect(AGENT)
    assert suspect is not None
    assert suspect.unit_id is not None
    assert suspect_sources(unit_id=suspect.unit_id) == {AGENT}
    assert (suspect.count, suspect.reason, suspect.closed_at) == (MANY, "bad 0", None)
    assert LedgerEntry.objects.filter(action="source.suspect", object=f"suspect/{suspect.pk}").count() == 1
    told = OutboxMessage.objects.get(dedup=f"source.suspect-{suspect.pk}")
    assert told.subject == "org.claytom.corporate.quarantine.pricing"
    assert json.loads(bytes(told.payload))["source"] == AGENT


def test_what_the_throttle_does_not_keep_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bus.quarantine._has_room", lambda _refusal: False)
    refuse_many(500)
    refuse_many(500, start=1000)
    assert not QuarantinedMessage.objects.exists()
    assert Suspect.objects.get().count == 1000


def test_twenty_refusals_in_more_than_a_minute_make_none() -> None:
    now = timezone.now()
    pace = WITHIN / (MANY - 2)
    for number in range(3 * MANY):
        count_refusals([Refusals(AGENT, "pricing", 1, "schema", "schema", "bad")], at=now + number * pace)
    assert not Suspect.objects.exists()
    for number in range(MANY):
        at = now + 3 * MANY * pace + number * timedelta(seconds=1)
        count_refusals([Refusals(AGENT, "pricing", 1, "schema", "schema", "bad")], at=at)
    assert Suspect.objects.count() == 1


def test_a_mark_ends_when_it_has_been_calm_and_may_come_again() -> None:
    refuse_many(MANY)
    now = timezone.now()
    assert close_calm(now=now + CALM - timedelta(seconds=5)) == 0
    assert close_calm(now=now + CALM + timedelta(seconds=5)) == 1
    assert is_suspect(AGENT) is None
    assert LedgerEntry.objects.filter(action="source.clear").count() == 1
    assert OutboxMessage.objects.filter(dedup__startswith="source.clear-").count() == 1
    refuse_many(MANY, start=500)
    assert is_suspect(AGENT) is not None
    assert Suspect.objects.count() == 2


OTHER = "org.claytom.tax.operator.op-0031-g1"


@pytest.mark.parametrize(
    ("subject", "source", "who"),
    [
        (SUBJECT, AGENT, (AGENT, "pricing")),
        (SUBJECT, "host/h1", ("host/h1", "pricing")),
        (SUBJECT, OTHER, ("org.claytom.pricing", "pricing")),
        (SUBJECT, "", ("org.claytom.pricing", "pricing")),
        (SUBJECT, "host/a b", ("org.claytom.pricing", "pricing")),
        (SUBJECT, "x" * 255, ("org.claytom.pricing", "pricing")),
        ("nonsense", AGENT, ("unknown", "")),
        ("org.claytom.corporate.escalation.tax", OTHER, ("org.claytom.corporate", "corporate")),
    ],
)
def test_nobody_makes_another_unit_suspect(subject: str, source: str, who: tuple[str, str]) -> None:
    assert blamed(subject, source) == who


def test_a_refusal_that_comes_again_is_not_counted_again() -> None:
    raws = [make_raw(seq, b"%d" % seq) for seq in range(MANY - 1)]
    for _ in range(3):
        quarantine(rejected=[Rejected(raw, "schema", "bad", "schema") for raw in raws])
    assert not Suspect.objects.exists()


def test_the_ingest_marks_suspects_too(ingest_role: Callable[[], None]) -> None:
    make_holding(subsidiaries=("pricing",))
    ingest_role()
    refuse_many(MANY)
    assert Suspect.objects.get().unit_id is not None
