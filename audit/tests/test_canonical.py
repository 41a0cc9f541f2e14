"""Canonical JSON: the quick way gives what the complete implementation of RFC 8785 gives."""

from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from audit import canonical

NUMBERS = st.integers(-canonical.EXACT, canonical.EXACT) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_any_json_is_the_same_either_way(value: Any) -> None:
    assert canonical.dumps(value) == rfc8785.dumps(value)


@pytest.mark.parametrize(
    "value",
    ["\x00\x1f\x7f\u0080\u2028\u2029", '"\\/\b\f\n\r\t', "é€\U0001f600", {"b": 1, "a": 2, "B": 3, "": 4}],
)
def test_the_awkward_ones_too(value: Any) -> None:
    assert canonical.dumps(value) == rfc8785.dumps(value)


def test_keys_beyond_ascii_are_sorted_as_utf_16() -> None:
    value = {"\ufb33": 1, "\U0001f600": 2, "é": 3}
    assert canonical.dumps(value) == rfc8785.dumps(value)
    assert canonical.dumps(value).decode().index("\U0001f600") < canonical.dumps(value).decode().index("\ufb33")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**53, -(2**53), "\ud800", {1: 2}, object(), b"x"])
def test_what_json_cannot_say_exactly_is_refused(value: Any) -> None:
    for place in (value, [value], {"a": value}):
        with pytest.raises(ValueError):  # noqa: PT011
            canonical.dumps(place)
