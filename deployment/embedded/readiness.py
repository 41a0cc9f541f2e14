"""When the holding is up: every seat has a live agent and the portal answers."""

import urllib.error
import urllib.request
from dataclasses import dataclass

import psycopg

AGENTS = """
    select (select coalesce(sum(live), 0) from replacement_census)::int,
           (select count(*) from holding_seat)::int
"""


@dataclass(frozen=True)
class Agents:
    """Live agents against seats."""

    live: int
    seats: int

    @property
    def complete(self) -> bool:
        """Whether every seat has a live agent."""
        return 0 < self.seats <= self.live

    def __str__(self) -> str:
        return f"{self.live:,} of {self.seats:,} agents are live"


class AgentCount:
    """Counts live agents over one connection that is opened again when it breaks."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: psycopg.Connection | None = None

    def __call__(self) -> Agents:
        """The count now; zeros while the database does not answer."""
        try:
            if self._connection is None or self._connection.closed:
                self._connection = psycopg.connect(self._dsn, autocommit=True, connect_timeout=2)
            row = self._connection.execute(AGENTS).fetchone()
        except psycopg.Error:
            self.close()
            return Agents(0, 0)
        return Agents(*row) if row else Agents(0, 0)

    def close(self) -> None:
        """Give the connection back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def answers(url: str) -> bool:
    """Whether a GET of ``url`` is answered with success."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - our own loopback address
            return bool(200 <= response.status < 300)
    except (urllib.error.URLError, OSError):
        return False
