"""The holding that `pages.py` asks for, and the reference that needs its models. Imported once Django is set up."""

import time
from http import HTTPStatus

import msgspec
import psycopg
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext, override_settings

from holding.models import Agent
from iam.access.services import issue_token
from iam.access.tests.factories import make_person
from portal.tests.factories import hear, make_kpis, make_live_holding, make_replacements
from subsidiaries.replacement.shown import COLUMNS

TOKEN = "token-of-the-benchmark"  # noqa: S105 - of a database that lives for a minute

__all__ = ["count_queries", "hear", "late_page", "prepare", "values_and_json"]


def prepare(superuser_url: str) -> dict[str, str]:
    """Load the whole holding with KPIs and replacements; return the headers of a person who has signed in.

    The statistics of the planner are written at once: in an installation autovacuum does so within a minute.
    """
    make_live_holding(agents=1500)
    make_kpis()
    make_replacements("pricing", count=200)
    user = make_person("benchmark")
    issue_token(user=user, name="benchmark", token=TOKEN, expires_at=None, actor="benchmark")
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "iam.access.backends.PeopleBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    with psycopg.connect(superuser_url, autocommit=True) as superuser:
        superuser.execute("analyze")
    return {"Cookie": f"session={session.session_key}", "Authorization": f"Bearer {TOKEN}"}


def values_and_json(times: int = 100) -> float:
    """Return the processor time (ms) of 100 agents as `values()` and JSON, in this process."""
    start = time.process_time()
    for _ in range(times):
        msgspec.json.encode(list(Agent.objects.in_office().order_by("-id").values(*COLUMNS)[:100]))
    return (time.process_time() - start) * 1000 / times


def count_queries(path: str, headers: dict[str, str]) -> int:
    """Return how many queries a page costs, in a process that sees nothing between requests, as the web's."""
    client = Client(headers={**headers, "Host": "localhost"})
    with override_settings(SCOPE="nothing"), CaptureQueriesContext(connection) as queries:
        status = client.get(path).status_code
    if status != HTTPStatus.OK:
        raise RuntimeError(f"{path}: {status}")
    return len(queries)


def late_page() -> str:
    """Return the address of page 500 of the list of agents (50 rows each)."""
    keys = Agent.objects.in_office().order_by("pk").values_list("pk", flat=True)
    return f"/agents/?after={keys[499 * 50]}"
