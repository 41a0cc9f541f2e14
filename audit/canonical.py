"""Canonical JSON (RFC 8785), quickly.

What the ledger says is nearly always strings, whole numbers and booleans under plain names. For these, Python's
own encoder with sorted keys gives the canonical bytes; anything else goes to the complete implementation. A test
holds the two against each other.
"""

import json
from typing import Any

import rfc8785

EXACT = 2**53 - 1  # whole numbers up to here are the same in every JSON implementation
_encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), check_circular=False).encode


def dumps(value: Any) -> bytes:
    """Return the canonical bytes of a JSON value. Raises ValueError for what JSON cannot say exactly."""
    if _is_plain(value):
        try:
            return _encode(value).encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{error.object!r} is no text: it has half a surrogate pair") from error
    return rfc8785.dumps(value)


def _is_plain(value: Any) -> bool:
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return True
    if kind is int:
        return bool(-EXACT <= value <= EXACT)
    if kind is dict:  # keys are sorted by UTF-16 units; for ASCII, Python sorts the same
        return all(type(key) is str and key.isascii() and _is_plain(item) for key, item in value.items())
    return kind in {list, tuple} and all(_is_plain(item) for item in value)
