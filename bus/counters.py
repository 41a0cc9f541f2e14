"""What the processes count, summed in the database so that `/metrics` of any process shows the whole.

`add` costs a dictionary entry; a thread (or whoever calls `flush`) adds the sums to the table once a second
in a transaction of its own. What a killed process had not flushed is not counted: these are gauges of
operation, the facts are elsewhere.
"""

import logging
import threading
from collections import Counter as Sums

from django.db import DatabaseError, InterfaceError, connection

from bus import models

log = logging.getLogger("bus.counters")

INTERVAL_SECONDS = 1.0
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


def start() -> threading.Event:
    """Flush once a second in a daemon thread, for the life of the process; set the event to end it."""
    ended = threading.Event()
    threading.Thread(target=_run, args=[ended], name="counters", daemon=True).start()
    return ended


def _run(ended: threading.Event) -> None:
    last = False
    while not last:
        last = ended.wait(INTERVAL_SECONDS)
        try:
            flush()
        except (DatabaseError, InterfaceError) as error:
            connection.close()
            log.debug("Counters wait for the database: %s", error)
    connection.close()
