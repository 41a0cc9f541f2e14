"""Loading: the brief's figures as rows, once; what may change, and what never."""

import json
from collections import Counter
from io import StringIO
from pathlib import Path

import pytest
import yaml
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.utils import IntegrityError
from django.utils import timezone

from audit.models import LedgerEntry
from audit.services import verify
from bus.models import OutboxMessage
from holding.files import Data
from holding.models import (
    Agent,
    Architecture,
    BlueprintVersion,
    Division,
    Holding,
    Incumbency,
    Mandate,
    Role,
    Seat,
    Unit,
)
from holding.services import ForbiddenChangeError, load_holding, plan_load
from holding.tests.factories import FILE, make_data, make_holding, make_seat

QUOTAS = {"director": 5, "coordinator": 10, "specialist": 10, "innovator": 5, "operator": 1470}
BODIES = {"founders": 5, "c-suite": 10, "governance": 10, "architecture": 10, "pmo": 5, "rnd": 10}


# --- the whole holding -------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_real_file_makes_the_holding_of_the_brief() -> None:
    out = StringIO()
    call_command("load_holding", FILE, agents_per_subsidiary=0, stdout=out)
    assert "52550 seats created" in out.getvalue()
    assert (Seat.objects.count(), Agent.objects.in_office().count(), Incumbency.objects.count()) == (52_550,) * 3
    assert Unit.objects.subsidiaries().count() == 35
    assert Counter(Seat.objects.exclude(body=None).values_list("body__slug", flat=True)) == BODIES
    check_quotas()
    check_superiors()
    check_identities()
    check_manifests()
    assert list(Mandate.objects.values_list("code", flat=True)) == ["CGF", "ARP", "TMS", "PMON", "FIN"]
    assert Architecture.objects.count() == 4
    again = StringIO()
    call_command("load_holding", FILE, agents_per_subsidiary=0, stdout=again)
    assert "already as this file says" in again.getvalue()
    assert (Seat.objects.count(), OutboxMessage.objects.count()) == (52_550, 181)


def check_quotas() -> None:
    """Each subsidiary has its quota of each role, and each division a fifth of it. Joined here: as below."""
    roles = dict(Role.objects.values_list("id", "slug"))
    seats = list(Seat.objects.exclude(role=None).values_list("unit_id", "division_id", "role_id"))
    per_unit = Counter((unit, roles[role]) for unit, _, role in seats)
    assert set(per_unit.values()) == set(QUOTAS.values())
    assert all(count == QUOTAS[role] for (_, role), count in per_unit.items())
    per_division = Counter((division, roles[role]) for _, division, role in seats)
    assert len(per_division) == 175 * 5
    assert all(count * 5 == QUOTAS[role] for (_, role), count in per_division.items())


def check_superiors() -> None:
    """The reports-to lines are a tree: one root, no circle; each half of a division has its coordinator.

    Joined here and not in the database, which knows nothing of rows that no analyze has seen.
    """
    columns = ("id", "reports_to_id", "division_id", "role__slug")
    seats = {seat: (boss, division, role) for seat, boss, division, role in Seat.objects.values_list(*columns)}
    roots = [seat for seat, (boss, _, _) in seats.items() if boss is None]
    assert [str(Seat.objects.get(pk=root)) for root in roots] == ["corporate/chair"]
    for seat in seats:
        steps, at = 0, seat
        while (boss := seats[at][0]) is not None:
            at, steps = boss, steps + 1
            assert steps < 10
        assert at == roots[0]
    lines = [((division, role), seats[boss][1:], boss) for boss, division, role in seats.values() if boss]
    spans = Counter((role, boss) for (_, own), (_, role), boss in lines if own == "operator")
    assert set(spans.values()) == {147}
    assert {role for role, _ in spans} == {"coordinator"}
    crossing = [own for own, above, _ in lines if own[1] and above[1] and own[0] != above[0]]
    assert crossing == []


def check_identities() -> None:
    subjects = list(Agent.objects.values_list("subject", flat=True))
    assert len(set(subjects)) == 52_550
    assert all(subject.count(".") == 4 for subject in subjects)
    assert {"org.claytom.pricing.operator.op-1500-g1", "org.claytom.corporate.c-suite.ceo"} <= set(subjects)
    ordinals = Seat.objects.filter(unit__slug="tax").order_by("ordinal").values_list("ordinal", flat=True)
    assert list(ordinals) == list(range(1, 1501))


