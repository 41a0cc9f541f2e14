"""Reading the holding file: YAML to checked data, with the path of every mistake."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import jsonschema
import rfc8785
import yaml

MAX_BYTES = 1_000_000
SCHEMA_FILE = Path(__file__).parent / "data" / "holding.schema.json"
DEFAULT_CLEARANCE = {"es": "Acceso exclusivo de la alta dirección", "en": "Executive access only"}
# Subject tokens with a meaning of their own (protocol.md 0.2 and 1; organisation.md 6 and 11).
ROLES = {"director", "coordinator", "specialist", "innovator", "operator"}
TOPICS = {"council", "broadcast", "directive", "escalation", "quarantine"}
RESERVED = {"corporate", "metrics", "command", "any", "all", "holding"}
LEAST_OPERATORS = 1  # per division, when quotas are scaled down

Data = dict[str, Any]


class HoldingFileError(ValueError):
    """The file cannot be loaded; `mistakes` has one line for each, beginning with its path."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML without tags that run code, and in which a key given twice is an error and not a silent loss."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key, times in Counter(map(repr, keys)).items():
            if times > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key} is given {times} times", node.start_mark
                )
        return super().construct_mapping(node, deep)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        # Aliases can make a small file describe an astronomically large one; the holding needs none.
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not allowed", None)
        return super().compose_node(parent, index)


def read(path: Path) -> Data:
    """Return the checked content of the holding file at `path`.

    Raises HoldingFileError with each mistake and its path (for example
    `sectors[2].subsidiaries[0].slug: 'x y' does not match ...`).
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise HoldingFileError([f"{path}: cannot be read ({error.strerror})"]) from error
    if len(raw) > MAX_BYTES:
        raise HoldingFileError([f"{path}: {len(raw)} bytes; a holding file has at most {MAX_BYTES}"])
    try:
        data = yaml.load(raw.decode("utf-8"), Loader=_UniqueKeyLoader)  # noqa: S506 - a SafeLoader, made stricter
    except UnicodeDecodeError as error:
        raise HoldingFileError([f"{path}: not UTF-8 (byte {error.start})"]) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise HoldingFileError([f"{path}: not YAML: {error}"]) from error
    check(data)
    return data  # type: ignore[no-any-return]  # checked just above


def check(data: Any) -> None:
    """Check form, then meaning, of a holding file's content. Raises HoldingFileError."""
    validator = jsonschema.Draft202012Validator(_schema())
    mistakes = [
        f"{_path(error.absolute_path)}: {error.message[:300]}"
        for error in sorted(validator.iter_errors(data), key=lambda error: list(map(str, error.absolute_path)))
    ]
    if not mistakes:
        mistakes = [*_slug_mistakes(data), *_staffing_mistakes(data), *_reference_mistakes(data)]
    if mistakes:
        raise HoldingFileError(mistakes)


@cache
def _schema() -> Data:
    """The JSON Schema, with `$` as its standard has it: in Python it would also match before a last newline."""

    def strict(part: Any) -> Any:
        if isinstance(part, list):
            return [strict(item) for item in part]
        if not isinstance(part, dict):
            return part
        return {
            key: value.removesuffix("$") + r"\Z" if key == "pattern" and isinstance(value, str) else strict(value)
            for key, value in part.items()
        }

    schema: Data = strict(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))
    return schema


def digest(data: Data) -> str:
    """Return the SHA-256 (hex) of the content's canonical JSON: equal content, equal digest."""
    return sha256(rfc8785.dumps(data)).hexdigest()


def scale(data: Data, agents: int) -> Data:
    """Return a copy whose subsidiaries have `agents` seats each: fewer operators, the same management.

    For small machines. Raises ValueError when `agents` does not close in divisions.
    """
    scaled = deepcopy(data)
    staffing = scaled["staffing"]
    operators = next(role for role in staffing["roles"] if role["slug"] == "operator")
    others = sum(role["count"] for role in staffing["roles"] if role is not operators)
    divisions = staffing["divisions"]
    least, most = others + divisions * LEAST_OPERATORS, staffing["floor"]
    if not least <= agents <= most or (agents - others) % divisions:
        raise ValueError(
            f"{agents} agents per subsidiary: take {least} to {most}, in steps of {divisions} "
            f"({others} managers and specialists, the rest operators in {divisions} equal divisions)."
        )
    operators["count"] = agents - others
    operators["per_division"] = operators["count"] // divisions
    operators["seats"] = [operators["seats"][0], operators["seats"][0] + operators["count"] - 1]
    staffing["floor"] = agents
    training = scaled["training"]
    training["trainers"] = -(-agents // (training["trainees_per_trainer"] + 1))
    training["trainees"] = agents - training["trainers"]
    return scaled


def differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Yield one line per difference between two contents: `path: old -> new`, `+ path`, `- path`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}, key=str):
            yield from _difference(old, new, key, f"{path}.{key}" if path else str(key))
    elif isinstance(old, list) and isinstance(new, list) and _keyed(old) and _keyed(new):
        before, after = _by_key(old), _by_key(new)
        for key in [*before, *(key for key in after if key not in before)]:
            yield from _difference(before, after, key, f"{path}[{key}]")
    elif old != new:
        yield f"{path}: {json.dumps(old, ensure_ascii=False)} -> {json.dumps(new, ensure_ascii=False)}"


