"""Every text of the portal exists in Spanish, and the compiled catalogue is the one of the source."""

import gettext
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SPANISH = ROOT / "locale" / "es" / "LC_MESSAGES"


def entries() -> list[tuple[str, list[str], bool]]:
    """The entries of the catalogue: text, translations, whether fuzzy."""
    found = []
    for block in (SPANISH / "django.po").read_text(encoding="utf-8").split("\n\n")[1:]:
        if "msgid " not in block or block.lstrip().startswith("#~"):
            continue
        fuzzy = bool(re.search(r"^#,.*fuzzy", block, re.M))
        lines = "\n".join(line for line in block.splitlines() if not line.startswith("#"))
        key = _joined(re.split(r"^msgid_plural|^msgstr", lines, flags=re.M)[0].removeprefix("msgid"))
        values = [_joined(part) for part in re.split(r"^msgstr(?:\[\d\])?", lines, flags=re.M)[1:]]
        found.append((key, values, fuzzy))
    return found


def _joined(text: str) -> str:
    raw = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', text))
    return raw.replace('\\"', '"').replace("\\n", "\n").replace("\\\\", "\\")


def test_no_text_is_missing_or_fuzzy() -> None:
    assert [key for key, values, fuzzy in entries() if fuzzy or not all(values)] == []


def test_placeholders_survive_translation() -> None:
    for key, values, _fuzzy in entries():
        for value in values:
            assert set(re.findall(r"%\((\w+)\)", value)) == set(re.findall(r"%\((\w+)\)", key)), key


def test_the_compiled_catalogue_is_current() -> None:
    with (SPANISH / "django.mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)
    for key, values, _fuzzy in entries():
        assert compiled.gettext(key) in (values[0], key) or compiled.ngettext(key, key, 1) == values[0], key
        assert values[0] in (compiled.gettext(key), compiled.ngettext(key, key, 1)), key


@pytest.mark.skipif(not shutil.which("xgettext"), reason="needs GNU gettext, which developers have")
def test_the_catalogue_has_every_text_of_the_sources(tmp_path: Path) -> None:
    from django.utils.translation.template import templatize

    known = {key for key, _values, _fuzzy in entries()}
    sources = [path for path in ROOT.rglob("*.py") if _is_ours(path)]
    templates = list((ROOT / "templates").rglob("*.html"))
    for path in templates:
        copy = tmp_path / f"{path.relative_to(ROOT).as_posix().replace('/', '_')}.py"
        copy.write_text(templatize(path.read_text(encoding="utf-8")), encoding="utf-8")
        sources.append(copy)
    command = ["xgettext", "--language=Python", "--from-code=UTF-8", "--no-location", "--output=-"]
    keywords = ["gettext_noop", "gettext_lazy", "ngettext_lazy:1,2", "pgettext:1c,2", "npgettext:1c,2,3"]
    command += [f"--keyword={word}" for word in keywords] + ["--keyword=_"]
    found = subprocess.run([*command, *map(str, sources)], capture_output=True, check=True, text=True).stdout
    texts = {
        _joined(re.split(r"^msgid_plural|^msgstr", part, flags=re.M)[0])
        for part in io.StringIO(found).read().split("\nmsgid ")[1:]
    }
    assert texts - known - {""} == set()


def _is_ours(path: Path) -> bool:
    parts = path.relative_to(ROOT).parts
    return not {".venv", "var", "build", "tests", "node_modules"} & set(parts) and not parts[0].startswith(".")
