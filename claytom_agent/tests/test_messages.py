import json
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from bus.streams import stream_of
from claytom_agent.messages import (
    BY_CE_TYPE,
    MESSAGE_TYPES,
    Hello,
    MessageType,
    decode,
    decode_kpi,
    decode_reason,
    validate_kpi,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SOURCE = "org.claytom.pricing.coordinator.co-0006-g1"
TOKENS = ["org", "claytom", "pricing", "metrics", "kpi"]
KPIS = {
    "throughput_per_day": 0,
    "quality_score": 0,
    "sla_met_pct": 0,
    "innovation_landings_mo": 0,
    "training_hours_w": 0,
}


def sample(**changes: Any) -> dict[str, Any]:
    """The brief's own example, with a time."""
    return {
        "ts": "2026-03-01T12:00:00.000Z",
        "subsidiary": "pricing",
        "role": "coordinator",
        "kpis": KPIS,
        "okrs": {"O1": "...", "KR1": 0, "KR2": 0},
        **changes,
    }


def reason_of(body: Any, source: str | None = SOURCE, tokens: list[str] = TOKENS) -> str | None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        decoded = decode_kpi(data)
    except msgspec.DecodeError as error:
        return decode_reason(error)
    return validate_kpi(tokens, source, decoded, NOW)


def test_the_standard_json_of_the_brief_is_good_with_and_without_a_source() -> None:
    assert reason_of(sample()) is None
    assert reason_of(sample(), source=None) is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\xff{}", "not-json"),
        (b"{", "not-json"),
        (json.dumps(sample(kpis={**KPIS, "quality_score": float("nan")})).encode(), "not-json"),
        (json.dumps(sample()).replace('"quality_score": 0', '"quality_score": 1e999').encode(), "schema"),
        (b"[]", "schema"),
        (sample(extra=1), "schema"),
        (sample(kpis={**KPIS, "qualty": 1}), "schema"),
        (sample(kpis={**KPIS, "quality_score": 100.1}), "schema"),
        (sample(kpis={**KPIS, "sla_met_pct": -1}), "schema"),
        (sample(kpis={**KPIS, "training_hours_w": 169}), "schema"),
        (sample(kpis={**KPIS, "throughput_per_day": "7"}), "schema"),
        (sample(kpis={**KPIS, "throughput_per_day": True}), "schema"),
        (sample(ts="2026-03-01T12:00:00"), "schema"),
        (sample(ts="yesterday"), "schema"),
        (sample(okrs={"KR0": 1}), "schema"),
        (sample(okrs={"O1": "x" * 201}), "schema"),
        (sample(okrs={"O1": 1}), "okr-type"),
        (sample(okrs={"O1.KR1": "1"}), "okr-type"),
        (sample(okrs={}), None),
        (sample(subsidiary="sales"), "subsidiary-mismatch"),
        (sample(role="boss"), "role-unknown"),
        (sample(role="operator"), "source-mismatch"),
        (sample(ts=(NOW + timedelta(minutes=2)).isoformat()), None),
        (sample(ts=(NOW + timedelta(minutes=2, seconds=1)).isoformat()), "ts-future"),
        (sample(ts=(NOW - timedelta(hours=24)).isoformat()), None),
        (sample(ts=(NOW - timedelta(hours=24, seconds=1)).isoformat()), "ts-old"),
        (sample(ts="2026-03-01T13:00:00+01:00"), None),
    ],
)
def test_kpi_body_is_judged(body: Any, reason: str | None) -> None:
    assert reason_of(body) == reason


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("org.claytom.sales.coordinator.co-0006-g1", "source-mismatch"),
        ("org.claytom.pricing.operator.op-0031-g1", "source-mismatch"),
        ("org.claytom.pricing.coordinator.op-0031-g1", "source-malformed"),
        ("org.claytom.pricing.coordinator.co-0006-g0", "source-malformed"),
        ("host/h1", "source-malformed"),
        ("", "source-malformed"),
    ],
)
def test_kpi_source_is_judged(source: str, reason: str) -> None:
    assert reason_of(sample(), source=source) == reason


def test_kpi_of_a_corporate_seat_names_its_body_as_role() -> None:
    tokens = ["org", "claytom", "corporate", "metrics", "kpi"]
    body = sample(subsidiary="corporate", role="c-suite")
    assert reason_of(body, "org.claytom.corporate.c-suite.ceo", tokens) is None
    assert reason_of(body, "org.claytom.corporate.founders.chair", tokens) == "source-mismatch"
    assert reason_of({**body, "role": "operator"}, None, tokens) == "role-unknown"


def test_another_subject_is_refused() -> None:
    assert reason_of(sample(), tokens=["org", "claytom", "pricing", "metrics", "cost"]) == "subject"


TOKENS_OF = {"sub": "pricing", "role": "operator", "agent": "op-0042-g1", "body": "founders", "seat": "chair"}


def places(kind: MessageType) -> list[str]:
    """Where a message is published, with an example for each token."""
    examples = defaultdict(lambda: "x", TOKENS_OF)
    return [f"org.claytom.{subject.format_map(examples)}" for subject in kind.subjects]


def test_the_registry_has_every_row_of_the_protocol() -> None:
    assert {kind.number for kind in MESSAGE_TYPES.values()} == set(range(30))
    assert len(BY_CE_TYPE) == len(MESSAGE_TYPES)


@pytest.mark.parametrize("kind", MESSAGE_TYPES.values(), ids=lambda kind: kind.name)
def test_a_message_is_stored_by_a_stream_exactly_where_its_row_says_so(kind: MessageType) -> None:
    stored = [subject for subject in places(kind) if stream_of(subject) is not None]
    if kind.name == "work.progress" or kind.delivery == "jetstream":
        assert stored
    elif kind.name == "host.presence":
        assert [(stream_of(subject) or {})["name"] for subject in stored] == ["CT_PRESENCE"]
    elif kind.name == "report.request":
        assert stored == []
    elif kind.name not in ("escalation.raise", "escalation.resolve"):
        assert stored == []  # a request on a captured subject would be answered by the stream


@pytest.mark.parametrize("kind", MESSAGE_TYPES.values(), ids=lambda kind: kind.name)
def test_a_message_fits_its_own_subjects_only(kind: MessageType) -> None:
    assert all(kind.fits(subject) for subject in places(kind))
    assert not kind.fits("org.claytom.pricing.metrics.nothing")
    assert not kind.fits("org.claytom.pricing.operator.op-0042-g1.more")


@pytest.mark.parametrize("given", [{}, {"shard": {"division": "pricing.1", "agents": 1}, "agent": "both"}])
def test_a_hello_speaks_for_a_division_or_for_one_agent(given: dict[str, Any]) -> None:
    if given:
        given = {**given, "agent": {"id": "op-0042-g1", "role": "operator"}}
    with pytest.raises(msgspec.ValidationError, match="exactly one"):
        decode(Hello, json.dumps({"protocol": "claytom/1", **given}).encode())