def check_manifests() -> None:
    manifests = {row.subject: json.loads(bytes(row.payload)) for row in OutboxMessage.objects.all()}
    assert len(manifests) == 181
    pricing = manifests["$KV.CT_SEATS.pricing.2"]
    assert (pricing["v"], pricing["generation"], pricing["generations"], pricing["desired"]) == (1, 1, {}, {})
    assert {group["role"]: group["ordinals"] for group in pricing["seats"]} == {
        "director": [[2, 2]],
        "coordinator": [[8, 9]],
        "specialist": [[18, 19]],
        "innovator": [[27, 27]],
        "operator": [[325, 618]],
    }
    suite = manifests["$KV.CT_SEATS.corporate.c-suite"]["seats"][0]
    assert suite["names"] == ["ceo", "coo", "cfo", "cto", "cio", "cdo", "ciso", "chro", "cmo", "cino"]
    assert suite["duties"]["ceo"] == "publishes the daily brief of the holding"
    assert all(len(json.dumps(manifest)) < 16_384 for manifest in manifests.values())


# --- loading again -----------------------------------------------------------------------------------------


def state() -> tuple[int, ...]:
    models = (Unit, Division, Seat, Agent, Incumbency, BlueprintVersion, Mandate, OutboxMessage, LedgerEntry)
    return tuple(model._default_manager.count() for model in models)


@pytest.fixture
def loaded(db: None) -> Data:
    return make_holding(subsidiaries=("pricing", "tax"))


def small() -> Data:
    data = make_data()
    for sector in data["sectors"]:
        sector["subsidiaries"] = [unit for unit in sector["subsidiaries"] if unit["slug"] in {"pricing", "tax"}]
    return data


def unit_in(data: Data, slug: str) -> Data:
    found: Data = next(
        unit for sector in data["sectors"] for unit in sector["subsidiaries"] if unit["slug"] == slug
    )
    return found


def test_the_same_file_changes_nothing(loaded: Data) -> None:
    before = state()
    result = load_holding(data=small(), actor="test", scaled=True)
    assert (result.first, result.changes, result.seats) == (False, (), 0)
    assert state() == before


def test_names_may_change_and_the_ledger_says_so(loaded: Data) -> None:
    unit_in(loaded, "tax")["name"]["en"] = "Taxes"
    result = load_holding(data=loaded, actor="ana")
    assert len(result.changes) == 1
    assert Unit.objects.get(slug="tax").name_en == "Taxes"
    entry = LedgerEntry.objects.filter(action="holding.load").order_by("-id")[0]
    assert entry.actor == "ana"
    assert '-> \\"Taxes\\"' in bytes(entry.body).decode()
    assert entry.before != ""


def test_a_new_subsidiary_is_staffed(loaded: Data) -> None:
    data = make_data()
    for sector in data["sectors"]:
        sector["subsidiaries"] = [
            unit for unit in sector["subsidiaries"] if unit["slug"] in {"pricing", "tax", "data"}
        ]
    result = load_holding(data=data, actor="test", scaled=True)
    assert result.seats == 35
    assert Agent.objects.filter(unit__slug="data").count() == 35
    assert OutboxMessage.objects.filter(subject__startswith="$KV.CT_SEATS.data.").count() == 5
    assert LedgerEntry.objects.filter(object="unit/data", action="unit.staff").count() == 1


def test_units_and_seats_are_never_deleted_renamed_or_restaffed(loaded: Data) -> None:
    before = state()
    removed, renamed, restaffed, uprooted = (small() for _ in range(4))
    for sector in removed["sectors"]:
        sector["subsidiaries"] = [unit for unit in sector["subsidiaries"] if unit["slug"] != "tax"]
    unit_in(renamed, "tax")["slug"] = "taxes"
    restaffed["staffing"]["floor"] = 40
    uprooted["holding"]["subject_root"] = "org.other"
    for data, line in [
        (removed, ".subsidiaries[tax]"),
        (renamed, ".subsidiaries[tax]"),
        (restaffed, "staffing.floor: 35 -> 40"),
        (uprooted, "holding.subject_root"),
    ]:
        with pytest.raises(ForbiddenChangeError, match="never renames, deletes or restaffs") as raised:
            load_holding(data=data, actor="test")
        assert any(line in change for change in raised.value.changes)
        with pytest.raises(ForbiddenChangeError):
            plan_load(data=data)
    assert state() == before


