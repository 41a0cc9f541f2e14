"""Bodies as JSON, decoded and type-checked by one msgspec call."""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)

_encode = msgspec.json.Encoder().encode
_decoders: dict[type[msgspec.Struct], msgspec.json.Decoder[Any]] = {}


def encode(body: msgspec.Struct | Mapping[str, Any]) -> bytes:
    """Encode a body as JSON."""
    return _encode(body)


def decode(kind: type[T], data: bytes) -> T:
    """Decode and type-check; raise `msgspec.DecodeError` (not JSON) or `msgspec.ValidationError` (schema)."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    body: T = decoder.decode(data)
    return body


def decode_reason(error: Exception) -> str:
    """Name the stage at which decoding failed: `schema` (JSON of another shape) or `not-json`."""
    return "schema" if isinstance(error, msgspec.ValidationError) else "not-json"