def _difference(old: Mapping[str, Any], new: Mapping[str, Any], key: str, path: str) -> Iterator[str]:
    if key not in new:
        yield f"- {path}"
    elif key not in old:
        yield f"+ {path}"
    else:
        yield from differences(old[key], new[key], path)


def _keyed(items: list[Any]) -> bool:
    return all(isinstance(item, Mapping) and ("slug" in item or "code" in item) for item in items)


def _by_key(items: list[Data]) -> dict[str, Data]:
    return {item.get("slug") or item["code"]: item for item in items}


def _path(parts: Any) -> str:
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path or "file"


def _slug_mistakes(data: Data) -> Iterator[str]:
    subsidiaries = [
        (f"sectors[{i}].subsidiaries[{j}].slug", item["slug"])
        for i, sector in enumerate(data["sectors"])
        for j, item in enumerate(sector["subsidiaries"])
    ]
    bodies = [(f"bodies[{i}].slug", body["slug"]) for i, body in enumerate(data["bodies"])]
    yield from _repeated(subsidiaries)
    yield from _repeated(bodies)
    yield from _repeated([(f"sectors[{i}].slug", sector["slug"]) for i, sector in enumerate(data["sectors"])])
    yield from _repeated([(f"mandates[{i}].code", item["code"]) for i, item in enumerate(data["mandates"])])
    yield from _repeated(
        [(f"architectures[{i}].slug", item["slug"]) for i, item in enumerate(data["architectures"])]
    )
    for i, body in enumerate(data["bodies"]):
        seats = [(f"bodies[{i}].seats[{j}].slug", seat["slug"]) for j, seat in enumerate(body["seats"])]
        yield from _repeated(seats)
        yield from _reserved(seats, {"any", "all"})
    yield from _reserved(subsidiaries, RESERVED)
    yield from _reserved(bodies, RESERVED | ROLES | TOPICS)


def _repeated(items: list[tuple[str, str]]) -> Iterator[str]:
    seen: dict[str, str] = {}
    for path, slug in items:
        if slug in seen:
            yield f"{path}: '{slug}' stands already at {seen[slug]}"
        seen.setdefault(slug, path)


def _reserved(items: list[tuple[str, str]], words: set[str]) -> Iterator[str]:
    for path, slug in items:
        if slug in words:
            yield f"{path}: '{slug}' is reserved for subjects"


def _staffing_mistakes(data: Data) -> Iterator[str]:
    staffing = data["staffing"]
    roles = staffing["roles"]
    expected = 1
    yield from _repeated([(f"staffing.roles[{i}].slug", role["slug"]) for i, role in enumerate(roles)])
    yield from _repeated([(f"staffing.roles[{i}].code", role["code"]) for i, role in enumerate(roles)])
    for i, role in enumerate(roles):
        path, (first, last) = f"staffing.roles[{i}]", role["seats"]
        if first != expected:
            yield f"{path}.seats: begins at {first}, but the seats before it end at {expected - 1}"
        if last - first + 1 != role["count"]:
            yield f"{path}.seats: {first} to {last} are {last - first + 1} seats, count is {role['count']}"
        if role["per_division"] * staffing["divisions"] != role["count"]:
            yield (
                f"{path}.per_division: {role['per_division']} x {staffing['divisions']} divisions "
                f"are not the count of {role['count']}"
            )
        expected = last + 1
    total = sum(role["count"] for role in roles)
    if total != staffing["floor"]:
        yield f"staffing.floor: {staffing['floor']}, but the roles add up to {total}"
    if missing := ROLES - {role["slug"] for role in roles}:
        yield f"staffing.roles: {', '.join(sorted(missing))} missing"
    training = data["training"]
    if training["trainers"] + training["trainees"] != staffing["floor"]:
        yield (
            f"training: {training['trainers']} trainers and {training['trainees']} trainees "
            f"are not the {staffing['floor']} agents of a subsidiary"
        )


def _reference_mistakes(data: Data) -> Iterator[str]:
    bodies = {body["slug"] for body in data["bodies"]}
    seats = {f"{body['slug']}/{seat['slug']}" for body in data["bodies"] for seat in body["seats"]}
    references = [
        (f"mandates[{i}].owner", item["owner"], bodies | seats) for i, item in enumerate(data["mandates"])
    ]
    references += [
        (f"architectures[{i}].owner", item["owner"], seats) for i, item in enumerate(data["architectures"])
    ]
    references += [
        (f"bodies[{i}].reports_to", body["reports_to"], seats)
        for i, body in enumerate(data["bodies"])
        if "reports_to" in body
    ]
    if "reports_to" in data["staffing"]:
        references.append(("staffing.reports_to", data["staffing"]["reports_to"], seats))
    for path, address, known in references:
        if address not in known:
            yield f"{path}: there is no '{address}' among the bodies"
    for i, slug in enumerate(data["council"]["eligible_roles"]):
        if slug not in ROLES:
            yield f"council.eligible_roles[{i}]: there is no role '{slug}'"
    yield from _circles(data)


def _circles(data: Data) -> Iterator[str]:
    boss = {body["slug"]: body["reports_to"].split("/")[0] for body in data["bodies"] if "reports_to" in body}
    for i, body in enumerate(data["bodies"]):
        at, seen = body["slug"], set()
        while at in boss and at not in seen:
            seen.add(at)
            at = boss[at]
        if at == body["slug"] and seen:
            yield f"bodies[{i}].reports_to: goes round in a circle back to '{at}'"
