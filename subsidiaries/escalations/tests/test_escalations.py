"""Escalations as the portal keeps them: what is reported, who owns it, what people decide, what time does."""

import json
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone, translation

from audit.models import LedgerEntry
from bus.dispatch import dispatch
from bus.feeds import Raw
from bus.models import DirectedMessage, OutboxMessage, QuarantinedMessage
from bus.tests.test_process import start_bus, until, with_bus
from claytom_agent.client import Bus, Outgoing
from claytom_agent.escalation import superiors
from claytom_agent.manifest import decode_manifest
from holding.models import Agent, Seat, Unit
from holding.tests.factories import make_holding
from iam.access.models import User
from iam.access.rights import NotHeldError, RefusedError
from iam.access.tests.factories import make_person, make_token
from iam.authority.tests.factories import make_authority, unit_of
from subsidiaries.escalations import services
from subsidiaries.escalations.handlers import take_corporate
from subsidiaries.escalations.models import Escalation, Step
from subsidiaries.replacement import services as arp
from subsidiaries.replacement.models import Incident, Monitor, Replacement
from subsidiaries.replacement.tests.factories import bring_to_life, make_staffed_holding, report, silence

AGENT = "org.claytom.pricing.operator.op-0031-g1"
COORDINATOR = "org.claytom.pricing.coordinator.co-0006-g1"
CODE = "failed-pricing-op-0031-g1"
State = Escalation.State
pytestmark = pytest.mark.django_db


def raised(level: str = "L3", *, taken_by: str = COORDINATOR, code: str = CODE, **changes: Any) -> services.Report:
    given = {
        "code": code, "unit": "pricing", "agent": AGENT, "level": level, "severity": "high", "matter": "staffing",
        "summary": "op-0031-g1 failed", "needs": "a new agent", "work_id": "", "taken_by": taken_by,
        "at": timezone.now(),
    }  # fmt: skip
    return services.Report(**{**given, **changes})


def at_the_holding(code: str = CODE, **changes: Any) -> Escalation:
    services.note_raised(reports=[raised("holding", taken_by="", code=code, **changes)])
    return Escalation.objects.get(code=code)


def acts(code: str = CODE) -> list[str]:
    return list(
        LedgerEntry.objects.filter(object=f"escalation/{code}").order_by("id").values_list("action", flat=True)
    )


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    with translation.override("en"):
        yield


@pytest.fixture
def holding(db: None) -> None:
    make_holding(subsidiaries=("pricing", "tax"))


@pytest.fixture
def officers(holding: None) -> None:
    make_authority()


# --- what agents report ------------------------------------------------------------------------------------


def test_the_rule_that_hosts_follow_is_the_chain_of_command() -> None:
    """For every seat of a subsidiary at full size."""
    make_holding(agents=1500, subsidiaries=("pricing", "tax", "cloud"))
    seats = Seat.objects.filter(unit__slug="cloud").select_related("role", "division", "reports_to__role")
    manifests = {
        message.subject.removeprefix("$KV.CT_SEATS."): decode_manifest(
            message.subject.removeprefix("$KV.CT_SEATS."), bytes(message.payload)
        )
        for message in OutboxMessage.objects.filter(subject__startswith="$KV.CT_SEATS.cloud.").order_by("id")
    }
    assert len(manifests) == 5
    wrong = []
    for seat in seats:
        above = superiors(manifests[seat.division.key], seat.ordinal)
        boss = seat.reports_to
        expected = f"{boss.code}-g1" if boss and boss.role else None
        if (above[0].address.rpartition(".")[2] if above else None) != expected:
            wrong.append((seat.code, above, expected))
    assert seats.count() == 1500
    assert wrong == []


