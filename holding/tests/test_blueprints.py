"""Versions of blueprints: what may be drafted, what never changes, and by which version an agent is made."""

import hashlib
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone, translation

from audit.models import LedgerEntry
from holding import blueprints, generator
from holding.blueprints import SpecError, VersionError
from holding.lifecycle import Stage
from holding.models import Agent, Blueprint, BlueprintVersion, Seat
from holding.services import appoint, publish_manifests
from holding.tests.factories import make_holding, make_seat, make_version
from holding.tests.test_services import sent

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def loaded(db: None) -> Any:
    make_holding(agents=65, subsidiaries=("pricing",))
    with translation.override("en"):
        yield


def operator() -> Blueprint:
    return Blueprint.objects.select_related("role", "body").get(slug="operator")


def version(number: int) -> BlueprintVersion:
    return BlueprintVersion.objects.select_related("blueprint").get(blueprint__slug="operator", version=number)


def run(statement: str, *values: int) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement, values)


def test_what_was_loaded_is_approved_and_nobody_approves_their_own() -> None:
    assert set(BlueprintVersion.objects.values_list("state", flat=True)) == {"approved"}
    draft = blueprints.draft(
        blueprint=operator(), spec={"worker": {"kind": "sim"}, "for": "operator"}, author="ana", note="x"
    )
    assert (draft.version, draft.state) == (2, "draft")
    with pytest.raises(VersionError, match="wrote themselves"):
        blueprints.approve(draft, by="ana")
    approve = "set state = 'approved', approved_by = author, approved_at = now()"
    with pytest.raises(IntegrityError, match="four_eyes"):
        run(f"update holding_blueprintversion {approve} where id = %s", draft.pk)
    blueprints.approve(draft, by="bob")
    assert version(2).state == "approved"
    acts = LedgerEntry.objects.filter(object="blueprint/operator/2").order_by("id").values_list("action", flat=True)
    assert list(acts) == ["blueprint.draft", "blueprint.approve"]


def test_the_digest_is_that_of_the_canonical_form() -> None:
    new = make_version(params={"drag": 0.25})
    canonical = b'{"for":"operator","worker":{"kind":"sim","params":{"drag":0.25}}}'
    assert new.digest == hashlib.sha256(canonical).hexdigest()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ([], "is an object"),
        ({"for": "operator"}, "worker: it must be an object"),
        ({"worker": {"kind": "sim"}, "for": "director"}, "for: it must say “operator”"),
        ({"worker": {"kind": "sim"}, "for": "operator", "limits": 1}, "limits: there is no such field"),
        ({"worker": {"kind": "gpt"}, "for": "operator"}, "worker.kind: there is no worker 'gpt', only sim"),
        ({"worker": {"kind": "sim", "params": {"drag": 2}}, "for": "operator"}, "drag: 2 is no number from 0 to 1"),
        ({"worker": {"kind": "sim", "params": {"drag": True}}, "for": "operator"}, "drag: True is no number"),
        ({"worker": {"kind": "sim", "params": {"pace": 1}}, "for": "operator"}, "pace: .* no such parameter"),
        ({"worker": {"kind": "sim", "x": 1}, "for": "operator"}, "worker.x: there is no such field"),
    ],
)
def test_a_specification_is_refused_with_the_place_of_each_mistake(spec: Any, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        blueprints.draft(blueprint=operator(), spec=spec, author="ana", note="x")
    assert BlueprintVersion.objects.filter(blueprint__slug="operator").count() == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("spec = '{}'", "immutable"),
        ("digest = repeat('0', 64)", "immutable"),
        ("note = 'another'", "immutable"),
        ("author = 'eve'", "immutable"),
        ("version = 9", "immutable"),
        ("approved_by = 'eve'", "immutable"),
        ("state = 'draft', approved_by = '', approved_at = null", "does not become"),
        ("state = 'withdrawn', approved_by = '', approved_at = null, ended_at = now()", "does not become"),
    ],
)
def test_the_database_keeps_an_approved_version_as_it_is(change: str, words: str) -> None:
    new = make_version()
    with pytest.raises(IntegrityError, match=words):
        run(f"update holding_blueprintversion set {change} where id = %s", new.pk)  # noqa: S608
    with pytest.raises(IntegrityError, match="immutable"):
        run("delete from holding_blueprintversion where id = %s", new.pk)


def test_the_database_makes_agents_of_approved_versions_only() -> None:
    new = make_version()
    draft = blueprints.draft(blueprint=operator(), spec=new.spec, author="ana", note="x")
    blueprints.revoke(new, by="bob", reason="it lies")
    insert = """
        insert into holding_agent (unit_id, seat_id, generation, agent_id, subject, blueprint_id, created_at)
        select unit_id, id, 9, code || '-g9', 'org.claytom.pricing.operator.' || code || '-g9', %s, now()
          from holding_seat where code = 'op-0031'
    """
    Agent.objects.filter(seat=make_seat()).update(retired_at=timezone.now(), stage=Stage.RETIRED)
    for one, state in ((new, "revoked"), (draft, "draft")):
        with pytest.raises(IntegrityError, match=f"operator v{one.version} is {state}"):
            run(insert, one.pk)
    run(insert, version(1).pk)
    with pytest.raises(IntegrityError, match="keeps the version that made it"):
        run("update holding_agent set blueprint_id = %s where generation = 9", new.pk)


