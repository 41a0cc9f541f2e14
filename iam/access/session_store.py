"""The session engine: sessions in the database, read from the cache, and neither begun nor ended by it."""

import logging
from typing import Any

from django.contrib.sessions.backends import cached_db
from redis.exceptions import RedisError

log = logging.getLogger("iam.access.sessions")


class SessionStore(cached_db.SessionStore):
    """Django's `cached_db`, which works on while the cache does not answer."""

    def load(self) -> dict[str, Any]:
        """Return what the session holds, nothing when it has ended."""
        try:
            return super().load()
        except RedisError:
            return super(cached_db.SessionStore, self).load()

    def exists(self, session_key: str) -> bool:
        """Return whether the database has a session of that key; the cache knows no others."""
        return super(cached_db.SessionStore, self).exists(session_key)

    def delete(self, session_key: str | None = None) -> None:
        """Delete a session. What a cache that does not answer keeps of it ends in a minute (`sessions.keep`)."""
        try:
            super().delete(session_key)
        except RedisError:
            log.warning("A session ended, but the cache does not answer: it may last a minute longer.")