@pytest.mark.usefixtures("officers")
def test_a_level_is_noted_once_and_the_matter_has_its_owner() -> None:
    assert services.note_raised(reports=[raised(), raised()]) == 1
    assert services.note_raised(reports=[raised()]) == 0
    row = Escalation.objects.get()
    assert (row.state, row.level, row.taken_by, row.person) == (State.TAKEN, "L3", COORDINATOR, None)
    assert row.mandate is not None
    assert row.office is not None
    assert (row.mandate.code, row.owner_en, row.office.slug) == ("ARP", "Chief operating officer", "group-ceo")
    assert row.seat == Seat.objects.get(unit__slug="pricing", code="op-0031")
    assert timedelta(minutes=59) < row.due_at - timezone.now() <= timedelta(hours=1)
    assert acts() == ["escalation.raise"]


@pytest.mark.usefixtures("officers")
@pytest.mark.parametrize(
    ("matter", "mandate", "owner", "office"),
    [
        ("quality", "PMON", "Chief information officer", "group-ceo"),
        ("training", "TMS", "Chief human resources officer", "group-ceo"),
        ("finance", "FIN", "Chief financial officer", "group-cfo"),
        ("security", None, "Chief information security officer", "group-cro"),
        ("governance", "CGF", "Governance Office", "board"),
        ("whatever", "CGF", "Governance Office", "board"),
    ],
)
def test_every_matter_has_an_owner_at_the_holding(
    matter: str, mandate: str | None, owner: str, office: str, settings: Any
) -> None:
    row = at_the_holding(matter=matter)
    assert (row.mandate.code if row.mandate else None) == mandate
    assert row.office is not None
    assert row.office.slug == office
    assert (row.owner_en or (row.owner_body and row.owner_body.name_en)) == owner


@pytest.mark.usefixtures("holding")
def test_levels_may_come_in_any_order_and_the_highest_counts() -> None:
    services.note_raised(reports=[raised("holding", taken_by=""), raised("L4", taken_by="")])
    services.note_raised(reports=[raised("L3", taken_by="")])
    row = Escalation.objects.get()
    assert (row.level, row.state) == ("holding", State.RAISED)
    assert set(Step.objects.values_list("level", "kind")) == {
        ("L3", "passed"), ("L4", "passed"), ("holding", "raised"),
    }  # fmt: skip


@pytest.mark.usefixtures("holding")
def test_nobody_writes_into_the_escalation_of_another_unit() -> None:
    at_the_holding()
    assert services.note_raised(reports=[raised("L4", unit="tax", taken_by="")]) == 0
    assert services.note_raised(reports=[raised("L4", unit="nowhere", code="x")]) == 0
    assert list(Step.objects.values_list("level", flat=True)) == ["holding"]


def raw(
    subject: str,
    body: dict[str, Any],
    *,
    kind: str = "escalation.raise",
    id: str = "m1",
    seq: int = 1,
    source: str = "portal/test",
) -> Raw:
    headers = (
        f"NATS/1.0\r\nce-type: org.claytom.{kind}.v1\r\nce-source: {body.get('agent', source)}\r\n"
        f"Nats-Msg-Id: {id}\r\n\r\n"
    )
    return Raw(subject.encode(), headers.encode(), json.dumps(body).encode(), seq, "CT_CORP")


def body_of(**changes: Any) -> dict[str, Any]:
    return {
        "ts": timezone.now().isoformat(), "id": CODE, "agent": AGENT, "level": "L4", "severity": "high",
        "summary": "op-0031-g1 failed", "chain": [COORDINATOR], "matter": "staffing", **changes,
    }  # fmt: skip


@pytest.mark.usefixtures("holding")
def test_messages_of_both_subjects_become_steps_and_bad_ones_are_quarantined() -> None:
    subject = "org.claytom.corporate.escalation.pricing"
    dispatch([raw("org.claytom.pricing.metrics.escalation", body_of(level="L3", chain=[]), id=f"esc-{CODE}-L3")])
    batch = [
        raw(subject, body_of(), id=f"esc-{CODE}-L4"),
        raw(subject, body_of(), id=f"esc-{CODE}-L4"),
        raw("org.claytom.corporate.broadcast.c-suite", {"anything": 1}, kind="corporate.brief"),
        raw(subject, {"id": 1}, kind="approval.requested"),
        raw(subject, {"id": "x"}, id="bad", seq=9),
    ]
    take_corporate(batch)
    take_corporate(batch)
    row = Escalation.objects.get()
    assert [step.level for step in row.steps.all()] == ["L3", "holding"]
    assert [(one.stage, one.stream_seq) for one in QuarantinedMessage.objects.all()] == [("schema", 9)]


