"""What a connection forgets when it goes back to the pool."""

from collections.abc import Callable
from typing import Any

from psycopg import Connection

Forget = Callable[[Connection[Any]], None]


def forgetting(units: str) -> Forget:
    """Return what makes a connection show these units again (`holding.scope`), whoever used it before."""

    def forget(connection: Connection[Any]) -> None:
        connection.execute("select set_config('app.units', %s, false)", [units])
        if not connection.autocommit:
            connection.commit()

    return forget
