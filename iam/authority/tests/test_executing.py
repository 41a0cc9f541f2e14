"""What is approved is carried out once: by the call that approved it, or by the tick after it."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import psycopg
import pytest
from django.db import OperationalError, connection, connections

from audit import services as audit
from audit.models import LedgerEntry
from bus.models import OutboxMessage
from iam.authority import actions, services
from iam.authority.models import Approval, Decision
from iam.authority.services import KeyInUseError, NotAllowedError
from iam.authority.tests.effects import EFFECT, effects
from iam.authority.tests.factories import HOUR, T0, YES, ask, decide, make_authority, who

ROOT = Path(__file__).resolve().parents[3]
COUNT = "tests.count"


def acts(approval: Approval) -> list[str]:
    entries = LedgerEntry.objects.filter(object=f"approval/{approval.pk}").order_by("pk")
    return list(entries.values_list("action", flat=True))


@pytest.fixture
def authority(db: None) -> None:
    make_authority()


@pytest.mark.usefixtures("authority")
def test_the_last_decision_executes() -> None:
    approval = ask(action=COUNT, parameters={"cap": 40}, matter="payment-release")
    assert decide(approval, "dora") == "pending"
    assert effects(approval) == 0
    assert decide(approval, "dani") == "executed"
    assert effects(approval) == 1
    approval.refresh_from_db()
    assert approval.executed_at is not None
    assert acts(approval) == [
        "approval.request", "approval.decide", "approval.decide", "approval.execute",
    ]  # fmt: skip
    assert set(OutboxMessage.objects.filter(dedup__startswith="approval-").values_list("dedup", flat=True)) == {
        f"approval-{approval.pk}-approved", f"approval-{approval.pk}-executed",
    }  # fmt: skip
    audit.seal(limit=100_000)
    assert audit.verify().ok


@pytest.mark.usefixtures("authority")
def test_what_the_envelope_grants_is_executed_at_once() -> None:
    approval = ask(500, by="", action=COUNT)
    assert (approval.state, effects(approval)) == ("executed", 1)
    again = ask(500, by="", action=COUNT, key=approval.key)
    assert (again, effects(approval)) == (approval, 1)


@pytest.mark.usefixtures("authority")
def test_executing_again_does_nothing() -> None:
    approval = ask(500, by="", action=COUNT)
    assert services.execute_approved(approval=approval).state == "executed"
    assert services.tick(at=T0).executed == 0
    assert effects(approval) == 1


@pytest.mark.usefixtures("authority")
@pytest.mark.parametrize("name", ["dora", "sara"])
def test_nothing_is_executed_before_it_is_approved(name: str) -> None:
    approval = ask(action=COUNT)
    assert services.execute_approved(approval=approval).state == "pending"
    assert effects(approval) == 0


@pytest.mark.usefixtures("authority")
def test_without_an_action_the_approval_is_the_effect() -> None:
    approval = ask()
    assert decide(approval, "dora") == "approved"
    assert services.tick(at=T0 + 2 * HOUR).executed == 0
    assert services.execute_approved(approval=approval).state == "approved"


@pytest.mark.usefixtures("authority")
@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"fail": True}, "The effect failed."),
        ({"vanish": True}, "It was carried out, but its effect is not there."),
    ],
)
def test_a_failure_leaves_no_effect_and_says_why(parameters: dict[str, bool], reason: str) -> None:
    approval = ask(action=COUNT, parameters=parameters)
    assert decide(approval, "dora") == "failed"
    approval.refresh_from_db()
    assert (approval.failure, effects(approval)) == (reason, 0)
    assert services.tick(at=T0 + 2 * HOUR).executed == 0
    assert LedgerEntry.objects.filter(action="approval.fail").count() == 1
    assert OutboxMessage.objects.filter(dedup=f"approval-{approval.pk}-failed").exists()


@pytest.mark.usefixtures("authority")
def test_when_the_database_is_lost_it_stays_approved(monkeypatch: pytest.MonkeyPatch) -> None:
    approval = ask(action=COUNT)

    def lose(_approval: Approval) -> None:
        raise OperationalError("the connection is lost")

    known = actions.action_named(COUNT)
    monkeypatch.setitem(actions._actions, COUNT, actions.Action(COUNT, known.verify, lose))
    with pytest.raises(OperationalError):
        decide(approval, "dora")
    assert services.tick(at=T0 + HOUR).executed == 0
    monkeypatch.setitem(actions._actions, COUNT, known)
    assert services.tick(at=T0 + 2 * HOUR).executed == 1
    assert effects(approval) == 1


@pytest.mark.usefixtures("authority")
@pytest.mark.parametrize(
    ("action", "parameters"), [("tests.unknown", {}), (COUNT, {"bad": True}), (COUNT, {"number": float("nan")})]
)
def test_what_cannot_be_carried_out_is_not_asked_for(action: str, parameters: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"registered|bad|nan"):
        ask(action=action, parameters=parameters)
    assert not Approval.objects.exists()


def test_an_action_has_one_owner() -> None:
    with pytest.raises(ValueError, match="registered already"):
        services.register_action(name=COUNT, verify=lambda _: None, run=lambda _: None)


# --- from outside ------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_altered_parameters_are_not_carried_out(postgres_superuser_dsn: str) -> None:
    make_authority()
    approval = ask(action=COUNT, parameters={"cap": 40})
    with psycopg.connect(postgres_superuser_dsn) as superuser:  # nobody else gets past the triggers
        superuser.execute("set session_replication_role = replica")
        superuser.execute("update authority_approval set parameters = %s", ['{"cap": 4000}'])
    assert decide(approval, "dora") == "failed"
    approval.refresh_from_db()
    assert approval.failure == "The parameters are not those that were approved."
    assert effects(approval) == 0


def at_once(*acts: Callable[[], object]) -> list[object]:
    """Run the acts in threads that start together; return what each returned or raised."""
    start, outcomes = threading.Barrier(len(acts)), list[object]([None] * len(acts))

    def work(place: int, act: Callable[[], object]) -> None:
        start.wait(timeout=10)
        try:
            outcomes[place] = act()
        except (NotAllowedError, KeyInUseError) as error:
            outcomes[place] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    return outcomes


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("turn", range(3))
def test_two_who_approve_at_once_execute_once(turn: int) -> None:
    make_authority()
    approval = ask(action=COUNT)
    outcomes = at_once(lambda: decide(approval, "dora"), lambda: decide(approval, "dani"))
    assert effects(approval) == 1
    assert "executed" in outcomes
    assert sum(isinstance(outcome, NotAllowedError) for outcome in outcomes) == 1
    assert Decision.objects.count() == 1
    assert LedgerEntry.objects.filter(action="approval.execute").count() == 1


@pytest.mark.django_db(transaction=True)
def test_the_two_of_a_dual_decision_at_once_execute_once() -> None:
    make_authority()
    approval = ask(action=COUNT, matter="payment-release")
    outcomes = at_once(lambda: decide(approval, "dora"), lambda: decide(approval, "dani"))
    assert sorted(map(str, outcomes)) == ["executed", "pending"]
    assert effects(approval) == 1


@pytest.mark.django_db(transaction=True)
def test_two_ticks_at_once_execute_once() -> None:
    make_authority()
    approval = leave_approved(ask(action=COUNT))
    at_once(*[lambda: services.tick(at=T0 + HOUR)] * 3)
    assert effects(approval) == 1
    assert LedgerEntry.objects.filter(action="approval.execute").count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_halves_of_one_contract_at_once_see_each_other() -> None:
    make_authority()
    at_once(lambda: ask(26_000, key="a", counterparty="Acme"), lambda: ask(26_000, key="b", counterparty="Acme"))
    assert sorted(int(approval.judged) for approval in Approval.objects.all()) == [26_000, 52_000]


def leave_approved(approval: Approval) -> Approval:
    """Bring a request to where a process leaves it that dies between approval and execution."""
    services._decide(approval.pk, who("dora"), YES, "", None, T0 + HOUR)
    approval.refresh_from_db()
    assert approval.state == "approved"
    return approval


DECIDE = """
import sys, django
django.setup()
from iam.authority.tests import effects, factories
from iam.authority.models import Approval
factories.decide(Approval.objects.get(pk=int(sys.argv[1])), "dora")
"""


@pytest.mark.django_db(transaction=True)
def test_what_a_killed_process_left_is_executed_once_by_the_tick() -> None:
    make_authority()
    approval = ask(action=COUNT, parameters={"hang": True})
    process = subprocess.Popen(
        [sys.executable, "-c", DECIDE, str(approval.pk)],
        cwd=ROOT,
        env={**os.environ, "HANG": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "running\n"  # the effect is written, and not committed
    finally:
        process.kill()
        process.wait(timeout=10)
        process.stdout.close()
    approval.refresh_from_db()
    assert (approval.state, effects(approval)) == ("approved", 0)
    assert services.tick(at=T0 + 2 * HOUR).executed == 1
    assert services.tick(at=T0 + 3 * HOUR).executed == 0
    approval.refresh_from_db()
    assert (approval.state, effects(approval)) == ("executed", 1)
    with connection.cursor() as cursor:
        cursor.execute("select count(*) from bus_counter where name = %s", [EFFECT])
        assert cursor.fetchone() == (1,)
    assert acts(approval) == [
        "approval.request", "approval.decide", "approval.execute",
    ]  # fmt: skip
    audit.seal(limit=100_000)
    assert audit.verify().ok


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("turn", range(8))
def test_two_halves_asked_for_at_once_are_added_up(turn: int) -> None:
    """Whichever comes second is judged with the first, also when it was begun before it."""
    make_authority()
    begun = [T0 + timedelta(microseconds=turn % 2), T0 + timedelta(microseconds=1 - turn % 2)]
    halves = [partial(ask, 30_000, counterparty="Acme", key=f"half-{at}", at=at) for at in begun]
    at_once(*halves)
    assert sorted(int(one.judged) for one in Approval.objects.all()) == [30_000, 60_000]


@pytest.mark.django_db(transaction=True)
def test_one_key_at_once_is_one_request() -> None:
    make_authority()
    same = at_once(partial(ask, key="one"), partial(ask, key="one"))
    assert len({one.pk for one in same if isinstance(one, Approval)}) == Approval.objects.count() == 1
    other = at_once(partial(ask, key="two"), partial(ask, key="two", unit="tax"))
    assert sorted(type(one).__name__ for one in other) == ["Approval", "KeyInUseError"]
