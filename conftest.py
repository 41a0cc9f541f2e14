"""Every test runs on real servers of its own; this names them before Django reads its settings."""

import os
import shutil
import tempfile
from collections.abc import Iterator

import django
import pytest
from django.conf import settings
from django.core.management import call_command
from django.test import TransactionTestCase
from pytest_django.plugin import DjangoDbBlocker

pytest.register_assert_rewrite("tests.servers")

from tests.database import TestDatabase  # noqa: E402
from tests.servers import SERVERS  # noqa: E402
from tests.stack import TURNS, turn  # noqa: E402

pytest_plugins = ["tests.servers"]

SERVERS.enter_environment()
os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
os.environ["SCOPE"] = "everything"  # of the tests; a request sees what its account may see
django.setup()
# Pages name their files without a manifest: no test needs collectstatic.
settings.STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}


def pytest_report_header() -> list[str]:
    """Say that the tests never touch the servers of an installation."""
    if not SERVERS.ignored:
        return []
    return [f"servers: the tests start their own; {', '.join(SERVERS.ignored)} of the environment are not used"]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Let each worker have servers of its own: with this inherited, Django would read its settings before that."""
    del os.environ["DJANGO_SETTINGS_MODULE"]


@pytest.fixture(autouse=True)
def its_turn(request: pytest.FixtureRequest) -> Iterator[None]:
    """Wait while a whole holding of the same run has the machine for itself; its own tests are in that turn."""
    if request.node.get_closest_marker("stack"):
        yield
        return
    with turn(alone=False):
        yield


def pytest_configure(config: pytest.Config) -> None:
    """Make the place where this run's processes take turns; the workers inherit its name."""
    if not hasattr(config, "workerinput"):
        os.environ[TURNS] = tempfile.mkdtemp(prefix="claytom-turns-")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest: else one process ends with one while the other has nothing left."""
    items.sort(key=lambda item: not any(item.get_closest_marker(name) for name in ("stack", "browser", "long")))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nothing running, and nothing behind."""
    SERVERS.stop()
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ[TURNS], ignore_errors=True)


@pytest.fixture(scope="session")
def django_db_setup(
    django_test_environment: None,
    django_db_blocker: DjangoDbBlocker,
    postgres_superuser_dsn: str,
    redis_url: str,
) -> Iterator[None]:
    """Migrate as the owner; then tests run as the application's role, so its privileges are tested too."""
    database = TestDatabase(postgres_superuser_dsn)
    with django_db_blocker.unblock():
        call_command("migrate", database="owner", verbosity=0, interactive=False)
    database.remember()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda _case: database.reset())
        yield
