"""Canonical JSON (RFC 8785), quickly.

What the ledger says is nearly always strings, whole numbers and booleans under plain names. For these, a fast
encoder with sorted keys gives the canonical bytes; anything else goes to the complete implementation. A test holds
the two against each other.
"""

from collections.abc import Collection
from typing import Any, Final

import msgspec
import rfc8785

EXACT: Final = 2**53 - 1  # whole numbers up to here are the same in every JSON implementation
TEXTS: Final = frozenset({str})
SIMPLE: Final = frozenset({str, bool, type(None)})
_encode = msgspec.json.Encoder(order="sorted").encode


def dumps(value: Any) -> bytes:
    """Return the canonical bytes of a JSON value. Raises ValueError for what JSON cannot say exactly."""
    if _are_plain([value]):
        try:
            return _encode(value)
        except UnicodeEncodeError as error:
            raise ValueError(f"{error.object!r} is no text: it has half a surrogate pair") from error
    return rfc8785.dumps(value)


def _are_plain(values: Collection[Any]) -> bool:
    return SIMPLE.issuperset(map(type, values)) or all(map(_is_plain, values))


def _is_plain(value: Any) -> bool:
    kind = type(value)
    if kind is int:
        return bool(-EXACT <= value <= EXACT)
    if kind is dict:  # keys are sorted by UTF-16 units; for ASCII, by bytes is the same
        return TEXTS.issuperset(map(type, value)) and "".join(value).isascii() and _are_plain(value.values())
    return kind in SIMPLE or (kind in {list, tuple} and _are_plain(value))
