"""Appointments: exactly one successor, whatever happens at once; and what the hosts are told."""

import json
import threading
from typing import Any

import pytest
from django.db import connection, transaction

from audit.models import LedgerEntry
from bus.models import OutboxMessage
from holding.models import Agent, Division, Incumbency, Seat, Suspension
from holding.services import appoint, publish_manifests, suspend
from holding.tests.factories import make_holding, make_seat, make_version


@pytest.fixture
def loaded(db: None) -> None:
    make_holding(subsidiaries=("pricing",))


def sent(subject: str) -> list[dict[str, Any]]:
    rows = OutboxMessage.objects.filter(subject=subject).order_by("id")
    return [json.loads(bytes(row.payload)) for row in rows]


def test_an_appointment_retires_the_old_agent_and_seats_a_new_one(loaded: None) -> None:
    seat = make_seat()
    (done,) = appoint(seats=[(seat.pk, 1)], actor="arp", reason="failed", correlation_id="c-1")
    assert (done.old and done.old.subject, done.new.subject) == (
        "org.claytom.pricing.operator.op-0031-g1",
        "org.claytom.pricing.operator.op-0031-g2",
    )
    seat.refresh_from_db()
    assert seat.generation == 2
    old, new = Agent.objects.filter(seat=seat).order_by("generation")
    assert old.retired_at is not None
    assert new.retired_at is None
    assert list(seat.incumbencies.order_by("generation").values_list("generation", "agent_id", "ended_at")) == [
        (1, old.pk, old.retired_at),
        (2, new.pk, None),
    ]
    entry = LedgerEntry.objects.get(action="seat.appoint")
    assert (entry.actor, entry.object, entry.correlation_id) == ("arp", "seat/pricing/op-0031", "c-1")
    assert json.loads(bytes(entry.body))["details"] == {
        "reason": "failed",
        "old": old.subject,
        "new": new.subject,
        "generation": 2,
        "stages": {"old": "replaced", "new": "provisioning"},
        "blueprint": "operator v1",
    }


def test_the_same_appointment_twice_is_one(loaded: None) -> None:
    seat = make_seat()
    assert len(appoint(seats=[(seat.pk, 1)], actor="arp", reason="failed")) == 1
    messages = OutboxMessage.objects.count()
    assert appoint(seats=[(seat.pk, 1)], actor="arp", reason="failed") == []
    assert appoint(seats=[(10**9, 1)], actor="arp", reason="failed") == []
    assert appoint(seats=[], actor="arp", reason="failed") == []
    assert Agent.objects.filter(seat=seat).count() == 2
    assert LedgerEntry.objects.filter(action="seat.appoint").count() == 1
    assert OutboxMessage.objects.count() == messages


def test_a_corporate_seat_keeps_its_subject(loaded: None) -> None:
    seat = make_seat("corporate", "ceo")
    (done,) = appoint(seats=[(seat.pk, 1)], actor="arp", reason="failed")
    assert done.replaced.subject == done.new.subject == "org.claytom.corporate.c-suite.ceo"
    assert done.new.generation == 2
    manifest = sent("$KV.CT_SEATS.corporate.c-suite")[-1]
    assert (manifest["generation"], manifest["generations"]) == (2, {"ceo": 2})


def test_the_hosts_are_told_the_new_generation(loaded: None) -> None:
    seats = [make_seat(code=code) for code in ("op-0031", "op-0032")]
    appoint(seats=[(seat.pk, 1) for seat in seats], actor="arp", reason="failed")
    first, second = (sent(f"$KV.CT_SEATS.{seat.division.key}")[-1] for seat in seats)
    assert (first["generation"], first["generations"]) == (2, {"31": 2})
    assert (second["generation"], second["generations"]) == (2, {"32": 2})
    hint = sent("org.claytom.pricing.command.sync")[0]
    assert (hint["division"], hint["generation"]) == (seats[0].division.key, 2)
    appoint(seats=[(seats[0].pk, 2)], actor="arp", reason="failed")
    assert sent(f"$KV.CT_SEATS.{seats[0].division.key}")[-1]["generations"] == {"31": 3}
    dedups = OutboxMessage.objects.values_list("dedup", flat=True)
    assert len(set(dedups)) == len(dedups)


def test_paused_seats_and_new_blueprints_are_in_the_manifest(loaded: None) -> None:
    seat = make_seat()
    suspend(
        division_ids=[seat.division_id],
        seat_id=seat.pk,
        desired=Suspension.Desired.PAUSED,
        order=1,
        actor="ana",
        reason="a look at it",
    )
    new = make_version("operator", {"drag": 0.2})
    publish_manifests(division_ids=[seat.division_id])
    manifest = sent(f"$KV.CT_SEATS.{seat.division.key}")[-1]
    assert manifest["desired"] == {"31": "paused"}
    (operators,) = [group for group in manifest["seats"] if group["role"] == "operator"]
    assert operators["blueprint"]["version"] == 1  # that another one is approved changes nobody
    (done,) = appoint(seats=[(seat.pk, 1)], actor="arp", reason="failed")
    assert done.new.blueprint.version == 1
    appoint(seats=[(seat.pk, 2)], actor="arp", reason="rollout", versions={seat.pk: new})
    manifest = sent(f"$KV.CT_SEATS.{seat.division.key}")[-1]
    (operators,) = [group for group in manifest["seats"] if group["role"] == "operator"]
    assert operators["blueprint"] == {"name": "operator", "version": 2, "digest": new.digest}
    assert operators["worker"]["params"] == {"drag": 0.2}
    assert operators["ordinals"] == [[31, 31]]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("racers", [2, 4])
def test_of_appointments_at_once_exactly_one_is_made(racers: int) -> None:
    make_holding(subsidiaries=("pricing",))
    seats = list(Seat.objects.filter(role__slug="operator").values_list("id", flat=True))
    start, made, errors = threading.Barrier(racers), list[int](), list[Exception]()

    def race(order: list[int]) -> None:
        try:
            start.wait(10)
            with transaction.atomic():
                done = appoint(seats=[(pk, 1) for pk in order], actor="arp", reason="failed")
            made.extend(item.seat.pk for item in done)
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    orders = [seats if number % 2 else seats[::-1] for number in range(racers)]
    threads = [threading.Thread(target=race, args=[order]) for order in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(made) == sorted(seats)
    assert set(Seat.objects.filter(pk__in=seats).values_list("generation", flat=True)) == {2}
    assert Agent.objects.in_office().filter(seat_id__in=seats).count() == len(seats)
    assert Incumbency.objects.filter(seat_id__in=seats, ended_at=None).count() == len(seats)
    assert set(Division.objects.filter(unit__slug="pricing").values_list("manifest_generation", flat=True)) == {2}