def test_a_version_begins_as_a_draft_in_the_database_too() -> None:
    with pytest.raises(IntegrityError, match="begins as a draft"):
        BlueprintVersion.objects.create(
            blueprint=operator(), version=2, spec={}, digest="d" * 64, author="ana", state="approved",
            created_at=timezone.now(), approved_at=timezone.now(), approved_by="bob",
        )  # fmt: skip


def test_the_only_approved_version_is_not_revoked() -> None:
    with pytest.raises(VersionError, match="approve another one first"):
        blueprints.revoke(version(1), by="bob", reason="x")
    make_version()
    blueprints.revoke(version(1), by="bob", reason="x")
    assert version(1).state == "revoked"


def test_a_successor_is_of_the_version_of_its_predecessor_while_that_is_good() -> None:
    seat, second, third = make_seat(), make_version(), make_version()
    (done,) = appoint(seats=[(seat.pk, 1)], actor="arp", reason="x", versions={seat.pk: third})
    assert done.new.blueprint == third
    (done,) = appoint(seats=[(seat.pk, 2)], actor="arp", reason="x")
    assert done.new.blueprint == third
    assert blueprints.halt(third, actor="arp", reason="loops")
    assert not blueprints.halt(third, actor="arp", reason="loops")
    (done,) = appoint(seats=[(seat.pk, 3)], actor="arp", reason="x")
    assert done.new.blueprint == second  # the last good one before it
    blueprints.revoke(second, by="bob", reason="x")
    (done,) = appoint(seats=[(seat.pk, 4)], actor="arp", reason="x")
    assert done.new.blueprint == version(1)
    blueprints.release(third, actor="bob", reason="it was the host")
    blueprints.revoke(version(1), by="bob", reason="x")
    (done,) = appoint(seats=[(seat.pk, 5)], actor="arp", reason="x")
    assert done.new.blueprint == third  # none before it is left
    blueprints.halt(third, actor="arp", reason="loops")
    (done,) = appoint(seats=[(seat.pk, 6)], actor="arp", reason="x")
    assert done.new.blueprint == third  # a seat is never blocked


def test_a_manifest_names_the_version_of_each_of_its_agents() -> None:
    seats = list(Seat.objects.filter(division__key="pricing.1", role__slug="operator").order_by("ordinal"))
    new = make_version(params={"drag": 0.5})
    publish_manifests(division_ids=[seats[0].division_id])
    before = sent("$KV.CT_SEATS.pricing.1")[-1]
    assert [group["blueprint"]["version"] for group in before["seats"]] == [1] * 5
    appoint(seats=[(seats[0].pk, 1)], actor="arp", reason="x", versions={seats[0].pk: new})
    after = sent("$KV.CT_SEATS.pricing.1")[-1]
    named = {group["blueprint"]["digest"]: group for group in after["seats"] if group["role"] == "operator"}
    assert named[new.digest]["ordinals"] == [[seats[0].ordinal] * 2]
    assert named[new.digest]["worker"]["params"] == {"drag": 0.5}
    assert sum(last - first + 1 for group in named.values() for first, last in group["ordinals"]) == len(seats)


def test_seats_of_the_parent_company_are_grouped_by_version_too() -> None:
    new = make_version("c-suite", {"drag": 0.1})
    seat = Seat.objects.filter(body__slug="c-suite").order_by("ordinal")[2]
    appoint(seats=[(seat.pk, 1)], actor="arp", reason="x", versions={seat.pk: new})
    groups = sent("$KV.CT_SEATS.corporate.c-suite")[-1]["seats"]
    assert {group["blueprint"]["version"]: len(group["names"]) for group in groups} == {1: 9, 2: 1}
    assert next(group for group in groups if group["blueprint"]["version"] == 2)["names"] == [seat.code]


def test_the_generator_says_whom_a_version_would_make() -> None:
    seats = generator.seats_of(operator()).filter(unit__slug="pricing").order_by("ordinal")
    made = list(generator.generate(version=version(1), seats=seats[:2], at=timezone.now()))
    assert [agent.subject for agent in made] == [
        "org.claytom.pricing.operator.op-0031-g2",
        "org.claytom.pricing.operator.op-0032-g2",
    ]
    assert {agent.pk for agent in made} == {None}
    with pytest.raises(ValueError, match="makes no agents for"):
        generator.make_agent(seat=make_seat(code="di-0001"), version=version(1), generation=2, at=timezone.now())
