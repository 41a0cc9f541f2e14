"""Loading the matrix from a file."""

from copy import deepcopy
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import CommandError, call_command

from audit.models import LedgerEntry
from iam.authority import matrix, services
from iam.authority.models import MatrixVersion, Matter, Office, Rule

pytestmark = pytest.mark.django_db
CFO = "{slug: cfo, rank: 3, scope: group, es: a, en: b}"
CAPEX = "slug: capex, es: a, en: b, measure: amount, anti_splitting: no, hours: [1, 2]"


@pytest.fixture
def data() -> dict[str, Any]:
    return deepcopy(matrix.read_matrix())


def load(*arguments: object) -> str:
    out = StringIO()
    call_command("load_authority", *arguments, stdout=out)
    return out.getvalue()


def test_the_first_load_puts_the_matrix_in_force_and_the_second_changes_nothing() -> None:
    assert "Version 1" in load()
    version = MatrixVersion.objects.get()
    assert (version.status, version.author, version.approver) == ("adopted", "portal/authority", "operator")
    assert (Office.objects.count(), Matter.objects.count()) == (14, 23)
    rules = Rule.objects.count()
    entries = LedgerEntry.objects.count()
    assert entries == 3
    assert "already" in load()
    assert (MatrixVersion.objects.count(), Rule.objects.count()) == (1, rules)
    assert LedgerEntry.objects.count() == entries


def test_other_rules_become_a_draft_that_somebody_must_adopt(tmp_path: Path, data: dict[str, Any]) -> None:
    load()
    data["matters"][0]["rules"]["subsidiary-ceo"] = 400000
    path = tmp_path / "matrix.yaml"
    path.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    for _ in range(2):
        load(path)
    assert list(MatrixVersion.objects.order_by("number").values_list("status", flat=True)) == ["adopted", "draft"]


def test_names_and_times_follow_the_file(data: dict[str, Any]) -> None:
    load()
    data["matters"][0].update(es="Otro nombre", hours=[1, 2])
    done = services.install_matrix(data=data, actor="test")
    assert (done.changed, done.version) == (True, None)
    matter = Matter.objects.get(slug="opex-budgeted")
    assert (matter.name_es, matter.sla_hours, matter.expiry_hours) == ("Otro nombre", 1, 2)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[", "no YAML"),
        ("- a", "mapping"),
        ("offices: [{slug: board}]\nmatters: []", "not complete"),
        ("offices: []\nmatters: [{slug: capex, es: a, en: b, measure: weight, hours: [1, 2]}]", "not complete"),
        (
            f"offices: []\nmatters: [{{{CAPEX}, rules: {{x: 1}}}}]",
            "no such",
        ),
        (
            f"offices: [{CFO}]\nmatters: [{{{CAPEX}, rules: {{cfo: x}}}}]",
            "no limit",
        ),
    ],
)
def test_a_file_that_cannot_be_is_not_loaded(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "matrix.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CommandError, match=word):
        load(path)
    assert not Office.objects.exists()
    assert not MatrixVersion.objects.exists()


def test_a_file_does_not_change_what_judgements_follow_from(tmp_path: Path, data: dict[str, Any]) -> None:
    load()
    data["matters"][-1]["reserved"] = False
    path = tmp_path / "matrix.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    with pytest.raises(CommandError, match="judged by it"):
        load(path)


def test_a_missing_file_is_told() -> None:
    with pytest.raises(CommandError, match="cannot be read"):
        load(Path("/nowhere/matrix.yaml"))
