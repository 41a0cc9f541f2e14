"""Fixtures of the pages: people with and without the clearance, a holding at work, real processes."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from django.test import Client

from iam.access.tests.factories import make_binding, make_person
from iam.authority.tests.factories import make_authority, unit_of, who
from portal.tests.factories import make_kpis, make_live_holding
from portal.tests.offices import ROLES, SignIn
from portal.tests.processes import Portal


@pytest.fixture(scope="session")
def static_files() -> None:
    """The static files with their manifest, as the processes of an installation serve them."""
    subprocess.run([sys.executable, "-m", "django", "collectstatic", "--no-input", "-v0"], check=True)


@pytest.fixture
def holding(db: None, redis_clean: str) -> None:
    """A small holding whose every agent is live."""
    make_live_holding()
    make_kpis(minutes=8)


@pytest.fixture
def ana(db: None, redis_url: str) -> Client:
    """A cleared person, signed in, reading English."""
    client = Client(headers={"Accept-Language": "en"})
    client.force_login(make_person("ana"))
    client.get("/theme/")  # the first request of a session begins its limits, as a sign-in does
    return client


@pytest.fixture
def bob(db: None, redis_url: str) -> Client:
    """A person without the clearance, signed in."""
    client = Client(headers={"Accept-Language": "en"})
    client.force_login(make_person("bob", cleared=False))
    return client


@pytest.fixture
def officers(db: None, redis_url: str) -> None:
    """An authority in force, and people in its offices with the roles of the pages."""
    make_authority()
    for name, (role, unit) in ROLES.items():
        make_binding(who(name), role, unit_of(unit) if unit else None)


@pytest.fixture
def sign_in() -> SignIn:
    """Sign in somebody of the authority, reading English."""

    def client(name: str) -> Client:
        made = Client(headers={"Accept-Language": "en"})
        made.force_login(who(name))
        return made

    return client


@pytest.fixture(scope="session")
def processes(django_db_setup: None, redis_url: str, static_files: None) -> Iterator[Portal]:
    """Real processes `web` and `live`; they keep nothing between tests but connections."""
    with Portal() as running:
        yield running


@pytest.fixture
def portal(transactional_db: None, redis_clean: str, processes: Portal) -> Portal:
    """The processes on a small holding that works, and a cleared person."""
    make_live_holding()
    make_kpis(minutes=20)
    make_person("ana", language="en")
    return processes
