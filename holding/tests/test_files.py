"""The holding file: what is wrong with it is told with its path, and a hostile one does no harm."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import CommandError, call_command

from holding.files import MAX_BYTES, Data, HoldingFileError, check, differences, digest, read, scale
from holding.tests.factories import FILE, make_data


def mistakes(data: Any) -> list[str]:
    with pytest.raises(HoldingFileError) as raised:
        check(data)
    return raised.value.mistakes


def refused(text: str | bytes, directory: Path) -> str:
    path = directory / "holding.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    started = time.monotonic()
    with pytest.raises(HoldingFileError) as raised:
        read(path)
    assert time.monotonic() - started < 5
    return str(raised.value)


# --- hostile files -----------------------------------------------------------------------------------------

LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(20)
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "file: None is not of type 'object'"),
        ("[]", "file: [] is not of type 'object'"),
        ("just words", "is not of type 'object'"),
        ("a: [1", "not YAML"),
        ("a: 1\n--- \nb: 2", "not YAML"),
        ("\ta: 1", "not YAML"),
        ("a: 1\na: 2", "the key 'a' is given 2 times"),
        ("holding: {code: X, code: Y}", "the key 'code' is given 2 times"),
        ("a: &x 1\nb: *x", "aliases (*name) are not allowed"),
        ("a: &x\n  <<: *x", "aliases (*name) are not allowed"),
        (LAUGHS, "aliases (*name) are not allowed"),
        ("a: !!python/object/apply:os.system ['touch /tmp/owned']", "could not determine a constructor"),
        ("a: !!python/name:os.system", "could not determine a constructor"),
        ("!!python/object/new:type {}", "could not determine a constructor"),
        ("? {a: 1}\n: 2", "not YAML"),
        ("a: 2026-99-99", "not YAML"),
        ("[" * 20_000, "not YAML"),
        ("a: " + "{b: " * 5_000, "not YAML"),
        (b"a: \xff\xfe", "not UTF-8 (byte 3)"),
        (b"a: \x00", "not YAML"),
        (b"\xef\xbb\xbfa: 1", "file: "),
        ("a: 1\n" * (MAX_BYTES // 5 + 1), f"a holding file has at most {MAX_BYTES}"),
    ],
)
def test_hostile_text_is_refused_with_the_reason(text: str | bytes, expected: str, tmp_path: Path) -> None:
    assert expected in refused(text, tmp_path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.yaml"):
        with pytest.raises(HoldingFileError, match="cannot be read"):
            read(path)


def test_the_command_lists_every_mistake(tmp_path: Path) -> None:
    data = make_data()
    data["staffing"]["floor"] = "many"
    data["sectors"][0]["subsidiaries"][0]["slug"] = "X Y"
    path = tmp_path / "holding.yaml"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(CommandError) as raised:
        call_command("load_holding", path)
    assert "mend these and load it again" in str(raised.value)
    assert "staffing.floor: 'many' is not of type 'integer'" in str(raised.value)
    assert "sectors[0].subsidiaries[0].slug: 'X Y' does not match" in str(raised.value)


# --- wrong content, each with its path ---------------------------------------------------------------------


def put(path: str, value: Any) -> Callable[[Data], None]:
    """Return a change that puts `value` at `path` (`a.b.0.c`)."""

    def change(data: Data) -> None:
        *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        at: Any = data
        for part in parents:
            at = at[part]
        at[last] = value

    return change


def drop(path: str) -> Callable[[Data], None]:
    """Return a change that removes what is at `path`."""

    def change(data: Data) -> None:
        *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        at: Any = data
        for part in parents:
            at = at[part]
        del at[last]

    return change


WRONG: list[tuple[Callable[[Data], None], str]] = [
    # form
    (drop("holding"), "file: 'holding' is a required property"),
    (put("surprise", 1), "file: Additional properties are not allowed"),
    (put("holding.code", 7), "holding.code: 7 is not of type 'string'"),
    (put("staffing.floor", -1), "staffing.floor: -1"),
    (put("staffing.roles.0.count", 5.5), "staffing.roles[0].count: 5.5"),
    (put("staffing.roles.0.count", True), "staffing.roles[0].count: True"),
    (put("sectors.1.subsidiaries", []), "sectors[1].subsidiaries: "),
    (put("sectors.0.subsidiaries.0.slug", "Pricing"), "sectors[0].subsidiaries[0].slug: 'Pricing' does not match"),
    (put("sectors.0.subsidiaries.0.slug", "p"), "sectors[0].subsidiaries[0].slug: 'p' does not match"),
    (put("sectors.0.subsidiaries.0.slug", "a.b"), "sectors[0].subsidiaries[0].slug: 'a.b' does not match"),
    (put("sectors.0.subsidiaries.0.slug", "pricing\n"), "sectors[0].subsidiaries[0].slug: "),
    (put("sectors.0.subsidiaries.0.slug", "x" * 25), "sectors[0].subsidiaries[0].slug: "),
    (put("sectors.0.subsidiaries.0.name.en", ""), "sectors[0].subsidiaries[0].name.en: "),
    (drop("sectors.0.subsidiaries.0.name.es"), "sectors[0].subsidiaries[0].name: 'es' is a required property"),
    # then what they mean, as slugs
    (put("sectors.0.subsidiaries.0.slug", "tax"), "'tax' stands already at sectors[0].subsidiaries[0].slug"),
    (put("sectors.0.subsidiaries.0.slug", "corporate"), "sectors[0].subsidiaries[0].slug: 'corporate' is reserved"),
    (put("sectors.0.subsidiaries.0.slug", "metrics"), "sectors[0].subsidiaries[0].slug: 'metrics' is reserved"),
    (put("sectors.0.subsidiaries.0.slug", "all"), "sectors[0].subsidiaries[0].slug: 'all' is reserved"),
    (put("bodies.5.slug", "operator"), "bodies[5].slug: 'operator' is reserved"),
    (put("bodies.5.slug", "council"), "bodies[5].slug: 'council' is reserved"),
    (put("bodies.0.seats.1.slug", "any"), "bodies[0].seats[1].slug: 'any' is reserved"),
    (put("bodies.0.seats.1.slug", "chair"), "bodies[0].seats[1].slug: 'chair' stands already"),
    # then what they mean, as sums
    (put("staffing.floor", 1501), "staffing.floor: 1501, but the roles add up to 1500"),
    (put("staffing.roles.4.count", 1469), "staffing.roles[4].seats: 31 to 1500 are 1470 seats, count is 1469"),
    (put("staffing.roles.4.per_division", 293), "staffing.roles[4].per_division: 293 x 5 divisions"),
    (put("staffing.roles.1.seats", [7, 15]), "staffing.roles[1].seats: begins at 7, but the seats before it"),
    (put("staffing.divisions", 4), "staffing.roles[0].per_division: 1 x 4 divisions"),
    (put("training.trainers", 499), "training: 499 trainers and 1000 trainees are not the 1500 agents"),
    # then what they mean, as references
    (put("mandates.1.owner", "c-suite/nobody"), "mandates[1].owner: there is no 'c-suite/nobody' among the bodies"),
    (put("architectures.0.owner", "pmo/none"), "architectures[0].owner: there is no 'pmo/none' among the bodies"),
    (put("bodies.1.reports_to", "nobody/chair"), "bodies[1].reports_to: there is no 'nobody/chair'"),
    (put("bodies.0.reports_to", "c-suite/ceo"), "bodies[0].reports_to: goes round in a circle back to 'founders'"),
    (put("bodies.1.reports_to", "c-suite/coo"), "bodies[1].reports_to: goes round in a circle back to 'c-suite'"),
    (put("council.eligible_roles", ["director", "king"]), "council.eligible_roles[1]: "),
]  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), WRONG, ids=[expected[:60] for _, expected in WRONG])
def test_each_mistake_is_told_with_its_path(change: Callable[[Data], None], expected: str) -> None:
    data = make_data(agents=1500)
    change(data)
    assert any(expected in line for line in mistakes(data)), mistakes(data)


def test_all_mistakes_are_told_at_once() -> None:
    data = make_data(agents=1500)
    put("mandates.1.owner", "nobody")(data)
    put("staffing.floor", 1)(data)
    put("bodies.5.slug", "operator")(data)
    assert len(mistakes(data)) >= 3


# --- scale, digest, differences ----------------------------------------------------------------------------


@pytest.mark.parametrize("agents", [35, 40, 300, 1495, 1500])
def test_a_scaled_holding_keeps_its_management_and_closes(agents: int) -> None:
    full = make_data(agents=1500)
    data = scale(full, agents)
    check(data)
    roles = {role["slug"]: role for role in data["staffing"]["roles"]}
    assert {slug: role["count"] for slug, role in roles.items()} == {
        "director": 5, "coordinator": 10, "specialist": 10, "innovator": 5, "operator": agents - 30,
    }  # fmt: skip
    assert data["staffing"]["floor"] == agents
    assert 0 <= data["training"]["trainees"] <= 2 * data["training"]["trainers"]
    assert full == read(FILE), "the given content is left as it was"


@pytest.mark.parametrize("agents", [-1, 0, 30, 34, 36, 1499, 1505, 10**9])
def test_what_does_not_close_in_divisions_is_refused(agents: int) -> None:
    with pytest.raises(ValueError, match="take 35 to 1500, in steps of 5"):
        scale(make_data(agents=1500), agents)


def test_the_digest_is_of_the_content_not_of_its_order() -> None:
    data = make_data()
    assert digest(data) == digest(dict(reversed(data.items())))
    other = make_data()
    other["holding"]["name"] += "!"
    assert digest(data) != digest(other)


def test_differences_name_things_by_their_slugs() -> None:
    old, new = make_data(), make_data()
    assert list(differences(old, new)) == []
    new["sectors"][0]["subsidiaries"][0]["name"]["en"] = "Prices"
    removed = new["sectors"][1]["subsidiaries"].pop(0)["slug"]
    new["mandates"].append({"code": "NEW", "name": "New", "owner": "pmo"})
    new["sectors"].reverse()
    lines = list(differences(old, new))
    sectors = [old["sectors"][0]["slug"], old["sectors"][1]["slug"]]
    assert (
        f'sectors[{sectors[0]}].subsidiaries[pricing].name.en: "Pricing & Profitability" -> "Prices"' in lines
        or any(line.startswith(f"sectors[{sectors[0]}].subsidiaries[pricing].name.en: ") for line in lines)
    )
    assert f"- sectors[{sectors[1]}].subsidiaries[{removed}]" in lines
    assert "+ mandates[NEW]" in lines
    assert len(lines) == 3
