"""When the holding is up: every seat has a live agent and the portal answers."""

import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import datetime

import psycopg

HEARD = "select max(seen_at) from replacement_divisionstate"
AGENTS = """
    select (select coalesce(sum(census.live), 0)
              from replacement_census census join replacement_divisionstate state using (division_id)
             where state.seen_at > coalesce(%s, '-infinity'::timestamptz))::int,
           (select count(*) from holding_seat where closed_at is null)::int
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
    """Counts live agents of divisions that were heard of since `begin`.

    What the census says from the last run proves nothing about this one. The threshold is a time that
    the database holds, not ours, so that an accelerated clock does not matter.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: psycopg.Connection | None = None
        self._threshold: datetime | None = None

    def begin(self) -> None:
        """Remember when the last division was heard of; call before the hosts start."""
        try:
            row = self._connected().execute(HEARD).fetchone()
        except psycopg.Error:
            self.close()
        else:
            self._threshold = row[0] if row else None

    def _connected(self) -> psycopg.Connection:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self._dsn, autocommit=True, connect_timeout=2)
        return self._connection

    def __call__(self) -> Agents:
        """The count now; zeros while the database does not answer."""
        try:
            row = self._connected().execute(AGENTS, [self._threshold]).fetchone()
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