def test_the_command_shows_the_difference_before_it_applies_it(
    loaded: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = make_holding_file(tmp_path, loaded)
    monkeypatch.setattr("holding.files.check", lambda data: None)  # only two subsidiaries here
    unit_in(loaded, "tax")["name"]["en"] = "Taxes"
    changed = make_holding_file(tmp_path, loaded)
    answers = iter(["n", "y"])
    monkeypatch.setattr("builtins.input", lambda _: next(answers))
    out = StringIO()
    call_command("load_holding", changed, dry_run=True, stdout=out)
    assert "Tax" in out.getvalue()
    assert "1 differences; nothing was changed" in out.getvalue()
    with pytest.raises(CommandError, match="Nothing was changed"):
        call_command("load_holding", changed, stdout=out)
    assert Unit.objects.get(slug="tax").name_en != "Taxes"
    call_command("load_holding", changed, stdout=out)
    assert Unit.objects.get(slug="tax").name_en == "Taxes"
    assert full == changed


def make_holding_file(directory: Path, data: Data) -> Path:
    path = directory / "holding.yaml"
    path.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    return path


def test_the_load_is_in_the_ledger_once_per_unit(loaded: Data) -> None:
    assert Counter(LedgerEntry.objects.values_list("action", flat=True)) == {"holding.load": 1, "unit.staff": 3}
    assert set(LedgerEntry.objects.values_list("correlation_id", flat=True)) == {
        f"load-{Holding.objects.get().source_digest[:16]}"
    }
    assert verify().ok


# --- what the database refuses, to the application's own role ----------------------------------------------


def execute(action: str, values: dict[str, int]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(action, values)
        cursor.execute("set constraints all immediate")


def refuse(action: str, error: str, **values: int) -> None:
    with pytest.raises(IntegrityError, match=error), transaction.atomic():
        execute(action, values)


def test_the_database_keeps_the_structure(loaded: Data) -> None:
    seat, other = make_seat(), make_seat("tax")
    agent = Agent.objects.get(seat=seat)
    for action, error in [
        ("update holding_unit set slug = 'x-y' where slug = 'tax'", "is not renamed"),
        ("update holding_unit set kind = 'corporate' where slug = 'tax'", "is not renamed|unit_kind"),
        ("delete from holding_unit where slug = 'tax'", "is not deleted"),
        ("update holding_blueprintversion set spec = '{}'", "immutable"),
        ("delete from holding_blueprintversion", "immutable"),
        ("update holding_seat set generation = 0 where id = %(seat)s", "cannot follow|seat_generation"),
        ("update holding_seat set reports_to_id = %(seat)s where id = %(seat)s", "seat_not_own_superior"),
        ("update holding_seat set role_id = null where id = %(seat)s", "seat_of_role_or_body"),
        ("update holding_seat set ordinal = 1 where id = %(seat)s", "seat_ordinal"),
        ("delete from holding_seat where id = %(seat)s", "foreign key"),
        ("update holding_agent set seat_id = %(other)s, generation = 9 where id = %(agent)s", "of_agent|one_"),
        ("update holding_agent set unit_id = unit_id + 1 where id = %(agent)s", "agent_seat_of_unit"),
        ("update holding_seat set unit_id = unit_id + 1 where id = %(seat)s", "seat_division_of_unit|seat_ordinal"),
        ("update holding_incumbency set generation = 8 where seat_id = %(seat)s", "incumbency_of_agent"),
        ("update holding_agent set agent_id = 'op-31' where id = %(agent)s", "agent_id_form"),
        ("update holding_incumbency set ended_at = started_at - interval '1 s'", "incumbency_ends_after_start"),
        ("insert into holding_holding select 2, code, name, subject_root, domain, clearance_names, floor, scaled,"
         " source_digest, source, loaded_at from holding_holding", "holding_is_one"),
    ]:  # fmt: skip
        refuse(action, error, seat=seat.pk, other=other.pk, agent=agent.pk)


def test_the_generation_of_a_seat_only_grows(loaded: Data) -> None:
    seat = make_seat()
    Seat.objects.filter(pk=seat.pk).update(generation=5)
    refuse(
        "update holding_seat set generation = 4 where id = %(seat)s", "generation 4 cannot follow 5", seat=seat.pk
    )


def test_two_agents_never_hold_one_seat_nor_one_agent_two(loaded: Data) -> None:
    agent = Agent.objects.filter(seat=make_seat()).get()
    second = Agent(
        unit=agent.unit, seat=agent.seat, generation=2, agent_id="op-0031-g2", subject="org.claytom.x.operator.y",
        blueprint=agent.blueprint, created_at=timezone.now(),
    )  # fmt: skip
    with pytest.raises(IntegrityError, match="agent_one_per_seat"), transaction.atomic():
        second.save()
    Incumbency.objects.filter(seat=make_seat("tax")).update(ended_at=timezone.now())
    Seat.objects.filter(pk=make_seat("tax").pk).update(stage="vacant")
    with pytest.raises(IntegrityError, match="incumbency_one_per_agent"), transaction.atomic():
        Incumbency.objects.create(
            seat=make_seat("tax"), agent=agent, generation=7, started_at=timezone.now(), ended_at=None
        )
    with pytest.raises(IntegrityError, match="incumbency_one_per_seat"), transaction.atomic():
        Incumbency.objects.create(seat=agent.seat, agent=agent, generation=2, started_at=timezone.now())


def test_roles_of_the_file_are_those_of_the_database(loaded: Data) -> None:
    assert [(role.slug, role.code, role.tier) for role in Role.objects.all()] == [
        ("director", "di", "L4"),
        ("coordinator", "co", "L3"),
        ("specialist", "es", "L2"),
        ("innovator", "in", "L2"),
        ("operator", "op", "L1"),
    ]
