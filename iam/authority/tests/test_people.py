"""People of a file: the demonstration's, and one's own; what they may and may not decide."""

import stat
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from holding import clock
from holding.models import Unit
from holding.tests.factories import make_holding
from iam.access.models import RoleBinding, User
from iam.access.services import ensure_administrator
from iam.access.tests.factories import make_person
from iam.authority import matrix, people, services
from iam.authority.models import Appointment, Decision
from iam.authority.tests.factories import T0, ask, make_authority, who

pytestmark = pytest.mark.django_db


def load(*args: str) -> str:
    out = StringIO()
    call_command("load_people", *args, stdout=out)
    return out.getvalue()


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A file with one director of pricing."""
    file = tmp_path / "people.yaml"
    file.write_text(
        "language: es\ndomain: claytom.example\npeople:\n"
        "  - {username: nora, first_name: Nora, last_name: Rey,"
        " offices: [{office: subsidiary-director, unit: pricing}], roles: [{role: supervisor, unit: pricing}]}\n"
    )
    return file


def test_the_demonstration_fills_every_seat_once_and_only_once(tmp_path: Path) -> None:
    make_holding()
    services.install_matrix(data=matrix.read_matrix(), actor="test")
    told = tmp_path / "passwords"
    assert load("--demo", "--passwords", str(told)).startswith("131 people are new, 133 offices and ")
    assert stat.S_IMODE(told.stat().st_mode) == 0o600
    rows = dict(line.split() for line in told.read_text().splitlines())
    assert len(rows) == len(set(rows.values())) == 131
    for unit in Unit.objects.subsidiaries():
        held = Appointment.objects.filter(unit=unit).values_list("office__slug", flat=True)
        assert sorted(held) == ["subsidiary-ceo", "subsidiary-director", "subsidiary-director"], unit.slug
    for office, count in {"board": 9, "audit-committee": 3, "group-cfo": 1, "group-ceo": 1}.items():
        assert Appointment.objects.filter(office__slug=office).count() == count
    board = set(Appointment.objects.filter(office__slug="board").values_list("person_id", flat=True))
    committees = Appointment.objects.filter(office__slug__endswith="-committee")
    assert set(committees.values_list("person_id", flat=True)) <= board
    assert User.objects.filter(bindings__role__slug="auditor").count() == 2
    ceo = Appointment.objects.get(office__slug="group-ceo").person
    assert (ceo.email, ceo.language, ceo.cleared) == (f"{ceo.username}@claytom.example", "es", True)
    client = Client()
    assert client.login(username=ceo.username, password=rows[ceo.username])
    assert client.get("/").status_code == 200
    assert load("--demo") == "0 people are new, 0 offices and 0 roles were given.\n"
    names = [(entry["first_name"], entry["last_name"]) for entry in people.read_people()["people"]]
    assert len(names) == len(set(names))


def test_without_a_holding_it_refuses() -> None:
    with pytest.raises(CommandError, match="load it first"):
        load("--demo")


def test_passwords_are_printed_once_and_a_second_load_changes_nothing(small: Path) -> None:
    make_authority()
    password = load(str(small)).splitlines()[-1].split()[1]
    nora = who("nora")
    assert nora.check_password(password)
    assert load(str(small)) == "0 people are new, 0 offices and 0 roles were given.\n"
    nora.refresh_from_db()
    assert nora.check_password(password)
    assert RoleBinding.objects.get(user=nora).source == "system"
    approval = ask(at=clock.now())
    services.decide(approval=approval, person=nora, verdict=Decision.Verdict.APPROVE)
    approval.refresh_from_db()
    assert approval.state == "approved"


@pytest.mark.parametrize(
    ("entry", "mistake"),
    [
        ("{username: nora, first_name: Nora}", "people[0].last_name: a text is needed"),
        ("{username: n, first_name: N, last_name: R, pay: 3}", "people[0].pay: there is no such field"),
        (
            "{username: n, first_name: N, last_name: R, offices: [{office: king}]}",
            "people[0].offices[0].office: there is no office 'king'",
        ),
        (
            "{username: n, first_name: N, last_name: R, offices: [{office: subsidiary-ceo}]}",
            "people[0].offices[0].unit: an office of units needs one",
        ),
        (
            "{username: n, first_name: N, last_name: R, roles: [{role: viewer, unit: moon}]}",
            "people[0].roles[0].unit: there is no unit 'moon'",
        ),
        ("nobody", "people[0]: a mapping is needed"),
    ],
)
def test_each_mistake_is_named_with_its_place_and_nothing_is_loaded(
    tmp_path: Path, entry: str, mistake: str
) -> None:
    make_authority()
    before = User.objects.count()
    file = tmp_path / "people.yaml"
    file.write_text(f"language: es\ndomain: d.example\npeople:\n  - {entry}\n")
    with pytest.raises(CommandError) as refused:
        load(str(file))
    assert mistake in str(refused.value)
    assert User.objects.count() == before


def test_a_file_of_passwords_is_never_written_over(small: Path, tmp_path: Path) -> None:
    make_authority()
    told = tmp_path / "told"
    told.write_text("mine")
    with pytest.raises(CommandError, match="exists already"):
        load(str(small), "--passwords", str(told))
    assert told.read_text() == "mine"
    assert not User.objects.filter(username="nora").exists()


@pytest.mark.parametrize("asker", ["root", "rita"])
def test_one_administrator_alone_does_not_satisfy_four_eyes(asker: str) -> None:
    """Not even a superuser: authority is an office, and who asks does not decide."""
    make_authority()
    root: Any = ensure_administrator(username="root", password="correct horse battery", token="t", actor="test")
    approval = ask(by=asker)
    with pytest.raises(services.NotAllowedError):
        services.decide(approval=approval, person=root, verdict=Decision.Verdict.APPROVE, at=T0)
    approval.refresh_from_db()
    assert approval.state == "pending"


def test_a_file_of_people_names_each_address_in_use(tmp_path: Path) -> None:
    make_authority()
    make_person("other", email="Nora@claytom.example")
    file = tmp_path / "people.yaml"
    file.write_text(
        "language: es\ndomain: claytom.example\npeople:\n"
        "  - {username: nora, first_name: Nora, last_name: Rey}\n"
        "  - {username: sol, first_name: Sol, last_name: Rey}\n"
        "  - {username: Sol, first_name: Sol, last_name: Rey}\n"
    )
    with pytest.raises(CommandError) as refused:
        load(str(file))
    assert str(refused.value).splitlines()[1:] == [
        "people[0].username: nora@claytom.example is the address of other already",
        "people[2].username: Sol was named before",
    ]
