"""Malformed messages without end: real messages of every type, bent in all the ways that bytes can be wrong."""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec

from bus.feeds import Raw
from claytom_agent.messages import MESSAGE_TYPES, MessageType

AGENT: Final = "org.claytom.pricing.operator.op-0031-g1"
HOST: Final = "host/h1"
PLACES: Final[Mapping[str, str]] = {
    "sub": "pricing", "role": "operator", "agent": "op-0031-g1", "body": "c-suite", "seat": "ceo",
    "topic": "all", "motion": "m-1",
}  # fmt: skip
STREAM_OF: Final = {"metrics.kpi": "CT_KPI", "metrics.presence": "CT_PRESENCE"}
NASTY_TEXT: Final = (
    "", "\0", "\ud800", "x" * 3000, "'; drop table bus_outboxmessage; --", "../../etc/passwd", "%s%n", "{{7*7}}",
    "\u202e", "é" * 90, "null", "NaN", "org.claytom.pricing.operator.op-0031-g1", "2026-01-01T00:00:00Z", "-0",
)  # fmt: skip
NASTY_NUMBERS: Final = (
    0, -1, 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**30, 1e308, -1e308, 1e-320, 0.1, -0.0,
)  # fmt: skip

CANDIDATES: Final = (
    "pricing", "x-1", AGENT, "pricing.1", "w-test-000001", "word", "0" * 64, "CT_EVENTS", "EUR", "op-0031-g1",
    "c-001", "O1", "1", "x" * 8,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Original:
    """A real message: its type, subject, headers and body."""

    kind: MessageType
    subject: str
    headers: dict[str, str]
    body: dict[str, Any]


def originals() -> list[Original]:
    """Return a message of every type of the registry, which the decoder of that type takes."""
    return [_original(kind, subject) for kind in MESSAGE_TYPES.values() for subject in kind.subjects]


def _original(kind: MessageType, template: str) -> Original:
    subject = f"org.claytom.{template.format_map(PLACES)}"
    source = "portal/tests" if kind.sender == "portal" else AGENT if kind.sender == "agent" else HOST
    headers = {
        "ce-specversion": "1.0", "ce-id": "x", "ce-type": kind.ce_type, "ce-source": source,
        "ce-time": datetime.now(UTC).isoformat(), "Content-Type": "application/json", "Claytom-Epoch": "5",
    }  # fmt: skip
    return Original(kind, subject, headers, build(kind.body))


def build(kind: Any) -> Any:
    """Return a value that a msgspec type takes, made from the description of the type."""
    return _value(msgspec.inspect.type_info(kind))


def _value(info: Any) -> Any:
    name = type(info).__name__
    if name == "StructType":
        fields = {field.encode_name: _value(field.type) for field in info.fields if field.required}
        return fields if info.cls.__name__ not in ("Hello", "Goodbye") else {**fields, **_shard()}
    if name == "UnionType":
        return _value(info.types[0])
    if name == "LiteralType":
        return info.values[0]
    simple: dict[str, Callable[[], Any]] = {
        "StrType": lambda: _text(info),
        "IntType": lambda: int(info.ge or (info.gt or 0) + bool(info.gt is not None)),
        "FloatType": lambda: float(info.ge or (info.gt or 0) + bool(info.gt is not None)),
        "BoolType": lambda: True,
        "DateTimeType": lambda: datetime.now(UTC).isoformat(),
        "ListType": lambda: [_value(info.item_type) for _ in range(info.min_length or 1)],
        "TupleType": lambda: [_value(item) for item in info.item_types],
        "DictType": dict,
        "AnyType": lambda: {"any": [1, "x", None]},
        "NoneType": lambda: None,
    }
    return simple[name]()


def _shard() -> dict[str, Any]:
    return {"shard": {"division": "pricing.1", "agents": 7}}


def _text(info: Any) -> str:
    """Return a text that fits the pattern and the lengths."""
    for candidate in CANDIDATES:
        try:
            msgspec.json.decode(json.dumps(candidate).encode(), type=_annotated(info))
        except msgspec.ValidationError:
            continue
        return candidate
    raise AssertionError(f"no candidate fits {info}")


def _annotated(info: Any) -> Any:
    return Annotated[
        str, msgspec.Meta(pattern=info.pattern, min_length=info.min_length, max_length=info.max_length)
    ]


class Mutator:
    """Bends messages; with the same seed, always in the same way."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._originals = originals()
        self._bodies = [json.dumps(one.body).encode() for one in self._originals]

    def messages(self, count: int, first: int = 1) -> Iterator[Raw]:
        """Yield that many malformed messages, numbered from `first`."""
        for seq in range(first, first + count):
            yield self._message(seq)

    def _message(self, seq: int) -> Raw:
        dice = self._dice
        place = dice.randrange(len(self._originals))
        original, body = self._originals[place], self._bodies[place]
        subject, headers = original.subject, dict(original.headers)
        headers["Nats-Msg-Id"] = f"m-{seq}" if dice.random() < 0.9 else dice.choice(["", "x" * 300, "m-1"])
        way = dice.randrange(8)
        if way == 0:
            body = self._flip(body)
        elif way == 1:
            body = self._cut(body)
        elif way in (2, 3, 4):
            body = self._bend(original.body)
        elif way == 5:
            headers, subject = self._mislabel(headers, subject)
        elif way == 6:
            body = self._noise()
        else:
            body = self._bend(json.loads(body))
            headers, subject = self._mislabel(headers, subject)
        block = b"NATS/1.0\r\n" + b"".join(self._line(name, value) for name, value in headers.items()) + b"\r\n"
        if dice.random() < 0.02:
            block = dice.choice([b"", b"NATS/1.0\r\n\r\n", block[: dice.randrange(len(block))] + b"\r\n\r\n"])
        stream = STREAM_OF.get(subject.partition("org.claytom.pricing.")[2], "CT_EVENTS")
        return Raw(subject.encode("utf-8", "surrogatepass"), block, body, seq, stream, seq)

    def _line(self, name: str, value: str) -> bytes:
        text = value.replace("\r", "").replace("\n", "")
        return f"{name}: ".encode() + text.encode("utf-8", "surrogatepass") + b"\r\n"

    def _flip(self, body: bytes) -> bytes:
        changed = bytearray(body)
        for _ in range(self._dice.choice((1, 1, 1, 2, 8, 40))):
            at = self._dice.randrange(len(changed)) if changed else 0
            if changed:
                changed[at] ^= 1 << self._dice.randrange(8)
        return bytes(changed)

    def _cut(self, body: bytes) -> bytes:
        dice = self._dice
        at = dice.randrange(len(body) + 1)
        return dice.choice(
            [body[:at], body[at:], body[:at] + body[at // 2 :], body * 2, body + b"\0", b"\xef\xbb\xbf" + body]
        )

    def _noise(self) -> bytes:
        dice = self._dice
        return dice.choice([
            b"", b"null", b"[]", b"{}", b'""', b"0", b"1e999", b'"\\ud800"', b"[" * dice.randrange(1, 3000),
            b'{"a":' * dice.randrange(1, 2000), dice.randbytes(dice.randrange(200)),
            b'{"ts": ' + dice.randbytes(9) + b"}", b"{" + b'"a":1,' * dice.randrange(1, 300) + b'"a":1}',
        ])  # fmt: skip

    def _bend(self, body: dict[str, Any]) -> bytes:
        """Change, remove, add or repeat fields anywhere in the body."""
        bent = json.loads(json.dumps(body))
        for _ in range(self._dice.choice((1, 1, 2, 3))):
            self._bend_once(bent)
        return json.dumps(bent).encode("utf-8", "surrogatepass")

    def _bend_once(self, value: Any) -> None:
        dice = self._dice
        while isinstance(value, dict | list) and value:
            key = dice.choice(list(value)) if isinstance(value, dict) else dice.randrange(len(value))
            if isinstance(value[key], dict | list) and value[key] and dice.random() < 0.6:
                value = value[key]
                continue
            way = dice.randrange(4)
            if way == 0:
                del value[key]
            elif way == 1:
                value[key] = self._nasty()
            elif way == 2 and isinstance(value, dict):
                value[str(self._nasty())[:80]] = value[key]
            else:
                value[key] = [value[key]] if dice.random() < 0.5 else {"x": value[key]}
            return

    def _nasty(self) -> Any:
        dice = self._dice
        return dice.choice([
            dice.choice(NASTY_TEXT), dice.choice(NASTY_NUMBERS), None, True, [], {}, [[[]]], {"": {"": 0}},
        ])  # fmt: skip

    def _mislabel(self, headers: dict[str, str], subject: str) -> tuple[dict[str, str], str]:
        dice = self._dice
        way = dice.randrange(6)
        if way == 0:
            headers["ce-type"] = dice.choice(self._originals).kind.ce_type
        elif way == 1:
            headers["ce-source"] = dice.choice(
                ["", "x", "host/", "portal/x", "org.claytom.tax.operator.op-0031-g1", *NASTY_TEXT]
            )
        elif way == 2:
            del headers[dice.choice(["ce-type", "ce-source"])]
        elif way == 3:
            subject = dice.choice(self._originals).subject
        elif way == 4:
            name = dice.choice(["Claytom-Epoch", "Claytom-Generation", "Claytom-Seq", "Claytom-Replay"])
            headers[name] = dice.choice(["-1", "x", "9" * 40, "", "pricing.1.5.0", "1", "٣"])
        else:
            tokens = subject.split(".")
            tokens[dice.randrange(len(tokens))] = dice.choice(["", "x", "tax", "corporate", "é", "a b"])
            subject = ".".join(tokens)
        return headers, subject
