"""Handing a batch to its feed until it is committed: waiting out a database, isolating a message.

Whose fault a failure is decides what happens. The database's (down, restarting, disk full, deadlock, tables
missing): the same batch again, later; nothing is acknowledged and nothing is refused. Everything else is the
message's: the batch is halved until the one that fails is alone, and that one goes into quarantine.
"""

import logging
import threading
from collections.abc import Callable, Sequence

import django.db
import psycopg
from django.db import connection, transaction

from bus import counters, marks, services
from bus.feeds import Feed, Raw
from bus.leases import LeasesUnavailableError

log = logging.getLogger("bus.commit")

FIRST_DELAY, LONGEST_DELAY = 0.2, 5.0  # seconds
PROGRAM_LIMIT = "54"  # SQLSTATE class: a value too large for the database, which waiting does not change

REMEDIES = {  # by SQLSTATE, where the database's own words do not say what helps
    psycopg.errors.DiskFull.sqlstate: (
        "Free space on the disk of PostgreSQL. Until then the stream keeps the messages, unacknowledged; "
        "afterwards all goes on by itself."
    ),
}


class Committer:
    """Commits the batches of one feed, in the thread that calls it. `stop` ends a wait for the database."""

    def __init__(self, feed: Feed, stop: threading.Event) -> None:
        self._feed = feed
        self._stop = stop
        self._outage = False

    def commit(self, batch: Sequence[Raw]) -> bool:
        """Return True when each message is committed or in quarantine, False if stopped before."""
        if not self._persist(lambda: self._halve(batch)):
            return False
        counters.add("claytom_batches_total", stream=self._feed.stream)
        counters.add("claytom_messages_total", len(batch), stream=self._feed.stream)
        return True

    def attempt(self, act: Callable[[], None]) -> None:
        """Call the feed's `start` or `tick`: what they do is made good later, so a failure is only logged."""
        try:
            act()
        except Exception as error:
            self._report(error)
        else:
            self._outage = False

    def _persist(self, act: Callable[[], None]) -> bool:
        delay = FIRST_DELAY
        while True:
            try:
                act()
            except (django.db.Error, psycopg.Error, LeasesUnavailableError) as error:
                self._report(error)
                counters.add("claytom_retries_total", stream=self._feed.stream)
                if self._stop.wait(delay):
                    return False
                delay = min(delay * 2, LONGEST_DELAY)
            else:
                if self._outage:
                    self._outage = False
                    log.info("%s goes on.", self._feed.consumer)
                return True

    def _halve(self, batch: Sequence[Raw]) -> None:
        """Handle a batch, or its halves if a message in it fails. Raises the database's own failures."""
        try:
            self._feed.handle(batch)
        except Exception as error:
            if is_outage(error):
                raise
            if len(batch) == 1:
                self._quarantine(batch[0], error)
                return
            log.debug("%s: a message of %d fails: %r", self._feed.consumer, len(batch), error)
            middle = len(batch) // 2
            self._halve(batch[:middle])
            self._halve(batch[middle:])

    def _quarantine(self, raw: Raw, error: Exception) -> None:
        log.error("%s: message %d fails", self._feed.consumer, raw.seq, exc_info=error)
        rule = type(error).__name__
        rejected = services.Rejected(raw, "handler", f"{rule}: {error}", rule)
        with transaction.atomic():
            services.quarantine(rejected=[rejected], limited=False)  # its bytes are all there is to mend it with
            marks.receive([raw])

    def _report(self, error: Exception) -> None:
        """Log an outage once, and give the connection back: it may be broken."""
        if not self._outage:
            self._outage = True
            cause = error.__cause__ if isinstance(error, django.db.Error) else error
            remedy = REMEDIES.get(getattr(cause, "sqlstate", None), "")
            log.warning("%s waits: %s %s", self._feed.consumer, str(error).strip(), remedy)
        connection.close()


def is_outage(error: Exception) -> bool:
    """Say whether a failure is the database's (or the lease bucket's) and not the message's."""
    if isinstance(error, LeasesUnavailableError):
        return True
    cause = error.__cause__ if isinstance(error, django.db.Error) else error
    if isinstance(cause, psycopg.DataError | psycopg.IntegrityError):
        return False
    if isinstance(cause, psycopg.Error):
        return not (cause.sqlstate or "").startswith(PROGRAM_LIMIT)
    return isinstance(error, django.db.InterfaceError | django.db.OperationalError)
