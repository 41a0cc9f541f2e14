"""Connections that go back to the pool."""

import psycopg
from django.conf import settings
from psycopg_pool import ConnectionPool

SHOWN = "select current_setting('app.units')"


def test_a_connection_forgets_in_the_pool_what_it_showed(postgres_superuser_dsn: str) -> None:
    reset = settings.DATABASES["default"]["OPTIONS"]["pool"]["reset"]
    with ConnectionPool[psycopg.Connection](postgres_superuser_dsn, min_size=1, max_size=1, reset=reset) as pool:
        for left in ("1,2", "", "*"):
            with pool.connection() as connection:
                connection.execute("select set_config('app.units', %s, false)", [left])
                backend = connection.info.backend_pid
            with pool.connection() as connection:
                assert connection.info.backend_pid == backend
                assert connection.execute(SHOWN).fetchone() == (settings.UNITS_AT_FIRST,)
