"""The published contract: it is what the registry says, it is valid, and it refuses what the decoder refuses."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.contract import asyncapi, schemas
from bus.contract.examples import ANSWERS, BODIES
from bus.contract.markdown import page
from claytom_agent.messages import BY_CE_TYPE, MESSAGE_TYPES, decode

ROOT = Path(__file__).parents[2]
OFFICIAL = Path(__file__).parent / "vendor" / "asyncapi" / "3.0.0.json"
SCHEMAS = {name: schemas.schema(name) for name in MESSAGE_TYPES}
KINDS_OF_ANSWER = {answer.__name__: answer for kind in BY_CE_TYPE.values() for answer in kind.answers}


def is_a_time(value: object) -> bool:
    """RFC 3339, with an offset."""
    if not isinstance(value, str):
        return True
    try:
        return msgspec.convert(value, datetime).tzinfo is not None
    except msgspec.ValidationError:
        return False


FORMATS = jsonschema.FormatChecker(formats=())
FORMATS.checkers["date-time"] = is_a_time, ()


def checker(schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema, format_checker=FORMATS)


CHECKERS = {name: checker(schema) for name, schema in SCHEMAS.items()}


def test_the_documentation_is_what_the_registry_says() -> None:
    written = (ROOT / "docs" / "messages.md").read_text(encoding="utf-8")
    assert written == page(), "run `manage.py message_docs`"
    sections = [line for line in written.splitlines() if line.startswith("### ")]
    numbered = [line for line in sections if line.split()[1].rstrip(".").isdigit()]
    assert [int(line.split()[1].rstrip(".")) for line in numbered] == list(range(1, 30))


def test_the_asyncapi_document_is_valid_by_the_official_schema() -> None:
    official = json.loads(OFFICIAL.read_text(encoding="utf-8"))
    errors = [error.message for error in jsonschema.Draft7Validator(official).iter_errors(asyncapi.document())]
    assert errors == []


def test_the_asyncapi_document_names_every_message_and_nothing_that_is_not_there() -> None:
    document = asyncapi.document()
    used = {message["$ref"] for operation in document["operations"].values() for message in operation["messages"]}
    assert {reference.rpartition("/")[2] for reference in used} == set(MESSAGE_TYPES)
    for reference in _references(document):
        node: Any = document
        for key in reference.removeprefix("#/").split("/"):
            node = node[key]


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if "$ref" in node else []
        return own + [item for value in node.values() for item in _references(value)]
    return [item for value in node for item in _references(value)] if isinstance(node, list) else []


@pytest.mark.parametrize("name", MESSAGE_TYPES)
def test_the_example_of_a_message_passes_its_schema_and_its_decoder(name: str) -> None:
    checker(SCHEMAS[name]).validate(BODIES[name])
    assert decode(MESSAGE_TYPES[name].body, json.dumps(BODIES[name]).encode())


@pytest.mark.parametrize("name", KINDS_OF_ANSWER)
def test_the_example_of_an_answer_passes_its_schema_and_its_decoder(name: str) -> None:
    checker(schemas.schema_of(KINDS_OF_ANSWER[name])).validate(ANSWERS[name])
    assert decode(KINDS_OF_ANSWER[name], json.dumps(ANSWERS[name]).encode())


TEXTS = [
    "",
    "x",
    "a" * 600,
    "\n",
    "org.claytom.pricing.operator.op-0042-g3",
    "2026-03-01T12:00:00Z",
    "2026-03-01T12:00:00",
    "pricing.1",
    "O1",
    "completed",
]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 300),
    # A schema takes 1.0 for an integer, the decoder does not: the page says so.
    st.floats(-1e6, 1e6, width=32).filter(lambda number: not number.is_integer()),
    st.sampled_from(TEXTS),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(TEXTS), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def mutations(draw: st.DrawFn) -> tuple[str, Any]:
    """A message with one place of its example taken away or replaced."""
    name = draw(st.sampled_from(sorted(BODIES)))
    body = json.loads(json.dumps(BODIES[name]))
    node, places = body, _places(body)
    if not places:
        return name, draw(VALUES)
    *path, last = draw(st.sampled_from(places))
    for key in path:
        node = node[key]
    if draw(st.booleans()) and isinstance(node, dict):
        del node[last]
    else:
        node[last] = draw(VALUES)
    return name, body


def _places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [place for key, value in items for place in [(*path, key), *_places(value, (*path, key))]]


@settings(max_examples=1500, deadline=None)
@given(mutations())
def test_schema_and_decoder_refuse_the_same(case: tuple[str, Any]) -> None:
    name, body = case
    by_schema = CHECKERS[name].is_valid(body)
    try:
        decode(MESSAGE_TYPES[name].body, json.dumps(body).encode())
        by_decoder = True
    except msgspec.ValidationError:
        by_decoder = False
    assert by_schema is by_decoder, f"{name}: {json.dumps(body)}"
