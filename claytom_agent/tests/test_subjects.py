import pytest
from hypothesis import given
from hypothesis import strategies as st

from claytom_agent import subjects
from claytom_agent.subjects import (
    ROLE_CODES,
    AgentAddress,
    AgentId,
    SeatAddress,
    SubjectError,
    check_subsidiary,
    parse_address,
    parse_agent_id,
    parse_division_key,
    parse_seat_mark,
    split_subject,
)

slugs = st.from_regex(rf"\A{subjects.SLUG_PATTERN}\Z")
free_slugs = slugs.filter(lambda s: s not in subjects.RESERVED_SLUGS | subjects.RESERVED_BODIES)
agent_ids = st.builds(
    AgentId, st.sampled_from(list(ROLE_CODES.values())), st.integers(1, 9_999_999), st.integers(1, 999_999)
)


@given(agent_ids)
def test_agent_id_survives_the_round_trip(agent: AgentId) -> None:
    assert parse_agent_id(str(agent)) == agent


@given(free_slugs, agent_ids)
def test_address_survives_the_round_trip_and_has_five_tokens(unit: str, agent: AgentId) -> None:
    address = AgentAddress(unit, agent.role, agent)
    assert parse_address(str(address)) == address
    assert len(split_subject(str(address))) == 5


@given(free_slugs, slugs)
def test_corporate_address_survives_the_round_trip(body: str, seat: str) -> None:
    address = SeatAddress(body, seat)
    assert parse_address(str(address)) == address


@given(st.text(max_size=40))
def test_what_parses_has_exactly_one_spelling(text: str) -> None:
    try:
        agent = parse_agent_id(text)
    except SubjectError:
        return
    assert str(agent) == text


@given(free_slugs, st.integers(1, 9999))
def test_division_key_survives_the_round_trip(unit: str, number: int) -> None:
    key = f"{unit}.{number}"
    assert str(parse_division_key(key)) == key


def test_corporate_division_is_a_body() -> None:
    assert parse_division_key("corporate.c-suite").corporate
    assert parse_seat_mark("ceo-g12") == ("ceo", 12)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("org.claytom.pricing.operator.op-0001-g0", "does not match"),
        ("org.claytom.pricing.operator.op-00001-g1", "pads"),
        ("org.claytom.pricing.operator.op-0000-g1", "seat 0"),
        ("org.claytom.pricing.operator.op-0001-g1\n", "does not match"),
        ("org.claytom.pricing.operator.op-٠٠٠١-g1", "does not match"),
        ("org.claytom.pricing.director.op-0001-g1", "code of a operator"),
        ("org.claytom.pricing.boss.op-0001-g1", "is none of"),
        ("org.claytom.metrics.operator.op-0001-g1", "reserved"),
        ("org.claytom.Pricing.operator.op-0001-g1", "not a slug"),
        ("org.claytom.corporate.metrics.ceo", "reserved"),
        ("org.claytom.corporate.director.ceo", "reserved"),
        ("org.claytom.corporate.council.ceo", "reserved"),
        ("org.claytom.pricing.operator", "4 tokens"),
        ("org.claytom.pricing.operator.x.y", "6 tokens"),
        ("com.claytom.pricing.operator.op-0001-g1", "does not begin"),
    ],
)
def test_wrong_address_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(SubjectError, match=reason):
        parse_address(text)


@pytest.mark.parametrize("slug", ["corporate", "operator", "command", "hosts", "ab", "a" * 25, "-ab", "ab-", "a_b"])
def test_reserved_or_malformed_subsidiary_is_refused(slug: str) -> None:
    with pytest.raises(SubjectError):
        check_subsidiary(slug)


@pytest.mark.parametrize("key", ["pricing", "pricing.0", "pricing.x", "corporate.metrics", "hosts.1", "pricing.01"])
def test_wrong_division_key_is_refused(key: str) -> None:
    with pytest.raises(SubjectError):
        parse_division_key(key)


def test_unknown_kinds_verbs_and_topics_are_refused() -> None:
    for build in (subjects.metrics, subjects.command, subjects.corporate_topic):
        with pytest.raises(SubjectError):
            build("pricing" if build is not subjects.corporate_topic else "nothing", "nothing")
