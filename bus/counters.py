"""What the processes count, summed in the database so that `/metrics` of any process shows the whole.

`add` costs a dictionary entry; a thread (or whoever calls `flush`) adds the sums to the table once a second
in a transaction of its own. What a killed process had not flushed is not counted: these are gauges of
operation, the facts are elsewhere.
"""

import logging
import threading
from collections import Counter as Sums
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import DatabaseError, InterfaceError, connection

from bus import models

log = logging.getLogger("bus.counters")

INTERVAL_SECONDS = 1.0
LAST_FLUSH_SECONDS = 3.0
"""A process that ends waits no longer for a database that hangs."""
Labels = tuple[tuple[str, str], ...]

_lock = threading.Lock()
_pending: Sums[tuple[str, Labels]] = Sums()


def add(name: str, n: int = 1, **labels: str) -> None:
    """Count `n` more under `name` and labels. Labels come from fixed sets, never from a message's content."""
    key = (name, tuple(sorted(labels.items())))
    with _lock:
        _pending[key] += n


def flush() -> None:
    """Add what was counted since the last flush to the table. Raises DatabaseError, and then keeps it."""
    with _lock:
        taken = dict(_pending)
        _pending.clear()
    try:
        models.Counter.objects.add(
            {(name, labels): n for (name, labels), n in sorted(taken.items()) if n}  # one order: no deadlock
        )
    except BaseException:
        with _lock:
            _pending.update(taken)
        raise


@contextmanager
def counting() -> Iterator[None]:
    """Flush once a second in a thread, and once more at the end."""
    ended = threading.Event()
    thread = threading.Thread(target=_run, args=[ended], name="counters", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(LAST_FLUSH_SECONDS)


def _run(ended: threading.Event) -> None:
    last = failing = False
    while not last:
        last = ended.wait(INTERVAL_SECONDS)
        try:
            flush()
            failing = False
        except (DatabaseError, InterfaceError) as error:
            log.log(logging.DEBUG if failing else logging.WARNING, "Counters wait for the database: %s", error)
            failing = True
        finally:
            connection.close()  # back to the pool, which has fewer than there are threads
