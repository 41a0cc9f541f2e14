"""Malformed messages: none ends a process; each is taken, or refused with the place of its fault and counted."""

import json
import os
import random
import signal
import threading
import time
from collections import Counter as Sums
from collections.abc import Sequence
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.utils.module_loading import autodiscover_modules
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bus import feeds
from bus.commit import Committer
from bus.dispatch import Message, decode_message
from bus.feeds import Feed, Raw
from bus.models import Counter, HandledMessage, QuarantinedMessage
from bus.quarantine import Rejected
from bus.tests.mutants import AGENT, Mutator, originals
from bus.tests.test_given_up import call, start, until, with_bus
from claytom_agent.client import Bus, Outgoing
from subsidiaries.performance.intake import RefusedError
from subsidiaries.performance.intake import decode as decode_sample
from subsidiaries.replacement.tests.factories import bring_to_life, make_staffed_holding

SEED = int(os.environ.get("FUZZ_SEED", random.SystemRandom().randrange(1 << 32)))
STAGES = {"size", "json", "type", "schema", "semantic", "epoch"}
SHARE, ALL = 25_000, 900_000  # decoded in this process
HANDLED, HANDLED_ALL = 1_500, 50_000  # handed to the handlers, with the database
SENT, SENT_ALL = 1_200, 50_000  # through NATS to the processes


def say(text: str) -> None:
    print(f"\n{text} (FUZZ_SEED={SEED} repeats it)")  # noqa: T201 - whoever sees a failure needs the seed


# --- decoding ----------------------------------------------------------------------------------------------
def look(raws: Sequence[Raw] | Any, now: datetime) -> Sums[str]:
    """Decode as the processes do; return how many ended how. Nothing but a refusal may be raised."""
    ends: Sums[str] = Sums()
    for raw in raws:
        if raw.subject.endswith(b".metrics.kpi"):
            try:
                decode_sample(raw, now)
                ends["taken"] += 1
            except RefusedError as refusal:
                check(refusal.of(raw))
                ends[refusal.stage] += 1
            continue
        found = decode_message(raw)
        if isinstance(found, Message):
            ends["taken"] += 1
        else:
            check(found)
            ends[found.stage] += 1
    return ends


def check(refusal: Rejected) -> None:
    """A refusal names its stage and rule; one of a schema names the place."""
    assert refusal.stage in STAGES, refusal
    assert refusal.rule, refusal
    assert refusal.reason, refusal
    if refusal.stage == "schema":
        assert " - at `$" in refusal.reason or "`" in refusal.reason, refusal.reason


def decode_many(count: int, seed: int) -> None:
    began = time.monotonic()
    ends = look(Mutator(seed).messages(count), datetime.now(UTC))
    seconds = time.monotonic() - began
    say(f"{count:,} malformed messages decoded in {seconds:.1f} s: {dict(ends.most_common())}")
    assert sum(ends.values()) == count
    assert set(ends) - {"taken"} <= STAGES
    assert ends["json"]
    assert ends["type"]
    assert ends["schema"]
    assert ends["semantic"]


def test_every_message_of_the_registry_is_taken_before_it_is_bent() -> None:
    for one in originals():
        lines = "".join(f"{name}: {value}\r\n" for name, value in one.headers.items())
        raw = Raw(one.subject.encode(), f"NATS/1.0\r\n{lines}\r\n".encode(), json.dumps(one.body).encode(), 1)
        found = decode_message(raw)
        assert isinstance(found, Message) or found.stage == "semantic", (one.kind.name, found)


def test_a_share_of_malformed_messages_is_refused_with_the_place_of_the_fault() -> None:
    decode_many(SHARE, SEED)


@pytest.mark.full
@pytest.mark.parametrize("part", range(9))
def test_nine_hundred_thousand_malformed_messages_are_refused(part: int) -> None:
    decode_many(ALL // 9, SEED + 1 + part)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(sorted({name for one in originals() for name in one.body}))
BODIES = (
    st.binary(max_size=300)
    | JSON.map(lambda value: json.dumps(value).encode("utf-8", "replace"))
    | st.dictionaries(FIELDS, JSON, max_size=8).map(lambda value: json.dumps(value).encode("utf-8", "replace"))
)
HEADER = st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=60)


@given(
    original=st.sampled_from(originals()),
    body=BODIES,
    extra=st.dictionaries(st.sampled_from(["ce-source", "ce-type", "Claytom-Epoch", "Nats-Msg-Id", "x"]), HEADER),
)
@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_hypothesis_thinks_of_is_taken_or_refused(
    original: Any, body: bytes, extra: dict[str, str]
) -> None:
    headers = {**original.headers, **extra}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    raw = Raw(original.subject.encode(), f"NATS/1.0\r\n{lines}\r\n".encode(), body, 1, "CT_EVENTS")
    assert sum(look([raw], datetime.now(UTC)).values()) == 1


# --- handling ----------------------------------------------------------------------------------------------
def feed_of(stream: str) -> Feed:
    return next(feed for feed in (*feeds.registered("bus"), *feeds.registered("ingest")) if feed.stream == stream)


