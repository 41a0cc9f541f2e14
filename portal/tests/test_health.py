"""What machines ask of the portal, with everything well and with parts of it down."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, connection
from django.test import Client, RequestFactory
from django.utils import timezone

from bus.models import Counter, OutboxMessage
from holding.models import Unit
from holding.scope import NOTHING, show
from portal.tests.factories import hear, make_replacements, make_shortage
from portal.views.errors import server_error
from subsidiaries.replacement.models import DivisionState

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("holding")]


@pytest.fixture
def client() -> Client:
    return Client()


def test_readyz_is_200_when_all_is_well(client: Client) -> None:
    OutboxMessage.objects.update(sent_at=timezone.now())
    body = client.get("/readyz").json()
    assert body["ready"] is True
    assert body["down"] == []


def test_readyz_names_what_is_down(client: Client) -> None:
    hear(timezone.now() - timedelta(minutes=5))
    OutboxMessage.objects.update(created_at=timezone.now() - timedelta(minutes=5), sent_at=None)
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["down"] == ["presence", "outbox"]
    assert client.get("/readyz?only=database,redis").status_code == 200


def test_readyz_before_any_host_has_run(client: Client) -> None:
    DivisionState.objects.update(seen_at=None)
    assert client.get("/readyz?only=presence").json()["checks"] == {"presence": "no division was ever heard of"}


def test_metrics_tell_of_staffing_replacements_and_counters(client: Client) -> None:
    make_replacements("sales", count=2)
    make_shortage("cloud", missing=1)
    Counter.objects.add({("bus.refused", (("stage", "json"),)): 3})
    lines = client.get("/metrics").content.decode().splitlines()
    assert 'claytom_agents_live{unit="pricing"} 35.0' in lines
    assert "claytom_units_below_floor 1.0" in lines
    assert 'claytom_replacements_total{reason="failed"} 2.0' in lines
    assert 'claytom_incidents_open{kind="below-floor"} 1.0' in lines
    assert "claytom_coverage_ratio 1.0" in lines
    assert 'claytom_bus_refused_total{stage="json"} 3.0' in lines


def test_probes_are_told_of_all_in_a_process_that_sees_nothing(client: Client, settings: Any) -> None:
    settings.SCOPE = "nothing"  # as in the web process, where only the gate opens rows
    show(NOTHING)
    assert client.get("/readyz?only=presence").json()["ready"]
    assert 'claytom_agents_live{unit="pricing"} 35.0' in client.get("/metrics").content.decode()
    assert not Unit.objects.exists()
    with connection.cursor() as cursor:
        cursor.execute("select count(*) from holding_unit")
        assert cursor.fetchone() == (0,)


def test_metrics_are_for_this_machine_or_the_token(client: Client, settings: Any) -> None:
    assert client.get("/metrics", REMOTE_ADDR="10.0.0.9").status_code == 403
    assert client.get("/metrics", headers={"X-Forwarded-For": "1.2.3.4"}).status_code == 403
    settings.METRICS_TOKEN = "secret"
    assert client.get("/metrics").status_code == 403
    assert client.get("/metrics", headers={"Authorization": "Bearer secret"}).status_code == 200


def test_a_database_that_does_not_answer_is_a_503_that_says_so(
    ana: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_options: object) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr("portal.views.overview.overview", fail)
    ana.raise_request_exception = False
    response = ana.get("/")
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "5"
    assert b"The database does not answer" in response.content
    assert b"Traceback" not in response.content
    assert b"connection refused" not in response.content


def test_a_bug_is_a_500_without_details(ana: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portal.views.overview.overview", lambda **_options: 1 / 0)
    ana.raise_request_exception = False
    response = ana.get("/")
    assert response.status_code == 500
    assert b"This went wrong" in response.content
    assert b"ZeroDivisionError" not in response.content


@pytest.mark.parametrize(("error", "status"), [(OperationalError, 503), (IntegrityError, 500)])
def test_only_a_database_that_is_away_is_called_unavailable(error: type[Exception], status: int) -> None:
    """A broken rule is a fault of ours: nobody is told to come again in five seconds."""

    def fail() -> None:
        raise error

    try:
        fail()
    except error:
        response = server_error(RequestFactory().get("/"))
    assert response.status_code == status
    assert ("Retry-After" in response.headers) == (status == 503)