# --- what raises them --------------------------------------------------------------------------------------


def corporate(kind: str) -> list[Raw]:
    """What the portal has put into its outbox for the holding's ears."""
    rows = OutboxMessage.objects.filter(
        subject__startswith="org.claytom.corporate.escalation.", headers__contains={"ce-type": kind}
    ).order_by("id")
    return [
        raw(row.subject, json.loads(bytes(row.payload)), kind=kind.removeprefix("org.claytom.").removesuffix(".v1"),
            id=row.dedup, source=row.headers["ce-source"])
        for row in rows
    ]  # fmt: skip


def test_mass_silence_is_an_escalation_until_the_agents_are_heard_of_again() -> None:
    make_staffed_holding()
    bring_to_life("pricing")
    silence(*(f"pricing.{number}" for number in range(1, 5)))
    Monitor.objects.update(last_at=timezone.now())
    arp.ensure(unit="pricing")
    take_corporate(corporate("org.claytom.escalation.raise.v1"))
    incident = Incident.objects.get(kind="mass-silence")
    row = Escalation.objects.get(code=f"incident-{incident.pk}")
    assert (row.level, row.state, row.severity, row.agent) == ("holding", State.RAISED, 0, "portal/arp")
    assert row.mandate is not None
    assert row.mandate.code == "ARP"
    bring_to_life("pricing")
    arp.ensure(unit="pricing")
    take_corporate(corporate("org.claytom.escalation.resolve.v1"))
    row.refresh_from_db()
    assert (row.state, row.settled_by) == (State.RESOLVED, "portal/arp")
    assert acts(row.code) == ["escalation.raise", "escalation.resolve"]


def test_what_a_failed_agent_asked_for_is_resolved_when_its_successor_is_live() -> None:
    make_staffed_holding()
    bring_to_life("pricing")
    services.note_raised(reports=[raised()])
    assert services.tick().mended == 0
    report("pricing.1", states={"op-0031": "failed"})
    arp.ensure(unit="pricing")
    assert Replacement.objects.count() == 1
    assert services.tick().mended == 0  # appointed is not live
    report("pricing.1", observed_generation=2)
    assert services.tick().mended == 1
    row = Escalation.objects.get()
    assert (row.state, row.settled_by) == (State.RESOLVED, "portal/escalations")
    assert row.decision == "replaced by org.claytom.pricing.operator.op-0031-g2"


# --- what people decide ------------------------------------------------------------------------------------


def head(unit: str, name: str = "paula") -> User:
    return make_person(name, role="subsidiary-head", unit=Unit.objects.get(slug=unit))


@pytest.mark.usefixtures("holding")
def test_a_person_takes_it_decides_it_and_the_agent_is_told() -> None:
    row, paula = at_the_holding(), head("pricing")
    services.take(escalation=row, by=paula)
    services.take(escalation=row, by=paula)
    done = services.resolve(escalation=row, by=paula, decision=" try again ", given={"limit": 3})
    assert (done.state, done.person, done.decision, done.settled_by) == (
        State.RESOLVED, paula, "try again", "paula",
    )  # fmt: skip
    letter = DirectedMessage.objects.get()
    assert (letter.address, letter.key, letter.unit_id) == (AGENT, f"er-{CODE}", row.unit_id)
    assert json.loads(bytes(letter.body)) == {
        "id": CODE, "decision": "try again", "actor": "paula", "input": {"limit": 3},
    }  # fmt: skip
    assert acts() == ["escalation.raise", "escalation.take", "escalation.resolve"]
    assert [step.kind for step in row.steps.all()] == ["raised", "taken", "resolved"]
    with pytest.raises(RefusedError, match="settled"):
        services.resolve(escalation=row, by=paula, decision="again")


