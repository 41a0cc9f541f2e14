"""JSON Schemas (2020-12) of the messages and answers. What the decoder refuses they refuse, and no more."""

from collections.abc import Iterable
from functools import cache
from typing import Any, Final

import msgspec

from claytom_agent.messages import BY_CE_TYPE, MESSAGE_TYPES, Goodbye, Hello

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
SPEAKER: Final = {"oneOf": [{"required": ["shard"]}, {"required": ["agent"]}]}
"""What `Hello` and `Goodbye` check beyond their fields."""


def bodies() -> list[type[msgspec.Struct]]:
    """Return every struct that is a message or an answer, once each."""
    kinds = BY_CE_TYPE.values()
    return list(
        dict.fromkeys([*(kind.body for kind in kinds), *(answer for kind in kinds for answer in kind.answers)])
    )


@cache
def components(template: str) -> dict[str, Any]:
    """Return the schema of every struct by its name; references are made by `template` (`#/$defs/{name}`)."""
    _, defs = msgspec.json.schema_components(bodies(), ref_template=template)
    for name in (Hello.__name__, Goodbye.__name__):
        defs[name] |= SPEAKER
    tidied: dict[str, Any] = _tidied(defs)
    return tidied


def _tidied(node: Any) -> Any:
    """Write patterns as JSON Schema has them: `\\Z` is Python's."""
    if isinstance(node, dict):
        return {
            key: value.replace(r"\Z", "$") if key == "pattern" and isinstance(value, str) else _tidied(value)
            for key, value in node.items()
        }
    return [_tidied(item) for item in node] if isinstance(node, list) else node


def schema(name: str) -> dict[str, Any]:
    """Return the schema of a message by its name in the registry; raise `KeyError` for one that there is not."""
    kind = MESSAGE_TYPES[name]
    return {
        "$schema": DIALECT,
        "$id": f"{kind.ce_type}.json",
        "title": name,
        **schema_of(kind.body),
    }


def schema_of(body: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the schema of a struct with the definitions that it uses."""
    defs = components("#/$defs/{name}")
    used = _used([body.__name__], defs)
    own = defs[body.__name__]
    rest = {name: defs[name] for name in sorted(used - {body.__name__})}
    return {**own, "$defs": rest} if rest else dict(own)


def _used(names: Iterable[str], defs: dict[str, Any]) -> set[str]:
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _references(defs[name])
    return found


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"].rpartition("/")[2]] if "$ref" in node else []
        return own + [name for value in node.values() for name in _references(value)]
    return [name for item in node for name in _references(item)] if isinstance(node, list) else []