def handle_many(count: int, seed: int) -> None:
    """Hand malformed messages to the real feeds, and good ones among them.

    Not those of samples: only the ingest's role may copy rows, and its process gets them below.
    """
    autodiscover_modules("handlers")
    make_staffed_holding()
    bring_to_life("pricing")
    began = time.monotonic()
    good = 0
    committers = {name: Committer(feed_of(name), threading.Event()) for name in ("CT_EVENTS", "CT_PRESENCE")}
    batch: dict[str, list[Raw]] = {name: [] for name in committers}
    for number, raw in enumerate(Mutator(seed).messages(count)):
        if raw.stream in batch:
            batch[raw.stream].append(raw)
        if number % 100 == 0:
            good += 1
            batch["CT_EVENTS"].append(good_event(10_000_000 + number))
        if max(map(len, batch.values())) >= 400 or number == count - 1:
            for name, raws in batch.items():
                if raws:
                    assert committers[name].commit(raws)
                    raws.clear()
    say(f"{count:,} malformed messages handled in {time.monotonic() - began:.1f} s")
    assert HandledMessage.objects.filter(message_id__startswith="good-").count() == good
    stages = set(QuarantinedMessage.objects.values_list("stage", flat=True).distinct())
    assert stages <= STAGES | {"handler"}
    assert {"json", "type", "schema", "semantic"} <= stages
    surprises = QuarantinedMessage.objects.filter(stage="handler").values_list("reason", flat=True)
    assert not list(surprises), "a handler met something that no check had refused"


def good_event(seq: int) -> Raw:
    body = {
        "ts": datetime.now(UTC).isoformat(), "agent": AGENT, "from": "idle", "to": "stuck", "reason": "slow",
        "restarts": 0,
    }  # fmt: skip
    headers = (
        f"NATS/1.0\r\nce-type: org.claytom.agent.state.v1\r\nce-source: {AGENT}\r\nClaytom-Epoch: 5\r\n"
        f"Nats-Msg-Id: good-{seq}\r\n\r\n"
    )
    return Raw(
        b"org.claytom.pricing.metrics.state", headers.encode(), json.dumps(body).encode(), seq, "CT_EVENTS", seq
    )


@pytest.mark.django_db(transaction=True)
def test_handlers_meet_nothing_that_no_check_has_refused() -> None:
    handle_many(HANDLED, SEED)


@pytest.mark.full
@pytest.mark.django_db(transaction=True)
def test_fifty_thousand_malformed_messages_are_handled() -> None:
    handle_many(HANDLED_ALL, SEED + 100)


# --- on the bus --------------------------------------------------------------------------------------------
def send_many(url: str, count: int, seed: int) -> None:
    """Send malformed messages to the processes, good ones among them; both processes must live on."""
    make_staffed_holding()
    bring_to_life("pricing")
    call_command("ensure_streams", stdout=StringIO())
    processes = [start("bus"), start("ingest")]

    async def send(bus: Bus) -> tuple[int, int]:
        sent = good = 0
        for number, raw in enumerate(Mutator(seed).messages(count)):
            subject = raw.subject.decode("utf-8", "replace")
            if not sendable(subject):
                continue
            headers = {name: value for name, value in feeds.parse_headers(raw.headers).items() if value.isascii()}
            await bus.publish(subject, raw.body, {k: v for k, v in headers.items() if k.isascii() and k})
            sent += 1
            if number % 100 == 0:
                event = good_event(number)
                await bus.js_publish(
                    Outgoing(event.subject.decode(), event.body, feeds.parse_headers(event.headers))
                )
                good += 1
        await bus.flush()
        return sent, good

    try:
        began = time.monotonic()
        sent, good = with_bus(url, send)
        until(lambda: all(with_bus(url, lambda b, n=n: drained(b, *n)) for n in CONSUMERS), seconds=600)  # type: ignore[misc]
        assert [process.poll() for process in processes] == [None, None]
        assert HandledMessage.objects.filter(message_id__startswith="good-").count() == good
        say(f"{sent:,} malformed messages through NATS in {time.monotonic() - began:.1f} s")
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        ends = [process.wait(timeout=30) for process in processes]
    assert ends == [0, 0]
    assert not list(QuarantinedMessage.objects.filter(stage="handler").values_list("reason", flat=True))
    refused = sum(Counter.objects.filter(name="claytom_rejected_total").values_list("value", flat=True))
    assert refused >= QuarantinedMessage.objects.count() > 0


CONSUMERS = (("CT_EVENTS", "portal-events"), ("CT_PRESENCE", "portal-presence"), ("CT_KPI", "portal-kpi"))


async def drained(bus: Bus, stream: str, consumer: str) -> bool:
    info = await call(bus, f"CONSUMER.INFO.{stream}.{consumer}")
    return bool(info["num_pending"] == 0 and info["num_ack_pending"] == 0)


def sendable(subject: str) -> bool:
    """Whether a client can send on a subject: without white space, wildcards or empty tokens."""
    tokens = subject.split(".")
    return all(token and token.isprintable() and not set(token) & set(" *>") for token in tokens)


@pytest.mark.django_db(transaction=True)
def test_the_processes_outlive_a_share_of_malformed_messages(nats_clean: str) -> None:
    send_many(nats_clean, SENT, SEED)


@pytest.mark.full
@pytest.mark.django_db(transaction=True)
def test_the_processes_outlive_fifty_thousand_malformed_messages(nats_clean: str) -> None:
    send_many(nats_clean, SENT_ALL, SEED + 200)