@pytest.mark.usefixtures("holding")
def test_what_is_anothers_is_handed_over_and_not_taken() -> None:
    row, paula, tomas, sara = (
        at_the_holding(),
        head("pricing"),
        head("tax", "tomas"),
        make_person("sara", role="viewer"),
    )
    dora = make_person("dora", role="supervisor", unit=Unit.objects.get(slug="pricing"))
    services.take(escalation=row, by=paula)
    for act in (services.take, lambda **given: services.resolve(decision="x", **given)):
        with pytest.raises(RefusedError, match="has it"):
            act(escalation=row, by=dora)
        with pytest.raises(NotHeldError, match=r"escalations\.decide"):
            act(escalation=row, by=tomas)
        with pytest.raises(NotHeldError):
            act(escalation=row, by=sara)
    with pytest.raises(RefusedError, match="may not decide"):
        services.assign(escalation=row, to=tomas, by=paula)
    services.assign(escalation=row, to=dora, by=paula)
    assert Escalation.objects.get().person == dora
    services.resolve(escalation=row, by=dora, decision="done")
    assert acts() == ["escalation.raise", "escalation.take", "escalation.assign", "escalation.resolve"]


@pytest.mark.usefixtures("holding")
@pytest.mark.parametrize(("decision", "given"), [("  ", None), ("x" * 501, None), ("x", "y" * 16_385)])
def test_a_decision_needs_words_and_has_its_bounds(decision: str, given: Any) -> None:
    row = at_the_holding()
    with pytest.raises(RefusedError):
        services.resolve(escalation=row, by=head("pricing"), decision=decision, given=given)
    assert Escalation.objects.get().state == State.RAISED
    assert not DirectedMessage.objects.exists()


@pytest.mark.usefixtures("holding")
def test_who_has_left_office_is_not_written_to() -> None:
    row = at_the_holding()
    Agent.objects.filter(subject=AGENT).update(retired_at=timezone.now(), stage="retired")
    services.resolve(escalation=row, by=head("pricing"), decision="too late")
    assert not DirectedMessage.objects.exists()


# --- time --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("holding")
def test_what_agents_keep_too_long_comes_to_the_holding_and_ends_after_a_week() -> None:
    services.note_raised(reports=[raised()])
    row = Escalation.objects.get()
    assert services.tick() == services.Tick(0, 0, 0)
    late = row.due_at + timedelta(seconds=1)
    assert services.tick(now=late) == services.Tick(0, 1, 0)
    assert services.tick(now=late) == services.Tick(0, 0, 0)
    row.refresh_from_db()
    assert (row.state, row.level, row.taken_by) == (State.RAISED, "holding", "")
    take_corporate(corporate("org.claytom.escalation.raise.v1"))  # its own message comes back, and changes nothing
    assert [step.level for step in row.steps.all()] == ["L3", "holding"]
    assert services.tick(now=row.expires_at + timedelta(seconds=1)).expired == 1
    assert Escalation.objects.get().state == State.EXPIRED
    assert acts() == ["escalation.raise", "escalation.raise", "escalation.expire"]


# --- the API -----------------------------------------------------------------------------------------------


def api(person: User) -> Client:
    token = f"token-of-{person.username}"
    make_token(person, token=token)
    return Client(headers={"Authorization": f"Bearer {token}", "Accept-Language": "en"})


