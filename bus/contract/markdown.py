"""`docs/messages.md`: the protocol for people, one section for each row of its table."""

import json
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from bus.contract.asyncapi import example
from bus.contract.examples import ANSWERS, BODIES
from bus.contract.schemas import components
from bus.streams import stream_of
from claytom_agent.messages import MESSAGE_TYPES, MessageType
from claytom_agent.subjects import ROOT

INTRODUCTION: Final = Path(__file__).with_name("introduction.md")
DEFS: Final = "#/$defs/{name}"


def page() -> str:
    """Return the page."""
    kinds = list(MESSAGE_TYPES.values())
    table = [kind for kind in kinds if kind.number]
    beyond = [kind for kind in kinds if not kind.number]
    parts = [INTRODUCTION.read_text(encoding="utf-8"), "## Messages\n", _overview(kinds)]
    parts += [_section(number, list(group)) for number, group in groupby(table, key=lambda kind: kind.number)]
    parts += ["## Beyond the table\n", *(_section(0, [kind]) for kind in beyond)]
    parts += ["## Answers\n", *(_answer(name) for name in ANSWERS)]
    parts += ["## Parts\n", *(_part(name) for name in _parts(kinds))]
    return "\n".join(parts)


def _overview(kinds: list[MessageType]) -> str:
    lines = ["| # | message | from, to | travels by |", "|---|---|---|---|"]
    by = {"core": "plain publish", "jetstream": "JetStream", "request": "request, answer"}
    lines += [
        f"| {kind.number or ''} | `{kind.name}` | {kind.sender} to {kind.receiver} | {by[kind.delivery]} |"
        for kind in kinds
    ]
    return "\n".join(lines) + "\n"


def _section(number: int, kinds: list[MessageType]) -> str:
    names = ", ".join(f"`{kind.name}`" for kind in kinds)
    lines = [f"### {number}. {names}" if number else f"### {names}", ""]
    bodies = list(dict.fromkeys(kind.body for kind in kinds))
    for body in bodies:
        mine = [kind for kind in kinds if kind.body is body]
        lines += [*_text(body), *_facts(mine), "", *_fields(body.__name__), ""]
        for kind in mine[: 1 if len(bodies) == 1 else None]:
            lines += ["```json", _json(BODIES[kind.name]), "```", ""]
    return "\n".join(lines)


def _facts(kinds: list[MessageType]) -> list[str]:
    kind = kinds[0]
    subjects = list(dict.fromkeys(subject for each in kinds for subject in each.subjects))
    lines = [
        f"- **Type:** {', '.join(f'`{each.ce_type}`' for each in kinds)}",
        f"- **Subject:** {', '.join(_subject(subject) for subject in subjects)}",
        f"- **Identity:** {_code(kind.key)}",
        f"- **Delivery:** {kind.rule}",
    ]
    if kind.answers:
        links = (f"[`{answer.__name__}`](#{answer.__name__.lower()})" for answer in kind.answers)
        lines.append(f"- **Answer:** {' or '.join(links)}")
    if not kind.attributed:
        lines.append("- **Headers:** none is mandatory; without `ce-source` it is unattributed.")
    return lines


def _subject(subject: str) -> str:
    stream = stream_of(f"{ROOT}.{example(subject)}")
    shown = subject.replace("{", "<").replace("}", ">")
    return f"`{ROOT}.{shown}`" + (f" (stream `{stream['name']}`)" if stream else "")


def _code(key: str) -> str:
    return f"`{key}`" if "<" in key and " " not in key.replace("<ts rounded to the interval>", "") else key


def _text(body: type) -> list[str]:
    paragraphs = [line.strip() for line in (body.__doc__ or "").strip().splitlines()]
    return [*paragraphs, ""]


def _fields(name: str) -> list[str]:
    schema = components(DEFS)[name]
    required = schema.get("required", [])
    if not schema.get("properties"):
        return ["No fields."]
    lines = ["| field | | type |", "|---|---|---|"]
    lines += [
        f"| `{field}` | {'required' if field in required else _default(value)} | {_type(value)} |"
        for field, value in schema["properties"].items()
    ]
    return lines


def _default(schema: dict[str, Any]) -> str:
    return f"`{_json(schema['default'], indent=None)}`" if schema.get("default") not in (None, "", []) else ""


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[`{name}`](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(option) for option in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind = schema.get("type", "any JSON")
    if kind == "array":
        return _array(schema)
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"object of {_type(values)}" if isinstance(values, dict) and values else "object"
    return str(schema.get("format", kind)) + _limits(schema)


def _array(schema: dict[str, Any]) -> str:
    if "prefixItems" in schema:
        return "[" + ", ".join(_type(item) for item in schema["prefixItems"]) + "]"
    items = schema.get("items")
    return (f"list of {_type(items)}" if items else "list") + _limits(schema)


def _limits(schema: dict[str, Any]) -> str:
    words = {
        "minimum": "at least {}",
        "exclusiveMinimum": "more than {}",
        "maximum": "at most {}",
        "minLength": "{} characters or more",
        "maxLength": "{} characters at most",
        "minItems": "{} or more",
        "maxItems": "{} at most",
        "pattern": "`{}`",
    }
    said = [text.format(_escaped(schema[key])) for key, text in words.items() if key in schema]
    return f", {', '.join(said)}" if said else ""


def _escaped(value: Any) -> str:
    return str(value).replace("|", "\\|")


def _answer(name: str) -> str:
    return "\n".join([*_part_lines(name), "```json", _json(ANSWERS[name]), "```", ""])


def _parts(kinds: list[MessageType]) -> list[str]:
    known = {kind.body.__name__ for kind in kinds} | set(ANSWERS)
    return [name for name in components(DEFS) if name not in known]


def _part(name: str) -> str:
    return "\n".join(_part_lines(name))


def _part_lines(name: str) -> list[str]:
    text = components(DEFS)[name].get("description", "")
    return [f"#### `{name}`", "", *(line.strip() for line in text.splitlines()), "", *_fields(name), ""]


def _json(value: Any, indent: int | None = 2) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=False)