@pytest.mark.usefixtures("officers", "redis_clean")
def test_the_api_lists_reads_takes_assigns_and_decides() -> None:
    row = at_the_holding()
    at_the_holding("other", unit="tax", agent="org.claytom.tax.operator.op-0031-g1", severity="low")
    paula = api(head("pricing", "pia"))
    make_person("max", role="supervisor", unit=unit_of("pricing"))
    found = paula.get("/api/v1/escalations/").json()["results"]
    assert [one["code"] for one in found] == [CODE]
    assert found[0]["owner"] == "C-Suite"  # its seats are for those who see the whole holding
    assert found[0]["overdue"] is False
    path = f"/api/v1/escalations/{row.pk}/"
    assert [step["level"] for step in paula.get(path).json()["steps"]] == ["holding"]
    assert paula.post(f"{path}take/").json()["taken_by"] == "pia"
    refused = paula.post(f"{path}resolve/", {"decision": ""}, content_type="application/json")
    assert refused.status_code == 400
    handed = paula.post(f"{path}assign/", {"person": "max"}, content_type="application/json")
    assert handed.json()["taken_by"] == "max"
    refused = paula.post(f"{path}resolve/", {"decision": "x"}, content_type="application/json")
    assert refused.status_code == 400
    assert "has it" in refused.content.decode()
    boss = api(make_person("boss"))
    found = boss.get("/api/v1/escalations/").json()["results"]
    assert [one["owner"] for one in found] == ["Chief operating officer"] * 2
    for query, codes in (
        ("severity=low", ["other"]), ("unit=pricing", [CODE]), ("open=true", ["other", CODE]), ("open=false", []),
        ("overdue=true", []), ("state=taken", [CODE]), ("matter=finance", []), (f"agent={AGENT}", [CODE]),
    ):  # fmt: skip
        listed = boss.get(f"/api/v1/escalations/?{query}").json()["results"]
        assert [one["code"] for one in listed] == codes, query
    assert paula.get(f"/api/v1/escalations/{Escalation.objects.get(code='other').pk}/").status_code == 404


@pytest.mark.usefixtures("holding", "redis_clean")
def test_the_api_lists_directed_messages_of_the_units_in_view() -> None:
    services.resolve(escalation=at_the_holding(), by=head("pricing"), decision="go on")
    other = "org.claytom.tax.operator.op-0031-g1"
    services.resolve(
        escalation=at_the_holding("other", unit="tax", agent=other), by=head("tax", "tomas"), decision="go on"
    )
    mine = api(make_person("sara", role="viewer", unit=Unit.objects.get(slug="pricing")))
    found = mine.get("/api/v1/messages/").json()["results"]
    assert [(one["agent"], one["type"], one["state"]) for one in found] == [(AGENT, "escalation.resolve", "open")]
    assert "body" not in found[0]
    all_units = api(make_person("boss"))
    for query, agents in (
        ("unit=tax", [other]), (f"agent={AGENT}", [AGENT]), ("type=work.offer", []), ("state=open", [other, AGENT]),
    ):  # fmt: skip
        listed = all_units.get(f"/api/v1/messages/?{query}").json()["results"]
        assert [one["agent"] for one in listed] == agents, query
    number = DirectedMessage.objects.get(address=other).pk
    assert mine.get(f"/api/v1/messages/{number}/").status_code == 404
    assert all_units.get(f"/api/v1/messages/{number}/").json()["key"] == "er-other"


# --- from the wire -----------------------------------------------------------------------------------------


@pytest.fixture
def bus_process(nats_clean: str) -> Iterator[subprocess.Popen[bytes]]:
    call_command("ensure_streams", verbosity=0)
    process = start_bus()
    yield process
    process.terminate()
    assert process.wait(timeout=15) == 0


@pytest.mark.django_db(transaction=True)
def test_the_bus_process_takes_escalations_from_both_streams(
    nats_clean: str, bus_process: subprocess.Popen[bytes]
) -> None:
    make_holding(subsidiaries=("pricing",))

    async def send(bus: Bus) -> None:
        for subject, level, number in (
            ("org.claytom.pricing.metrics.escalation", "L3", 1),
            ("org.claytom.pricing.metrics.escalation", "L3", 1),
            ("org.claytom.corporate.escalation.pricing", "L4", 2),
        ):
            headers = {
                "ce-type": "org.claytom.escalation.raise.v1", "ce-source": AGENT,
                "Nats-Msg-Id": f"esc-{CODE}-{level}-{number}",
            }  # fmt: skip
            body = json.dumps(body_of(level=level)).encode()
            await bus.js_publish(Outgoing(subject, body, headers))

    with_bus(nats_clean, send)
    until(lambda: Step.objects.count() == 2)
    assert Escalation.objects.get().level == "holding"
